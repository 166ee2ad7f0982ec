"""Rating levels and the labels a model writes for them. Values, no data-set branches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class MissingLabel(ValueError):
    """A label of the scale has no log-probability."""


@dataclass(frozen=True, slots=True)
class RatingScale:
    """`levels[k]`, in rating units, is written by the model as `labels[k]`.

    IMDB's 1..10 is written 0..9, so that every label is one digit; 1..5 is written as it is
    (paper, Table 12).
    """

    levels: tuple[int, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.levels) < 2 or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"rating levels {self.levels} are not at least two increasing numbers")
        if len(self.labels) != len(self.levels) or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels {self.labels} do not stand one for one for {self.levels}")

    @classmethod
    def between(cls, lowest: int, highest: int) -> RatingScale:
        """The whole levels of `lowest..highest`; levels of two digits are shown from 0 on."""
        levels = tuple(range(lowest, highest + 1))
        first = 0 if highest > 9 and len(levels) <= 10 else lowest
        return cls(levels, tuple(str(first + k) for k in range(len(levels))))

    @property
    def lowest(self) -> int:
        return self.levels[0]

    @property
    def highest(self) -> int:
        return self.levels[-1]

    @property
    def shift(self) -> int:
        """Rating units minus shown units."""
        return self.levels[0] - int(self.labels[0])

    def label_of(self, rating: float) -> str:
        """Label of the level nearest to `rating`; halves go up."""
        nearest = math.floor(rating + 0.5)
        if nearest not in self.levels:
            raise ValueError(f"rating {rating:g} is outside {self.lowest}–{self.highest}")
        return self.labels[self.levels.index(nearest)]

    def level_of(self, label: str) -> int:
        return self.levels[self.labels.index(label)]

    def show_average(self, average: float) -> str:
        """An average as the prompt shows it: in shown units, one decimal, never below 0."""
        return f"{max(average - self.shift, 0.0):.1f}"

    def farthest(self, rating: float) -> int:
        """The level with the largest error against `rating`: what an unanswered pair counts as."""
        return max(self.levels, key=lambda level: abs(level - rating))


def label_probabilities(logp: Mapping[str, float], scale: RatingScale) -> dict[str, float]:
    """softmax over all labels of the scale. Raises MissingLabel. Paper: section 3.5.3."""
    missing = [label for label in scale.labels if label not in logp]
    if missing:
        raise MissingLabel(f"no log-probability for label {missing[0]!r} of {scale.labels}")
    top = max(logp[label] for label in scale.labels)
    weights = {label: math.exp(logp[label] - top) for label in scale.labels}
    total = sum(weights.values())
    return {label: weight / total for label, weight in weights.items()}


def expected_rating(logp: Mapping[str, float], scale: RatingScale) -> float:
    """Probability-weighted mean of the rating levels, in rating units.

    E[R] = sum_r r * softmax(logp)_r, over all labels of the scale.

    Raises: MissingLabel if a label has no log-probability.
    Paper: section 3.5.3, equation 2.
    """
    probabilities = label_probabilities(logp, scale)
    return sum(scale.level_of(label) * p for label, p in probabilities.items())


def modal_rating(logp: Mapping[str, float], scale: RatingScale) -> int:
    """The most probable level; the lower one on a tie."""
    probabilities = label_probabilities(logp, scale)
    return scale.level_of(max(scale.labels, key=lambda label: probabilities[label]))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
