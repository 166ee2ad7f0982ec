"""Whether one system is better than another on the same test rows: paired, by user.

Rows of one user are not independent, so whole users are drawn (cluster bootstrap) and whole users
change sides (permutation test). Systems with several seeds: seeds are drawn too. It knows
numbers by user, not where they come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
DRAWS = 10_000
LEVEL = 0.05
CHUNK = 4_000_000  # weights (draws x users) that are held at once


@dataclass(frozen=True, slots=True)
class Interval:
    """Where 95 of 100 draws have a value."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A difference of two systems, its 95 % interval, and p of no difference.

    `holm` is p corrected over all comparisons of its table; `star` says that it is below 0.05
    and the interval is on one side of 0.
    """

    difference: float
    low: float
    high: float
    p: float
    holm: float
    star: bool

    def __str__(self) -> str:
        return f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


class Drawable(Protocol):
    """A number of one system that can be taken again where users count more or less."""

    def drawn(self, weights: Array) -> Array:
        """Its value of each seed where user u counts weights[·, u] times: [draws, seeds]."""
        ...


class Paired(Drawable, Protocol):
    """A number of one system that can be compared with that of another on the same rows."""

    @property
    def values(self) -> Array:
        """The number of each seed: [seeds]."""
        ...

    def paired(self: S, other: S) -> tuple[S, S]:
        """Both with as many seeds. Raises: ValueError if seeds or rows do not match."""
        ...

    def swapped(self: S, other: S, users: Array) -> tuple[Array, Array]:
        """Both numbers where these users have changed sides: [draws, seeds] each.

        users: 1 for a user who has, else 0: [draws, users].
        """
        ...


S = TypeVar("S", bound=Paired)


@dataclass(frozen=True)
class OfSums:
    """A number made of sums over users, such as F1 or kappa.

    sums: [users, k]; formula: [draws, k] -> [draws], NaN where there is no value.
    """

    sums: Array
    formula: Callable[[Array], Array]

    @property
    def values(self) -> Array:
        """See Paired."""
        return np.asarray(self._of(self.sums.sum(axis=0)[None])[0])

    def drawn(self, weights: Array) -> Array:
        """See Drawable."""
        return self._of(weights @ self.sums)

    def paired(self, other: OfSums) -> tuple[OfSums, OfSums]:
        """See Paired."""
        if self.sums.shape != other.sums.shape:
            raise ValueError("the two systems are not measured on the same users")
        return self, other

    def swapped(self, other: OfSums, users: Array) -> tuple[Array, Array]:
        """See Paired."""
        moved = users @ (other.sums - self.sums)
        return self._of(self.sums.sum(axis=0) + moved), self._of(other.sums.sum(axis=0) - moved)

    def _of(self, sums: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.formula(sums)[:, None])


@dataclass(frozen=True)
class Measured:
    """One metric of one system, added up by user: a row for each seed.

    totals: [seeds, users]; counts: what they are divided by, rows of a user or 1: [seeds, users];
    `root`: the square root of the mean is taken, as RMSE does.
    """

    totals: Array
    counts: Array
    root: bool = False

    @classmethod
    def of(
        cls, values: Sequence[ArrayLike], users: Sequence[NDArray[np.intp]], n: int, *, root: bool
    ) -> Measured:
        """Of one value a row: `values` [seeds][rows], and the row's user as 0..n-1 in `users`.

        Raises: ValueError if they do not match.
        """
        arrays = [np.asarray(one, dtype=np.float64) for one in values]
        for one, index in zip(arrays, users, strict=True):
            if one.shape != index.shape or not len(one):
                raise ValueError(f"{len(one)} values for {len(index)} users' rows")
        totals = [np.bincount(i, one, minlength=n) for one, i in zip(arrays, users, strict=True)]
        counts = [np.bincount(i, minlength=n).astype(np.float64) for i in users]
        return cls(np.stack(totals), np.stack(counts), root)

    @property
    def values(self) -> Array:
        """The metric of each seed: [seeds]."""
        return self.metric(self.totals.sum(axis=1), self.counts.sum(axis=1))

    def drawn(self, weights: Array) -> Array:
        """The metric of each seed where user u counts weights[·, u] times: [draws, seeds]."""
        return self.metric(weights @ self.totals.T, weights @ self.counts.T)

    def metric(self, totals: Array, counts: Array) -> Array:
        """Of sums over users."""
        with np.errstate(invalid="ignore", divide="ignore"):  # no row drawn: NaN, left out
            means = totals / counts
        return np.sqrt(means) if self.root else means

    def paired(self, other: Measured) -> tuple[Measured, Measured]:
        """See Paired; one seed stands against each of several."""
        n = max(len(self.totals), len(other.totals))
        both = []
        for one in (self, other):
            if len(one.totals) not in (1, n):
                raise ValueError(
                    f"{len(self.totals)} and {len(other.totals)} seeds cannot be paired"
                )
            repeats = n if len(one.totals) == 1 else 1
            both.append(
                Measured(one.totals.repeat(repeats, 0), one.counts.repeat(repeats, 0), one.root)
            )
        if not np.array_equal(both[0].counts, both[1].counts):
            raise ValueError("the two systems are not measured on the same rows")
        return both[0], both[1]

    def swapped(self, other: Measured, users: Array) -> tuple[Array, Array]:
        """See Paired."""
        counts = self.counts.sum(axis=1)
        moved = users @ (other.totals - self.totals).T
        mine = self.metric(self.totals.sum(axis=1) + moved, counts)
        return mine, other.metric(other.totals.sum(axis=1) - moved, counts)


class Resampling:
    """Draws of users and seeds, the same for all that is measured on one set of users."""

    def __init__(self, n_users: int, *, draws: int = DRAWS, seed: int = 0) -> None:
        self.n_users = n_users
        self.draws = draws
        self.seed = seed

    def intervals(self, systems: Sequence[Drawable]) -> list[Interval]:
        """Of the mean over seeds of each, users and seeds drawn."""
        drawn: list[list[Array]] = [[] for _ in systems]
        for weights in self._weights():
            for parts, system in zip(drawn, systems, strict=True):
                parts.append(system.drawn(weights))
        return [_percentiles(self._over_seeds(np.concatenate(parts))) for parts in drawn]

    def compare(self, system: S, other: S) -> Comparison:
        """`system` minus `other`; see `compare_all`."""
        return self.compare_all([(system, other)])[0]

    def compare_all(self, pairs: Sequence[tuple[S, S]]) -> list[Comparison]:
        """Each first one minus its second, seed by seed; one seed stands against each of several.

        `holm` is p itself until `corrected` is called. Raises: ValueError if seeds or rows do
        not match.
        """
        pairs = [one.paired(other) for one, other in pairs]
        found = [float((one.values - other.values).mean()) for one, other in pairs]
        drawn: list[list[Array]] = [[] for _ in pairs]
        for weights in self._weights():
            for parts, (one, other) in zip(drawn, pairs, strict=True):
                parts.append(one.drawn(weights) - other.drawn(weights))
        reached = np.zeros(len(pairs), dtype=int)
        for swapped in self._swaps():
            for index, pair in enumerate(pairs):
                reached[index] += _as_large(*pair, found[index], swapped)
        intervals = [_percentiles(self._over_seeds(np.concatenate(parts))) for parts in drawn]
        values = ((1 + reached) / (1 + self.draws)).tolist()
        return [_judged(*one) for one in zip(found, intervals, values, values, strict=True)]

    def _over_seeds(self, drawn: Array) -> Array:
        """[draws, seeds] -> [draws]: the mean of as many seeds, drawn with replacement."""
        n = drawn.shape[1]
        if n == 1:
            return drawn[:, 0]
        chosen = np.random.default_rng([self.seed, 1]).integers(n, size=(len(drawn), n))
        return np.asarray(np.take_along_axis(drawn, chosen, axis=1).mean(axis=1))

    def _weights(self) -> Iterator[Array]:
        """How often each user is drawn: [some draws, users], `draws` in all."""
        chance = np.random.default_rng([self.seed, 0])
        even = np.full(self.n_users, 1 / self.n_users)
        for some in self._chunks():
            yield chance.multinomial(self.n_users, even, size=some).astype(np.float64)

    def _swaps(self) -> Iterator[Array]:
        """Which users swap: 0 or 1, [some draws, users], `draws` in all."""
        chance = np.random.default_rng([self.seed, 2])
        for some in self._chunks():
            yield chance.integers(2, size=(some, self.n_users), dtype=np.int8).astype(np.float64)

    def _chunks(self) -> Iterator[int]:
        most, left = max(1, CHUNK // max(1, self.n_users)), self.draws
        while left > 0:
            yield min(most, left)
            left -= most


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for the number of tests (Holm 1979), in the given order."""
    n, largest = len(values), 0.0
    corrected = [0.0] * n
    for rank, index in enumerate(np.argsort(values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (n - rank) * values[index]))
        corrected[index] = largest
    return corrected


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons of one table with `holm` over all of them, and `star` by it."""
    return [
        _judged(one.difference, Interval(one.low, one.high), one.p, p)
        for one, p in zip(comparisons, holm([one.p for one in comparisons]), strict=True)
    ]


def rmse_difference(
    errors: ArrayLike, others: ArrayLike, users: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> Comparison:
    """RMSE of `errors` minus RMSE of `others` on the same rows.

    errors, others: predicted minus true rating [rows], or [seeds, rows] for several runs; users:
    whose row it is [rows]. Raises: ValueError if the rows do not match.
    """
    names, index = np.unique(np.asarray(users), return_inverse=True)
    mine, its = (np.atleast_2d(np.asarray(one, dtype=np.float64)) ** 2 for one in (errors, others))
    measured = [
        Measured.of(list(some), [index] * len(some), len(names), root=True) for some in (mine, its)
    ]
    return Resampling(len(names), draws=draws, seed=seed).compare(*measured)


def _as_large(one: S, other: S, difference: float, swapped: Array) -> int:
    """In how many draws the difference is at least as large if these users swap the systems.

    A draw without a value counts too: it says nothing against chance.
    """
    mine, its = one.swapped(other, swapped)
    return int((~(np.abs((mine - its).mean(axis=1)) < abs(difference) - 1e-12)).sum())


def _judged(difference: float, interval: Interval, p: float, corrected_p: float) -> Comparison:
    one_side = interval.low > 0 or interval.high < 0
    star = corrected_p < LEVEL and one_side
    return Comparison(difference, interval.low, interval.high, p, corrected_p, star)


def _percentiles(values: Array) -> Interval:
    if np.isnan(values).all():
        return Interval(math.nan, math.nan)
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))
