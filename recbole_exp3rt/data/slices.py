"""Which test rows and users are measured: fixed random samples; warm, cold and unseen users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLICES = ("warm", "cold", "unseen")
WARM = 3  # a user with more train rows is warm (paper, section 4.2)


def sample_rows(n_rows: int, n: int | None, seed: int) -> NDArray[Any]:
    """Draw `n` of the row numbers 0..n_rows-1 at random, ascending; all if `n` is None or larger.

    The same arguments give the same rows. The sample of a smaller `n` is part of that of a larger.
    """
    order = np.random.default_rng(seed).permutation(n_rows)
    return np.sort(order if n is None else order[:n])


def balanced_rows(
    levels: Sequence[str], every: Sequence[str], n: int, seed: int
) -> NDArray[np.int64]:
    """Draw rows with the same number of each level of `every`, ascending; `levels`: [n_rows].

    Of each level n // len(every) rows, or as many as the rarest level has. The draw in a level
    does not depend on the rows of other levels, but for their number.
    """
    rows = {level: [k for k, own in enumerate(levels) if own == level] for level in every}
    each = min(n // len(every), *map(len, rows.values()))
    drawn = [
        own[k]
        for number, own in enumerate(rows.values())
        for k in np.random.default_rng([seed, number]).permutation(len(own))[:each]
    ]
    return np.array(sorted(drawn), dtype=np.int64)


def sample_users(users: Sequence[str], n: int | None, seed: int) -> list[str]:
    """Draw `n` of the different `users` at random, sorted. Order and repeats do not matter."""
    different = sorted(set(users))
    return [different[row] for row in sample_rows(len(different), n, seed)]


def user_slices(train_users: NDArray[Any], test_users: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return a boolean mask over the test rows for each slice: {slice: [n_test_rows]}.

    The slice is decided by the number of train rows of the row's user: warm has more than 3, cold
    1 to 3, unseen 0. Each row is in exactly one slice. Paper: section 4.2.
    """
    known, counts = np.unique(train_users, return_counts=True)
    rows_of = dict(zip(known.tolist(), counts.tolist(), strict=True))
    return slices_of(np.array([rows_of.get(user, 0) for user in test_users.tolist()]))


def slices_of(counts: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The same of the number of train rows of each row's user: [n_test_rows]."""
    return {
        "warm": counts > WARM,
        "cold": (counts >= 1) & (counts <= WARM),
        "unseen": counts == 0,
    }
