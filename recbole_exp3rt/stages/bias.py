"""Bias, mu + b_u + b_i, over a corpus: ratings of any pair, cross-fitted for train pairs.

`solve_biases` is the solver of RecBole's model too (`model/bias.py`), so both give the same
numbers. Source: Koren, Bell and Volinsky (2009), "Matrix factorization techniques".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.text import without_surrogates

FOLDS = 20  # of the train pairs; the rating of a pair is fitted without its own fold
Pair = tuple[str, str]
Array = NDArray[np.float64]


def solve_biases(
    users: NDArray[Any],
    items: NDArray[Any],
    ratings: NDArray[Any],
    shape: tuple[int, int],
    reg_weight: float,
) -> tuple[float, NDArray[Any], NDArray[Any]]:
    """Return mu, b_u: [n_users] and b_i: [n_items], in rating units, fitted by ridge regression.

    min over b of  sum (r - mu - b_u - b_i)^2 + reg_weight * (sum b_u^2 + sum b_i^2),
    where mu is the mean rating. Users and items without a row get 0. The normal equations are
    solved by preconditioned conjugate gradients up to rounding errors; they have one solution if
    reg_weight > 0. Memory is linear in the rows: 24 bytes each, and what the caller holds.

    Raises: ArithmeticError if the solver does not converge.
    Source: Koren, Bell and Volinsky (2009).
    """
    mean, n_users = float(ratings.mean()), shape[0]
    ends, left = (users, items), ratings - mean
    counts = [np.bincount(end, minlength=size) for end, size in zip(ends, shape, strict=True)]
    sums = [np.bincount(end, left, size) for end, size in zip(ends, shape, strict=True)]
    diagonal = np.concatenate(counts) + reg_weight
    # The normal matrix is [[D_u, N], [N^T, D_i]]: N counts the rows of each pair.
    pairs = sp.coo_matrix((np.ones(len(left)), ends), shape).tocsr()

    def normal(biases: Array) -> Array:
        across = [pairs @ biases[n_users:], pairs.T @ biases[:n_users]]
        product: Array = diagonal * biases + np.concatenate(across)
        return product

    square = (len(diagonal), len(diagonal))
    biases, info = cg(
        LinearOperator(square, matvec=normal, dtype=np.float64),
        np.concatenate(sums),
        rtol=1e-12,
        atol=0.0,
        maxiter=10_000,
        M=LinearOperator(square, matvec=lambda biases: biases / diagonal, dtype=np.float64),
    )
    if info != 0:
        raise ArithmeticError(f"biases did not converge with reg_weight={reg_weight:g}")
    return mean, biases[:n_users], biases[n_users:]


def digest_of(user: str, item: str) -> bytes:
    """The sha256 of a pair of raw tokens: a random number that depends on the pair alone."""
    return hashlib.sha256(without_surrogates(f"{user}\t{item}").encode()).digest()


def fold_of(user: str, item: str) -> int:
    """The fold of a pair, 0 to FOLDS - 1, by its key alone."""
    return int.from_bytes(digest_of(user, item)[:8], "big") % FOLDS


@dataclass(frozen=True, eq=False)
class _Rows:
    """The reviews of a corpus as numbers: of users and items [n_rows], and ratings [n_rows]."""

    numbers: tuple[dict[str, int], dict[str, int]]  # of users, of items
    users: NDArray[np.int32]
    items: NDArray[np.int32]
    ratings: Array

    @classmethod
    def of(cls, corpus: Corpus) -> _Rows:
        """The reviews that items have. Users beside the corpus are in no item."""
        items = {item: number for number, item in enumerate(corpus.by_item)}
        users: dict[str, int] = {}
        rows = np.fromiter(
            (
                (users.setdefault(user, len(users)), items[item], rating)
                for user, item, rating in corpus.rated_by_item()
            ),
            dtype=[("user", np.int32), ("item", np.int32), ("rating", np.float64)],
        )
        return cls((users, items), rows["user"], rows["item"], rows["rating"])

    @cached_property
    def folds(self) -> NDArray[np.int8]:
        """The fold of each row: [n_rows]."""
        users, items = (list(numbers) for numbers in self.numbers)
        pairs = zip(self.users.tolist(), self.items.tolist(), strict=True)
        found = (fold_of(users[user], items[item]) for user, item in pairs)
        return np.fromiter(found, dtype=np.int8, count=len(self.ratings))


@dataclass(frozen=True, eq=False)
class _Fit:
    """Biases by number, 0 where the rows of the fit have none."""

    mean: float
    of_user: Array
    of_item: Array


class CorpusBias:
    """Bias fitted to the reviews of a corpus, in rating units, clipped to the scale.

    A train pair is rated by a fit that has not seen its fold, every other pair by the fit of all
    reviews. A user whose reviews are of no fit (`Corpus.beside`) gets the bias that ridge
    regression finds if the items' biases stay. Unknown users and items have the bias 0.
    """

    def __init__(self, corpus: Corpus, scale: RatingScale, reg_weight: float) -> None:
        """`reg_weight` is the ridge penalty on each bias; above 0."""
        self.corpus = corpus
        self.scale = scale
        self.reg_weight = reg_weight
        self._fits: dict[int | None, _Fit] = {}

    @cached_property
    def _rows(self) -> _Rows:
        return _Rows.of(self.corpus)

    def _fit(self, without: int | None) -> _Fit:
        """The fit of all reviews but those of the fold `without`; each is made once."""
        if without not in self._fits:
            rows = self._rows
            shape = (len(rows.numbers[0]), len(rows.numbers[1]))
            kept = slice(None) if without is None else rows.folds != without
            ratings = rows.ratings[kept]
            if len(ratings):
                ends = (rows.users[kept], rows.items[kept])
                fit = _Fit(*solve_biases(*ends, ratings, shape, self.reg_weight))
            else:
                middle = (self.scale.lowest + self.scale.highest) / 2
                fit = _Fit(middle, np.zeros(shape[0]), np.zeros(shape[1]))
            self._fits[without] = fit
        return self._fits[without]

    def rate(self, pairs: Sequence[Pair]) -> Array:
        """Ratings of pairs of raw tokens, in rating units: [n_pairs]."""
        found = [self._rate(user, item) for user, item in pairs]
        return np.clip(np.array(found, dtype=np.float64), self.scale.lowest, self.scale.highest)

    def _rate(self, user: str, item: str) -> float:
        users, _ = self._rows.numbers
        if user in users:
            fit = self._fit(fold_of(user, item) if self.corpus.has(user, item) else None)
            own = fit.of_user[users[user]]
        else:  # beside the corpus, or unknown
            fit = self._fit(None)
            left = [
                review.rating - fit.mean - self._of_item(fit, review.item)
                for review in self.corpus.user_reviews(user, without=item)
            ]
            own = sum(left) / (self.reg_weight + len(left))
        return float(fit.mean + own + self._of_item(fit, item))

    def _of_item(self, fit: _Fit, item: str) -> float:
        number = self._rows.numbers[1].get(item)
        return 0.0 if number is None else float(fit.of_item[number])
