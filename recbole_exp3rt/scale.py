"""Rating scales: the levels, the labels that a model writes for them, and expected ratings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property

MOST_LEVELS = 101  # every rating scores one label for each level


class MissingLabel(ValueError):
    """A label of the scale has no log-probability."""


@dataclass(frozen=True)
class RatingScale:
    """The levels of a rating, in rating units; the model writes `levels[k]` as `labels[k]`.

    IMDB's 1..10 has the labels 0..9, so that every label is one digit; 1..5 has the labels 1..5
    (paper, Table 12). The levels are `step` apart: half stars are 0.5, 1.0 … 5.0.

    Raises: ValueError if the levels do not increase, or labels and levels do not match.
    """

    levels: tuple[float, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.levels) < 2 or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"rating levels {self.levels} are not at least two increasing numbers")
        if len(self.labels) != len(self.levels) or len(set(self.labels)) != len(self.labels):
            raise ValueError(
                f"labels {self.labels} are not one different label for each of {self.levels}"
            )

    @classmethod
    def between(cls, lowest: float, highest: float, step: float = 1) -> RatingScale:
        """The scale from `lowest` to `highest` in steps of `step`, in exact decimals.

        Labels: up to ten whole levels that reach 10 or more get the labels 0, 1, 2 …; every other
        level is its own label. All labels have the same number of decimals, so that no label is
        the beginning of another one only because it is shorter.

        Raises: ValueError if the steps do not end at `highest`, or give over MOST_LEVELS levels.
        """
        first, last, apart = _exact(lowest), _exact(highest), _exact(step)
        if apart <= 0 or not first < last:
            raise ValueError(f"there are no levels from {lowest} to {highest} in steps of {step}")
        try:
            steps, rest = divmod(last - first, apart)
        except InvalidOperation:  # the number of steps has more digits than a Decimal
            steps, rest = Decimal(MOST_LEVELS), Decimal(0)
        if steps >= MOST_LEVELS:
            wide = math.ceil((last - first) / (MOST_LEVELS - 1))
            raise ValueError(
                f"there are more than {MOST_LEVELS} levels from {lowest} to {highest} in steps of "
                f"{step}, which is more than a model can be asked about; give a larger step"
                + (f", such as {wide}" if wide > apart else "")
            )
        if rest:
            raise ValueError(f"steps of {step} from {lowest} on do not end at {highest}")
        exact = [first + k * apart for k in range(int(steps) + 1)]
        whole = all(level == int(level) for level in exact)
        levels = tuple(int(level) if whole else float(level) for level in exact)
        if whole and apart == 1 and last > 9 and len(levels) <= 10:
            return cls(levels, tuple(str(k) for k in range(len(levels))))
        places = 0 if whole else max(_places(first), _places(apart))
        return cls(levels, tuple(f"{level:.{places}f}" for level in exact))

    @property
    def lowest(self) -> float:
        """The lowest level, in rating units."""
        return self.levels[0]

    @property
    def highest(self) -> float:
        """The highest level, in rating units."""
        return self.levels[-1]

    @cached_property
    def step(self) -> float:
        """Distance between two neighbouring levels, in rating units."""
        step = float(_exact(self.levels[1]) - _exact(self.levels[0]))
        return int(step) if step == int(step) else step

    @property
    def setting(self) -> list[float]:
        """The setting `rating_scale`: [lowest, highest], and the step if it is not 1."""
        return [self.lowest, self.highest, *([] if self.step == 1 else [self.step])]

    @property
    def shift(self) -> float:
        """What is added to a label's number to get its level: 1 for IMDB, 0 for 1..5."""
        return self.levels[0] - float(self.labels[0])

    def label_of(self, rating: float) -> str:
        """Label of the level nearest to `rating`; a rating in the middle goes to the upper level.

        Raises: ValueError if the rating is outside the scale.
        """
        nearest = math.floor((rating - self.lowest) / self.step + 0.5)
        if not 0 <= nearest < len(self.levels):
            raise ValueError(f"rating {rating:g} is outside {self.lowest}–{self.highest}")
        return self.labels[nearest]

    def level_of(self, label: str) -> float:
        """The level, in rating units, that a label means. Raises: ValueError if it is unknown."""
        return self.levels[self.labels.index(label)]

    def level_from(self, rating: float) -> float:
        """The lowest level that is not below `rating`; `rating` is at most the highest level."""
        return next(level for level in self.levels if level >= rating)

    def is_level(self, rating: float) -> bool:
        """Whether `rating` is one of the levels, up to the rounding of single precision."""
        steps = (rating - self.lowest) / self.step
        near = 1e-6 * max(1.0, abs(rating)) / self.step
        return abs(steps - round(steps)) <= near and -near <= steps <= len(self.levels) - 1 + near

    def show_average(self, average: float) -> str:
        """An average rating as a prompt shows it: in the units of the labels.

        It has one decimal more than the labels and is never below the lowest label.
        """
        places = len(self.labels[0].partition(".")[2]) + 1
        shown = f"{max(average - self.shift, float(self.labels[0])):.{places}f}"
        return shown.removeprefix("-") if float(shown) == 0 else shown

    def farthest(self, rating: float) -> float:
        """The level farthest from `rating`; a pair without a prediction counts with it."""
        return max(self.levels, key=lambda level: abs(level - rating))


def between_levels(ratings: Iterable[float], scale: RatingScale) -> str | None:
    """A warning about ratings between the levels: how many, and a step that has all of them.

    None if every rating is a level.
    """
    counts = Counter(ratings)
    between = [rating for rating in counts if not scale.is_level(rating)]
    if not between:
        return None
    advice = "no usual step has a level for each"
    for step in (0.5, 0.25, 0.2, 0.1, 0.05):
        try:
            finer = RatingScale.between(scale.lowest, scale.highest, step)
        except ValueError:
            continue
        if all(map(finer.is_level, counts)):
            advice = f"give rating_scale={finer.setting}"
            break
    return (
        f"{sum(counts[rating] for rating in between):,} of {counts.total():,} ratings lie between "
        f"the levels of rating_scale={scale.setting}, such as {min(between):g}; a language model "
        f"is shown and taught the nearest level; {advice}"
    )


def _exact(number: float) -> Decimal:
    """The number by its decimal digits: 0.1 is exactly a tenth."""
    return Decimal(str(number))


def _places(number: Decimal) -> int:
    """Number of decimals, without zeros at the end."""
    exponent = number.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def label_probabilities(logp: Mapping[str, float], scale: RatingScale) -> dict[str, float]:
    """Label -> probability: softmax of `logp` over all labels of the scale.

    Raises: MissingLabel if a label has no log-probability.
    Paper: section 3.5.3.
    """
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


def modal_rating(logp: Mapping[str, float], scale: RatingScale) -> float:
    """The most probable level, in rating units; the lower one on a tie."""
    probabilities = label_probabilities(logp, scale)
    return scale.level_of(max(scale.labels, key=lambda label: probabilities[label]))


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one value."""
    return sum(values) / len(values)
