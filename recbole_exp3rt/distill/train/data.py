"""What a training reads: the examples of a folder of training data, and its card."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from recbole_exp3rt.distill.annotate.examples import Example, Parts, Task, read_examples
from recbole_exp3rt.distill.train.presets import TrainSettings
from recbole_exp3rt.errors import UsageError


def data_card(folder: Path) -> dict[str, Any]:
    """The card of training data; {} if there is none. Raises: UsageError if it is no JSON."""
    try:
        return dict(json.loads((folder / "card.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"{folder / 'card.json'} cannot be read ({error}); write it again"
        ) from None


def read(settings: TrainSettings) -> dict[Task, Parts]:
    """Task -> (train, valid) examples; a random sample with `train_rows` or `valid_rows`.

    Raises: UsageError for a folder or a line that cannot be used.
    """
    folder = Path(settings.data)
    found = read_examples(folder)
    for task in settings.tasks or ():
        if task not in found:
            raise UsageError(
                f"data {folder} has no {task}.train.jsonl; leave {task} out of tasks, or annotate "
                "again"
            )
    chosen: dict[Task, Parts] = {}
    for task, (train, valid) in found.items():
        if settings.tasks and task not in settings.tasks:
            continue
        for part, rows in (("train", train), ("valid", valid)):
            if not rows:
                raise UsageError(
                    f"data {folder} has no {part} example of {task}: too little data; annotate "
                    "more, or name the tasks without it"
                )
        chosen[task] = (
            _some(train, settings.train_rows, settings.seed),
            _some(valid, settings.valid_rows, settings.seed),
        )
    return chosen


def _some(rows: tuple[Example, ...], wanted: int | None, seed: int) -> tuple[Example, ...]:
    if wanted is None or wanted >= len(rows):
        return rows
    return tuple(rows[k] for k in sorted(Random(seed).sample(range(len(rows)), wanted)))
