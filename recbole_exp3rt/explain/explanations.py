"""The explanations that runs wrote, side by side on the same pairs of user and item.

A source is the result file of a run (`--result_file`, with `--explanations=100` cases in it), or
a table with user_id, item_id, text and perhaps system: what `--export_dir` writes as
`explanations.parquet`, or what another program wrote. Nothing is asked here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.results import Case, Results

OWN = "EXP3RT"  # whose explanation is the rationale of a case
TABLES = (".parquet", ".csv", ".jsonl")
# Explainers that write by a rule -> the steps of EXP3RT whose bullets they write down
RULES: Mapping[str, tuple[str, ...]] = {
    "Template": ("preferences", "profiles"),
    "Popular": ("preferences",),
    "SimilarUser": (),
}
Pair = tuple[str, str]
Lists = Mapping[str, Sequence[str]]  # likes, dislikes


@dataclass(frozen=True)
class ExplainedPair:
    """A user, an item, what is known of both, and what each system said.

    `texts` maps a system to its explanation, `predicted` to its rating, where it gave one. What is
    not known is empty or None: a profile, the description, the rating and the review that the user
    wrote and that no system has seen.
    """

    user: str
    item: str
    title: str = ""
    rating: float | None = None
    review: str = ""
    user_profile: Lists = field(default_factory=dict)
    item_profile: Lists = field(default_factory=dict)
    description: Sequence[tuple[str, str]] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    predicted: Mapping[str, float] = field(default_factory=dict)

    @property
    def pair(self) -> Pair:
        """User and item."""
        return self.user, self.item


@dataclass(frozen=True)
class Explanations:
    """Pairs that every system has explained.

    writers: system -> identities of the models behind it: what wrote its texts, and the teachers
    that it learned from. found: system -> pairs that it has explained, in all. shared: the pairs
    that all of them have explained, of which `pairs` are a sample.
    """

    dataset: str
    split_digest: str
    systems: tuple[str, ...]
    pairs: tuple[ExplainedPair, ...]
    writers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    found: Mapping[str, int] = field(default_factory=dict)
    shared: int = 0

    @property
    def users(self) -> list[str]:
        """The user of each pair: [n_pairs]."""
        return [one.user for one in self.pairs]

    def texts(self, system: str) -> list[str]:
        """What a system said of each pair: [n_pairs]."""
        return [one.texts[system] for one in self.pairs]


@dataclass(frozen=True)
class Source:
    """What one file holds: pairs, each with the texts of its systems."""

    name: str
    dataset: str
    split_digest: str
    pairs: Mapping[Pair, ExplainedPair]
    writers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def systems(self) -> list[str]:
        """The systems with at least one text, in the order of the file."""
        return list(dict.fromkeys(name for one in self.pairs.values() for name in one.texts))

    def renamed(self, new: Mapping[str, str]) -> Source:
        """The same, with other names of systems."""

        def keyed(values: Mapping[str, Any]) -> dict[str, Any]:
            return {new.get(name, name): value for name, value in values.items()}

        pairs = {
            key: replace(one, texts=keyed(one.texts), predicted=keyed(one.predicted))
            for key, one in self.pairs.items()
        }
        return replace(self, pairs=pairs, writers=keyed(self.writers))


def read_explanations(
    files: Sequence[str],
    n: int | None = None,
    *,
    seed: int = 0,
    systems: Sequence[str] = (),
    least: int = 1,
) -> Explanations:
    """The explanations of `FILE` or `NAME=FILE`, on pairs that all systems have explained.

    n: how many pairs are drawn, at random by `seed`; None: all. systems: those that are kept, in
    this order; empty: all. least: how many systems there have to be.
    `NAME=` renames the system of a file. Two files with another text of the same system get their
    file's name behind it.
    Raises: UsageError for a file without explanations, files of other data or splits, an unknown
    system, too few systems, or no pair that all have explained.
    """
    sources = _distinct([_read(file) for file in files])
    _check_same_data(sources)
    pairs = _joined(sources)
    names = list(dict.fromkeys(name for one in sources for name in one.systems))
    if unknown := [name for name in systems if name not in names]:
        raise UsageError(f"no explanation of {unknown[0]} there; there are {', '.join(names)}")
    names = list(systems) or names
    if len(names) < least:
        raise UsageError(
            f"explanations of {', '.join(names)} alone, {least} systems are needed: name another "
            "run, or run with --explainer=NAME"
        )
    shared = sorted(key for key, one in pairs.items() if all(name in one.texts for name in names))
    found = {name: sum(name in one.texts for one in pairs.values()) for name in names}
    if not shared:
        counts = ", ".join(f"{name} {number}" for name, number in found.items())
        raise UsageError(f"no pair of user and item is explained by all systems ({counts} pairs)")
    if n is not None and n < len(shared):
        drawn = np.random.default_rng(seed).choice(len(shared), size=n, replace=False)
        chosen = [shared[index] for index in sorted(drawn.tolist())]
    else:
        chosen = shared
    kept = tuple(
        replace(pairs[key], texts={name: pairs[key].texts[name] for name in names})
        for key in chosen
    )
    writers = {name: _all(one.writers.get(name, ()) for one in sources) for name in names}
    dataset = next((one.dataset for one in sources if one.dataset), "")
    digest = next((one.split_digest for one in sources if one.split_digest), "")
    return Explanations(dataset, digest, tuple(names), kept, writers, found, len(shared))


def of_results(results: Results) -> Source:
    """The explanations in the cases of a result file."""
    rated = results.rated
    tested = zip(rated.users, rated.items, strict=True) if rated else ()
    rows = {pair: row for row, pair in enumerate(tested)}
    pairs: dict[Pair, ExplainedPair] = {}
    for case in results.cases:
        row = rows.get((case.user, case.item))
        predicted = {}
        if rated is not None and row is not None:
            predicted = {name: float(values[row]) for name, values in rated.predicted.items()}
        if case.expected is not None:
            predicted[OWN] = case.expected
        pairs[case.user, case.item] = _of_case(case, predicted)
    return Source(
        results.source, results.dataset, results.split_digest, pairs, _writers(results.about)
    )


def _of_case(case: Case, predicted: Mapping[str, float]) -> ExplainedPair:
    texts = {OWN: case.rationale, **case.texts}
    return ExplainedPair(
        case.user,
        case.item,
        case.title or case.item,
        case.rating,
        case.review,
        case.user_profile,
        case.item_profile,
        tuple(case.description),
        {name: text.strip() for name, text in texts.items() if text and text.strip()},
        {name: value for name, value in predicted.items() if not math.isnan(value)},
    )


def _writers(about: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """System -> the models behind its texts: who writes, and who taught it."""
    steps, systems = about.get("steps") or {}, about.get("systems") or {}
    taught = about.get("teachers") or []
    found: dict[str, tuple[str, ...]] = {}
    for name, identity in dict(systems).items():
        found[str(name)] = (str(identity),)
    for name, read in RULES.items():
        found[name] = tuple(dict.fromkeys(str(steps[one]) for one in read if one in steps))
    if own := [*dict(steps).values(), *taught]:
        found[OWN] = tuple(dict.fromkeys(map(str, own)))
    return found


def _read(file: str) -> Source:
    """The source of `FILE` or `NAME=FILE`. Raises: UsageError."""
    name, equals, path = file.partition("=")
    if not equals or Path(file).is_file():
        name, path = "", file
    source, model = _of_file(path)
    if not source.systems:
        raise UsageError(
            f"{path} has no explanations: run with --result_file=FILE --explanations=100, and a "
            "model or an --explainer that explains"
        )
    if not name:
        return source
    own = model if model in source.systems else source.systems[0]
    if len(source.systems) > 1 and model not in source.systems:
        raise UsageError(
            f"{path} has {len(source.systems)} systems ({', '.join(source.systems)}), so one name "
            "does not say which is meant; leave NAME= out"
        )
    return source.renamed({own: name})


def _of_file(path: str) -> tuple[Source, str]:
    """What a file holds, and the model of its run."""
    if Path(path).suffix in TABLES:
        return _of_table(Path(path)), ""
    results = Results.read(path)
    return of_results(results), str(results.about.get("model", ""))


def _of_table(path: Path) -> Source:
    """A table of texts, one line a pair and system. Raises: UsageError if it is none."""
    import pandas as pd

    readers = {
        ".parquet": pd.read_parquet,
        ".csv": lambda file: pd.read_csv(file, dtype=str, keep_default_na=False),
        ".jsonl": lambda file: pd.read_json(file, lines=True, dtype=False),
    }
    try:
        table = readers[path.suffix](path)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if missing := [name for name in ("user_id", "item_id", "text") if name not in table]:
        raise UsageError(f"{path} has no column {missing[0]}; it has {', '.join(table.columns)}")
    pairs: dict[Pair, ExplainedPair] = {}
    for line in table.to_dict("records"):
        key = str(line["user_id"]), str(line["item_id"])
        one = pairs.setdefault(key, ExplainedPair(*key, title=_text(line, "title") or key[1]))
        if text := _text(line, "text"):
            texts = {**one.texts, (_text(line, "system") or path.stem): text}
            pairs[key] = replace(one, texts=texts, review=one.review or _text(line, "review"))
    return Source(path.stem, "", "", pairs)


def _text(line: Mapping[Any, Any], key: str) -> str:
    value = line.get(key)
    return "" if value is None or value != value else str(value).strip()  # NaN is not NaN


def _distinct(sources: Sequence[Source]) -> list[Source]:
    """Systems of one name but with other texts get other names: that of the file behind theirs."""
    found: list[Source] = []
    for source in sources:
        new = {
            name: f"{name} ({source.name})"
            for name in source.systems
            if any(_differ(source, other, name) for other in found)
        }
        taken = Counter(name for other in found for name in other.systems)
        for name, other_name in new.items():
            number = 2
            while new[name] in taken:
                new[name], number = f"{other_name[:-1]} {number})", number + 1
        found.append(source.renamed(new))
    return found


def _differ(one: Source, other: Source, name: str) -> bool:
    """Whether two files have another text of a system for any pair that both have."""
    return any(
        name in here.texts and name in there.texts and here.texts[name] != there.texts[name]
        for key, here in one.pairs.items()
        if (there := other.pairs.get(key))
    )


def _check_same_data(sources: Sequence[Source]) -> None:
    for what in ("dataset", "split_digest"):
        values = {value: one for one in sources if (value := getattr(one, what))}
        if len(values) > 1:
            first, second = list(values.values())[:2]
            raise UsageError(
                f"{first.name} is of {what.removesuffix('_digest')} {getattr(first, what):.12}, "
                f"{second.name} of {getattr(second, what):.12}; explanations are compared on the "
                "same data"
            )


def _joined(sources: Sequence[Source]) -> dict[Pair, ExplainedPair]:
    """Each pair with the texts of all files; what is known of it is of the first that knows it."""
    pairs: dict[Pair, ExplainedPair] = {}
    for source in sources:
        for key, new in source.pairs.items():
            old = pairs.get(key)
            if old is None:
                pairs[key] = new
                continue
            known = {
                name: getattr(old, name) or getattr(new, name)
                for name in ("review", "user_profile", "item_profile", "description")
            }
            pairs[key] = replace(
                old,
                **known,
                title=new.title if old.title == old.item else old.title,
                rating=new.rating if old.rating is None else old.rating,
                texts={**new.texts, **old.texts},
                predicted={**new.predicted, **old.predicted},
            )
    return pairs


def _all(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))
