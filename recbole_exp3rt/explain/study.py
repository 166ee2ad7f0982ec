"""A study with people: explanations of two systems side by side, blinded, by five criteria.

`tasks_of` makes the comparisons. Which text is of which system stands in the key alone, not in what
raters get: a task has the sides x and y, drawn for each task. What is shown left and right, and in
which order, is drawn for each rater. `study_forms.py` writes what raters see.
Source: the paper's section 4.4 and Appendix C (100 pairs, three judges, five criteria).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.explain.explanations import Explanations

KEY = "key.json"
Side = Literal["x", "y"]
SIDES: tuple[Side, Side] = ("x", "y")


@dataclass(frozen=True)
class Task:
    """One comparison as raters see it: what is known, and two texts without names."""

    id: str
    title: str
    description: Sequence[tuple[str, str]]
    user: Mapping[str, Sequence[str]]
    item: Mapping[str, Sequence[str]]
    texts: Mapping[str, str]  # x, y


@dataclass(frozen=True)
class Hidden:
    """What a task is about, and which system each side is of: for the report alone."""

    user: str
    item: str
    x: str
    y: str


@dataclass(frozen=True)
class Study:
    """A study: its tasks, and their key. `id` is a digest of what raters see."""

    id: str
    dataset: str
    criteria: tuple[str, ...]
    systems: tuple[str, ...]
    tasks: tuple[Task, ...]
    key: Mapping[str, Hidden]
    seed: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)

    def key_json(self) -> str:
        """What `read_key` reads: no explanation, but who wrote which."""
        body = {
            "study": self.id,
            "dataset": self.dataset,
            "criteria": self.criteria,
            "systems": self.systems,
            "seed": self.seed,
            **self.about,
            "tasks": {name: asdict(one) for name, one in self.key.items()},
        }
        return json.dumps(body, indent=1, ensure_ascii=False, default=str) + "\n"


@dataclass(frozen=True)
class Key:
    """The key of a study: criteria, systems, and what each task hides."""

    study: str
    dataset: str
    criteria: tuple[str, ...]
    systems: tuple[str, ...]
    tasks: Mapping[str, Hidden]
    seed: int = 0


def study_of(
    explanations: Explanations,
    criteria: Sequence[str],
    *,
    seed: int,
    all_pairs: bool = False,
    about: Mapping[str, Any] | None = None,
) -> Study:
    """The first system against each other one (or each against each) on all pairs.

    Sides and the order of tasks are drawn by `seed`. Two equal texts make no task: nobody can
    prefer one of them.
    """
    draw = random.Random(seed)
    names, tasks, key = explanations.systems, [], {}
    duels = [
        (one, other, pair)
        for number, one in enumerate(names)
        if all_pairs or number == 0
        for other in names[number + 1 :]
        for pair in explanations.pairs
        if pair.texts[one].split() != pair.texts[other].split()
    ]
    draw.shuffle(duels)
    for number, (one, other, pair) in enumerate(duels, 1):
        x, y = draw.sample((one, other), 2)
        name = f"t{number:04d}"
        texts = {"x": pair.texts[x], "y": pair.texts[y]}
        tasks.append(
            Task(name, pair.title, pair.description, pair.user_profile, pair.item_profile, texts)
        )
        key[name] = Hidden(pair.user, pair.item, x, y)
    seen = json.dumps([asdict(task) for task in tasks], sort_keys=True, default=str)
    return Study(
        sha256(seen.encode("utf-8", "replace")).hexdigest()[:12],
        explanations.dataset,
        tuple(criteria),
        names,
        tuple(tasks),
        key,
        seed,
        about or {},
    )


def read_key(path: str | Path) -> Key:
    """The key of a study, of its file or folder. Raises: UsageError if it is none."""
    file = Path(path) / KEY if Path(path).is_dir() else Path(path)
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        return Key(
            str(body["study"]),
            str(body["dataset"]),
            tuple(map(str, body["criteria"])),
            tuple(map(str, body["systems"])),
            {str(name): Hidden(**one) for name, one in body["tasks"].items()},
            int(body.get("seed", 0)),
        )
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}; name the study's folder"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{file} is no key of a study ({error}); exp3rt study writes one"
        ) from None
