"""Similar users out of arrays: what `similarity.py` defines, for many pairs of a large data set.

All pairs of one item are answered together. The rows of the users who rated the item are read once
and sorted by item, so a pair costs no more than the ratings that its user has in common with them.
The answers are those of `similarity.similarity`, ties included: sums of floating-point numbers are
used only where they cannot change a rounded similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recbole_exp3rt.stages.similarity import DIGITS, centre, similarity

AT_ONCE = 4_000_000  # rows that are read in one piece: about 150 MB
UNIT = 10.0**DIGITS
Ids = NDArray[Any]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rater:
    """One user: rated items, [n], and R' of them, [n], as in `similarity.centred`."""

    user: int
    items: Ids
    offsets: Numbers

    def of(self, items: Ids) -> dict[str, float]:
        """Item -> R' of those of `items` that the user rated."""
        both = np.isin(self.items, items)
        found = zip(self.items[both].tolist(), self.offsets[both].tolist(), strict=True)
        return {str(item): offset for item, offset in found}


class RatingTable:
    """Train ratings by user, in arrays. Users and items are numbers from 0; a pair occurs once.

    Users are numbered in the order in which equally similar users are ranked.
    """

    def __init__(self, users: Ids, items: Ids, ratings: NDArray[Any]) -> None:
        """Three arrays, [n_rows]; ratings in rating units."""
        order = np.argsort(users, kind="stable")
        counts = np.bincount(users)
        self.starts = np.concatenate([[0], np.cumsum(counts)])  # [n_users + 1]
        self.items = np.asarray(items, dtype=np.int32)[order]
        self.ratings = np.asarray(ratings)[order]
        self.n_items = int(self.items.max(initial=-1)) + 1
        means = np.bincount(users, ratings) / np.maximum(counts, 1)
        self.offsets = _rounded(self.ratings - np.repeat(means, counts))

    def rater(self, user: int, without: int | None = None) -> Rater:
        """A user; the rating of the item `without` counts neither as a row nor in the mean."""
        rows = slice(self.starts[user], self.starts[user + 1])
        items, offsets = self.items[rows], self.offsets[rows]
        if without is not None and (kept := items != without).sum() < len(items):
            items, offsets = items[kept], np.array(centre(self.ratings[rows][kept].tolist()))
        return Rater(user, items, offsets)

    def nearest(self, asked: Sequence[Rater], raters: Ids, n: int) -> list[Ids]:
        """The `n` users of `raters` most similar to each of `asked`, best first.

        `raters`: the users who rated one item, ascending, each once. A user is not similar to
        itself. At equal similarities the user with more items in common wins, then the smaller
        number. Time is linear in the rows of `raters`, and in the rows that each of `asked` has in
        common with them.
        """
        if not len(asked):
            return []
        columns = np.unique(np.concatenate([one.items for one in asked]))
        by_item = self._common(raters, columns)
        return [self._nearest(one, raters, columns, by_item, n) for one in asked]

    def _common(self, raters: Ids, columns: Ids) -> sp.csc_matrix:
        """R' of `raters` for the items `columns`: sparse [n_raters, n_columns], zeros kept."""
        place_of = np.full(self.n_items, -1, dtype=np.int32)
        place_of[columns] = np.arange(len(columns))
        sizes = self.starts[raters + 1] - self.starts[raters]
        offsets, places, counts = [], [], []
        for piece in _pieces(sizes):
            rows = _ranges(self.starts[raters[piece]], sizes[piece])
            found = place_of[self.items[rows]]
            kept = np.flatnonzero(found >= 0)
            offsets.append(self.offsets[rows[kept]])
            places.append(found[kept])
            owner = np.repeat(np.arange(len(sizes[piece])), sizes[piece])
            counts.append(np.bincount(owner[kept], minlength=len(sizes[piece])))
        starts = np.concatenate([[0], *counts]).cumsum()
        content = (np.concatenate(offsets), np.concatenate(places), starts)
        return sp.csr_matrix(content, (len(raters), len(columns))).tocsc()

    def _nearest(
        self, one: Rater, raters: Ids, columns: Ids, by_item: sp.csc_matrix, n: int
    ) -> Ids:
        """The `n` of `raters` that are most similar to one user, best first."""
        size = len(raters)
        place = np.searchsorted(columns, one.items)
        counts = by_item.indptr[place + 1] - by_item.indptr[place]
        cells = _ranges(by_item.indptr[place], counts)
        rater, theirs = by_item.indices[cells], by_item.data[cells]
        own = np.repeat(one.offsets, counts)
        common = np.bincount(rater, minlength=size)
        norms = np.sqrt(np.bincount(rater, own**2, size) * np.bincount(rater, theirs**2, size))
        alike = np.zeros(size)
        np.divide(np.bincount(rater, own * theirs, size), norms, out=alike, where=norms > 0)
        units = alike * UNIT
        level = np.rint(units)
        # The sums are exact to `common` roundings. Nearer to a half than that, the exact formula
        # says to which side it rounds.
        unsure = np.abs(np.abs(units - level) - 0.5) < 1e-6 * (1 + common)
        for k in np.flatnonzero(unsure).tolist():
            exact, _ = similarity(one.of(self.items), self._rater_of(int(raters[k]), one.items))
            level[k] = round(exact * UNIT)
        key = (level.astype(np.int64) << 31) + common  # by similarity, then by items in common
        key[np.flatnonzero(raters == one.user)] = NEVER
        return raters[_best(key, n)]

    def _rater_of(self, user: int, items: Ids) -> dict[str, float]:
        return self.rater(user).of(items)


NEVER = np.iinfo(np.int64).min


def _best(key: NDArray[np.int64], n: int) -> Ids:
    """Places of the `n` largest keys, largest first, then by place; without NEVER."""
    chosen = np.arange(len(key))
    if len(key) > n:
        least = np.partition(key, len(key) - n)[len(key) - n]
        chosen = np.flatnonzero(key >= least)
    chosen = chosen[key[chosen] != NEVER]
    best: Ids = chosen[np.argsort(-key[chosen], kind="stable")[:n]]
    return best


def _rounded(values: Numbers) -> Numbers:
    """As Python's `round(value, DIGITS)`, which rounds the decimal number and not a product."""
    units = values * UNIT
    rounded: Numbers = np.rint(units)
    unsure = np.flatnonzero(np.abs(np.abs(units - rounded) - 0.5) < 1e-6 * (1 + np.abs(values)))
    rounded /= UNIT
    rounded[unsure] = [round(value, DIGITS) for value in values[unsure].tolist()]
    return rounded


def _ranges(starts: Ids, sizes: Ids) -> Ids:
    """The numbers from each start on, as many as its size, one range after the other."""
    before = np.cumsum(sizes) - sizes
    places: Ids = np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)
    return places


def _pieces(sizes: Ids) -> list[slice]:
    """Slices of users with about AT_ONCE rows each; at least one slice."""
    ends = np.cumsum(sizes)
    cuts = np.searchsorted(ends, np.arange(AT_ONCE, int(sizes.sum()), AT_ONCE)).tolist()
    return [slice(a, b) for a, b in zip([0, *cuts], [*cuts, len(sizes)], strict=True)]
