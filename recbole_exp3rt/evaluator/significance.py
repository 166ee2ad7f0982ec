"""Whether one predictor's errors are smaller than another's on the same rows: paired, by user.

Rows of one user are not independent, so whole users are drawn (cluster bootstrap). What it does
not know: where predictions come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference, and where 95 of 100 draws of users have it."""

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval is on one side of 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def rmse_difference(
    errors: ArrayLike, others: ArrayLike, users: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """RMSE of `errors` minus RMSE of `others`, with its percentile interval over users.

    errors, others: predicted minus true rating of the same rows [n]; users: whose row it is [n].
    For several runs (seeds) of a predictor on the same rows, give errors as [runs, n]: the mean of
    the runs' RMSE is compared, and users are drawn once for all.
    Raises: ValueError if the rows do not match.
    """
    mine, its = (_squares(values, len(users)) for values in (errors, others))
    names, index = np.unique(np.asarray(users), return_inverse=True)
    counts = np.bincount(index, minlength=len(names)).astype(np.float64)

    def by_user(squares: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([np.bincount(index, row, minlength=len(names)) for row in squares])

    sums, other_sums = by_user(mine), by_user(its)

    def difference(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """[draws, users] -> [draws]"""
        rows = weights @ counts
        return np.asarray(
            np.sqrt(weights @ sums.T / rows[:, None]).mean(axis=1)
            - np.sqrt(weights @ other_sums.T / rows[:, None]).mean(axis=1)
        )

    chance = np.random.default_rng(seed)
    whole = difference(np.ones((1, len(names))))[0]
    drawn = difference(
        chance.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws).astype(
            float
        )
    )
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(whole), float(low), float(high))


def _squares(errors: ArrayLike, n: int) -> NDArray[np.float64]:
    squares = np.atleast_2d(np.asarray(errors, dtype=np.float64)) ** 2
    if squares.shape[1] != n or n == 0:
        raise ValueError(f"{squares.shape[1]} errors for {n} users' rows")
    return squares
