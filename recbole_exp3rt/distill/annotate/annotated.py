"""What an annotator has made: examples, where they come from, and what was rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recbole_exp3rt.distill.annotate.examples import Parts, Task


@dataclass
class TaskCount:
    """Questions of one task, good answers, and rejected ones by reason."""

    asked: int = 0
    kept: int = 0
    rejected: dict[str, int] = field(default_factory=dict)  # reason -> how often


@dataclass(frozen=True)
class Annotated:
    """The examples of all tasks, and where they come from.

    `train_pairs` are digests of the interactions behind the train examples, see `DataCard`;
    `resampled` counts the questions asked again because an answer was rejected. `prior` is what
    anchors the ratings beside their examples' `bias`: `sigma`, in rating units; {}: no prior.
    """

    examples: Mapping[Task, Parts]
    train_pairs: Sequence[str]
    task_counts: Mapping[Task, TaskCount]
    rejected: Sequence[Mapping[str, Any]]
    resampled: int
    prior: Mapping[str, float]
