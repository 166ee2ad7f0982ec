"""What grounded explanations add up to: figures of each system, and differences of two systems.

Precision is the share of an explanation's statements that the review supports (St2Exp-P), recall
the share of the review's statements that the explanation supports (St2Exp-R), both averaged over
explanations; F1 is their harmonic mean (arXiv 2512.24366, section 4). Tone is the rank correlation
of an explanation's tone with the rating that its system predicts. 95 % intervals draw users. Two
systems are compared on the pairs where both have a value; Holm's correction is over all
differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from recbole_exp3rt.evaluator.significance import (
    DRAWS,
    Array,
    Comparison,
    Interval,
    Measured,
    OfSums,
    Paired,
    Resampling,
    corrected,
)
from recbole_exp3rt.explain.grounding import Grounded, GroundedText
from recbole_exp3rt.explain.statements import Statement
from recbole_exp3rt.explain.verdicts import Found, Verdict

METRICS = ("faithful", "unfaithful", "precision", "recall", "f1", "contradicted", "true", "tone")
COMPARED = ("faithful", "precision", "recall", "f1", "contradicted", "tone")
# What a metric is made of, row by row; each of the others is a mean of its own rows.
PARTS: Mapping[str, tuple[str, ...]] = {"f1": ("precision", "recall"), "tone": ("tone", "rating")}
LEAST_TONES = 3  # rows of a rank correlation
Rows = Mapping[str, Array]  # metric or part -> [pairs], NaN where a pair has none


@dataclass(frozen=True)
class Figure:
    """A number with its interval, None where it has none, over `n` explanations."""

    value: float
    interval: Interval | None
    n: int


@dataclass(frozen=True)
class SystemFigures:
    """What is measured of one system: metric -> figure.

    n: texts that were taken apart; users: whose they are; stated: statements in them.
    """

    system: str
    n: int
    users: int
    stated: int
    figures: Mapping[str, Figure] = field(default_factory=dict)

    @property
    def statements(self) -> float:
        """The mean number of statements of a text; NaN without a text."""
        return self.stated / self.n if self.n else math.nan


@dataclass(frozen=True)
class Difference:
    """A metric of `one` minus that of `other`, on the `n` pairs where both have it."""

    metric: str
    one: str
    other: str
    n: int
    users: int
    comparison: Comparison


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of x and y, [rows] each; users: whose row it is, as 0..n-1.

    It can be drawn and compared (`significance.Paired`). NaN where x or y is the same everywhere.
    """

    x: Array
    y: Array
    users: NDArray[np.intp]
    n: int

    @property
    def values(self) -> Array:
        """See Paired."""
        return np.asarray(self.drawn(np.ones((1, self.n)))[0])

    def drawn(self, weights: Array) -> Array:
        """See Drawable."""
        own = weights[:, self.users]  # [draws, rows]
        total = own.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            x, y = (
                ranks - (own * ranks).sum(axis=1, keepdims=True) / total
                for ranks in (_midranks(self.x, own), _midranks(self.y, own))
            )
            spread = (own * x * x).sum(axis=1) * (own * y * y).sum(axis=1)
            found = (own * x * y).sum(axis=1) / np.sqrt(spread)
        found[~(spread > 1e-9)] = np.nan
        return np.asarray(found[:, None])

    def paired(self, other: RankCorrelation) -> tuple[RankCorrelation, RankCorrelation]:
        """See Paired."""
        if not np.array_equal(self.users, other.users):
            raise ValueError("the two systems are not measured on the same rows")
        return self, other

    def swapped(self, other: RankCorrelation, users: Array) -> tuple[Array, Array]:
        """See Paired."""
        both = RankCorrelation(
            np.concatenate([self.x, other.x]),
            np.concatenate([self.y, other.y]),
            np.concatenate([self.users, other.users + self.n]),
            2 * self.n,
        )
        mine, its = np.hstack([1 - users, users]), np.hstack([users, 1 - users])
        return both.drawn(mine), both.drawn(its)


def _midranks(values: Array, weights: Array) -> Array:
    """Ranks where row r is there weights[·, r] times, ties sharing theirs: [draws, rows]."""
    levels, index = np.unique(values, return_inverse=True)
    mass = weights @ np.eye(len(levels))[index]  # [draws, levels]
    middle = np.cumsum(mass, axis=1) - (mass - 1) / 2
    return np.asarray(middle[:, index])


def measure(grounded: Grounded, *, draws: int = DRAWS, seed: int = 0) -> list[SystemFigures]:
    """The figures of each system."""
    return [
        _measured(system, texts, draws, seed) for system, texts in grounded.texts.items() if texts
    ]


def differences(
    grounded: Grounded, *, all_pairs: bool = False, draws: int = DRAWS, seed: int = 0
) -> list[Difference]:
    """The first system minus each other one (or each minus each later one), metric by metric."""
    names, found = list(grounded.texts), []
    rows = {name: rows_of(name, texts) for name, texts in grounded.texts.items()}
    users = np.array([one.pair.user for one in next(iter(grounded.texts.values()), ())])
    for metric in COMPARED:
        for number, one in enumerate(names):
            for other in names[number + 1 :] if all_pairs or number == 0 else ():
                there = _there(metric, rows[one]) & _there(metric, rows[other])
                if not there.any():
                    continue
                pair = [_statistic(metric, rows[name], users, there) for name in (one, other)]
                if any(np.isnan(each.values).any() for each in pair):
                    continue
                n_users = len(np.unique(users[there]))
                compared = Resampling(n_users, draws=draws, seed=seed).compare(*pair)
                n = int(there.sum())
                found.append(Difference(metric, one, other, n, n_users, compared))
    together = corrected([one.comparison for one in found])
    return [replace(one, comparison=each) for one, each in zip(found, together, strict=True)]


def rows_of(system: str, texts: Sequence[GroundedText]) -> Rows:
    """All that figures are made of, a row for each text."""
    values = {
        "faithful": [_share(_shown(one), "entailed") for one in texts],
        "unfaithful": [_share(_shown(one), "contradicted") for one in texts],
        "precision": [_share(_reviewed(one), "entailed") for one in texts],
        "recall": [_share([found for _, found in one.recalled or ()], "entailed") for one in texts],
        "contradicted": [_share(_reviewed(one), "contradicted") for one in texts],
        "true": [_true(one) for one in texts],
        "tone": [tone(checked.statement for checked in one.statements or ()) for one in texts],
        "rating": [one.pair.predicted.get(system, math.nan) for one in texts],
    }
    return {name: np.asarray(own, dtype=np.float64) for name, own in values.items()}


def mean_by_user(
    values: Sequence[float], users: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> Figure | None:
    """The mean of the values that are there, [rows], with an interval by user; None: none is."""
    rows = {"": np.asarray(values, dtype=np.float64)}
    return _figure("", rows, np.asarray(users), draws, seed)


def tone(statements: Iterable[Statement]) -> float:
    """Positive minus negative statements over both: -1 to 1; NaN where there is neither."""
    kinds = [one.sentiment for one in statements]
    good, bad = kinds.count("positive"), kinds.count("negative")
    return (good - bad) / (good + bad) if good + bad else math.nan


def _measured(system: str, texts: Sequence[GroundedText], draws: int, seed: int) -> SystemFigures:
    rows, users = rows_of(system, texts), np.array([one.pair.user for one in texts])
    figures = {
        name: figure for name in METRICS if (figure := _figure(name, rows, users, draws, seed))
    }
    cut = [one for one in texts if one.statements is not None]
    stated = sum(len(one.statements or ()) for one in cut)
    return SystemFigures(system, len(cut), len({one.pair.user for one in cut}), stated, figures)


def _figure(
    metric: str, rows: Rows, users: NDArray[np.str_], draws: int, seed: int
) -> Figure | None:
    """A metric with its interval; None where no row has it, or it is not defined."""
    parts = PARTS.get(metric, (metric,))
    if any(np.isnan(rows[part]).all() for part in parts):
        return None
    # F1 is made of two means, each of its own rows; a rank correlation needs both values of a row
    there = ~np.all([np.isnan(rows[part]) for part in parts], axis=0)
    if metric == "tone":
        there = _there(metric, rows)
    if not there.any():
        return None
    statistic = _statistic(metric, rows, users, there)
    (value,) = statistic.values
    if math.isnan(value):
        return None
    n_users = len(np.unique(users[there]))
    (interval,) = Resampling(n_users, draws=draws, seed=seed).intervals([statistic])
    return Figure(float(value), interval, int((~np.isnan(rows[parts[0]]) & there).sum()))


def _there(metric: str, rows: Rows) -> NDArray[np.bool_]:
    """The rows that have all that a metric is made of: [pairs]."""
    parts = PARTS.get(metric, (metric,))
    return np.asarray(~np.any([np.isnan(rows[part]) for part in parts], axis=0))


def _statistic(
    metric: str, rows: Rows, users: NDArray[np.str_], there: NDArray[np.bool_]
) -> Paired:
    """A metric over the rows that are `there`, ready to be drawn by user."""
    names, index = np.unique(users[there], return_inverse=True)
    own = [rows[part][there] for part in PARTS.get(metric, (metric,))]
    if metric == "tone":
        few = len(index) < LEAST_TONES
        tones = np.zeros_like(own[0]) if few else own[0]  # the same everywhere: NaN
        return RankCorrelation(tones, own[1], index, len(names))
    if metric == "f1":
        return OfSums(np.hstack([_sums(one, index, len(names)) for one in own]), _harmonic)
    return Measured.of([own[0]], [index], len(names), root=False)


def _sums(values: Array, users: NDArray[np.intp], n: int) -> Array:
    """Of each user, the sum of the values that are there and their number: [users, 2]."""
    there = ~np.isnan(values)
    total = np.bincount(users[there], values[there], minlength=n)
    return np.stack([total, np.bincount(users[there], minlength=n)], axis=1)


def _harmonic(sums: Array) -> Array:
    """2PR / (P + R), 0 where both are 0; sums: total and number of P, then of R: [draws, 4]."""
    precision, recall = sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]
    both = precision + recall
    return np.where(both == 0, 0.0, 2 * precision * recall / np.where(both == 0, 1.0, both))


def _shown(one: GroundedText) -> list[Found]:
    return [checked.shown for checked in one.statements or () if checked.shown]


def _reviewed(one: GroundedText) -> list[Found]:
    return [checked.review for checked in one.statements or () if checked.review]


def _share(found: Sequence[Found], verdict: Verdict) -> float:
    """The share of readable verdicts that are `verdict`; NaN where there is none."""
    read = [one.verdict for one in found if one.verdict is not None]
    return sum(one == verdict for one in read) / len(read) if read else math.nan


def _true(one: GroundedText) -> float:
    known = [checked.true for checked in one.statements or () if checked.true is not None]
    return sum(known) / len(known) if known else math.nan
