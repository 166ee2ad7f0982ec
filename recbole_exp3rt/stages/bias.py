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

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.text import without_surrogates

RESIDUAL = 1e-12  # of the normal equations, relative: what stays are rounding errors
STEPS = 10_000  # at most
TOGETHER = 10  # folds that are solved at once; each needs 40 bytes for each user and item
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
    mean, left = float(ratings.mean()), ratings - ratings.mean()
    ends = (users, items)
    counts = [np.bincount(end, minlength=size) for end, size in zip(ends, shape, strict=True)]
    sums = [np.bincount(end, left, size) for end, size in zip(ends, shape, strict=True)]
    diagonal = np.concatenate(counts) + reg_weight
    biases = _solve(_counted(users, items, shape), (), diagonal, np.concatenate(sums))
    return mean, biases[: shape[0]], biases[shape[0] :]


def solve_without_each(
    users: NDArray[Any],
    items: NDArray[Any],
    ratings: NDArray[Any],
    folds: NDArray[Any],
    shape: tuple[int, int],
    reg_weight: float,
) -> dict[int, tuple[float, NDArray[Any], NDArray[Any]]]:
    """`solve_biases` for all rows without those of each fold: fold -> mu, b_u and b_i.

    `folds`: from 0 to FOLDS - 1, [n_rows]; folds without a row, and folds of all rows, are left
    out. TOGETHER fits are solved at once, so the rows are read once for all of them.
    """
    ends = (users, items)
    pairs = _counted(users, items, shape)
    whole = [_totals(end, ratings, size) for end, size in zip(ends, shape, strict=True)]
    sizes = np.bincount(folds, minlength=FOLDS)
    there = np.flatnonzero((sizes > 0) & (sizes < len(folds))).tolist()
    found = {}
    for start in range(0, len(there), TOGETHER):
        some = there[start : start + TOGETHER]
        diagonal, wanted = (np.empty((sum(shape), len(some))) for _ in range(2))
        own, means = [], []
        for k, fold in enumerate(some):
            rows = np.flatnonzero(folds == fold)
            own.append(_counted(users[rows], items[rows], shape))
            parts = [_totals(e[rows], ratings[rows], n) for e, n in zip(ends, shape, strict=True)]
            left = [total - part for total, part in zip(whole, parts, strict=True)]
            counts, sums = np.concatenate(left, axis=1)  # of the rows that stay
            means.append(float(sums[: shape[0]].sum() / counts[: shape[0]].sum()))
            diagonal[:, k] = counts + reg_weight
            wanted[:, k] = sums - means[-1] * counts
        biases = _solve(pairs, own, diagonal, wanted)
        for k, fold in enumerate(some):
            found[fold] = (means[k], biases[: shape[0], k].copy(), biases[shape[0] :, k].copy())
    return found


def _totals(ends: NDArray[Any], ratings: NDArray[Any], size: int) -> Array:
    """Number and sum of the ratings of each user or item: [2, size]."""
    return np.stack([np.bincount(ends, minlength=size), np.bincount(ends, ratings, size)])


def _counted(users: NDArray[Any], items: NDArray[Any], shape: tuple[int, int]) -> sp.csr_matrix:
    """N: the number of rows of each pair, [n_users, n_items]."""
    return sp.coo_matrix((np.ones(len(users)), (users, items)), shape).tocsr()


def _solve(
    pairs: sp.csr_matrix, without: Sequence[sp.csr_matrix], diagonal: Array, wanted: Array
) -> Array:
    """Solve the normal equations by conjugate gradients: [n] or, for k fits at once, [n, k].

    The matrix of a fit is [[D_u, N], [N^T, D_i]] with its own `diagonal`, [n] or [n, k], which is
    the preconditioner too. N is `pairs`, for fit k minus `without[k]`.

    Raises: ArithmeticError if it does not converge.
    """
    n_users = pairs.shape[0]

    def normal(vector: Array) -> Array:
        users, items = vector[:n_users], vector[n_users:]
        product: Array = np.concatenate([pairs @ items, pairs.T @ users])
        for k, own in enumerate(without):
            product[:n_users, k] -= own @ items[:, k]
            product[n_users:, k] -= own.T @ users[:, k]
        product += diagonal * vector
        return product

    def dot(one: Array, other: Array) -> Array:
        return np.asarray(np.einsum("n...,n...->...", one, other))

    biases, residual = np.zeros_like(wanted), wanted.copy()
    direction = residual / diagonal
    length, least = dot(residual, direction), RESIDUAL**2 * dot(wanted, wanted)
    for _ in range(STEPS):
        going = ~(dot(residual, residual) <= least)  # a fit that has converged stays as it is
        if not going.any():
            return biases
        product = normal(direction)
        step = np.divide(length, dot(direction, product), where=going, out=np.zeros(going.shape))
        biases += step * direction
        residual -= step * product
        steepest = residual / diagonal
        before, length = length, dot(residual, steepest)
        direction *= np.divide(length, before, where=going, out=np.zeros(going.shape))
        direction += steepest
    raise ArithmeticError(f"biases did not converge in {STEPS:,} steps")


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
        rows = [review for reviews in corpus.by_item.values() for review in reviews]
        by_row = [users.setdefault(review.user, len(users)) for review in rows]
        sizes = [len(reviews) for reviews in corpus.by_item.values()]
        return cls(
            (users, items),
            np.array(by_row, dtype=np.int32),
            np.repeat(np.arange(len(items), dtype=np.int32), sizes),
            np.array([review.rating for review in rows], dtype=np.float64),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of users and of items."""
        return len(self.numbers[0]), len(self.numbers[1])

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

    @cached_property
    def _rows(self) -> _Rows:
        return _Rows.of(self.corpus)

    @cached_property
    def _whole(self) -> _Fit:
        """The fit of all reviews."""
        rows = self._rows
        if not len(rows.ratings):
            return self._nothing
        return _Fit(
            *solve_biases(rows.users, rows.items, rows.ratings, rows.shape, self.reg_weight)
        )

    @cached_property
    def _without(self) -> dict[int, _Fit]:
        """The fit of all reviews but those of a fold, by fold."""
        rows = self._rows
        made = solve_without_each(
            rows.users, rows.items, rows.ratings, rows.folds, rows.shape, self.reg_weight
        )
        return {fold: _Fit(*fit) for fold, fit in made.items()}

    @property
    def _nothing(self) -> _Fit:
        """The fit of no review: the middle of the scale."""
        n_users, n_items = self._rows.shape
        middle = (self.scale.lowest + self.scale.highest) / 2
        return _Fit(middle, np.zeros(n_users), np.zeros(n_items))

    def rate(self, pairs: Sequence[Pair]) -> Array:
        """Ratings of pairs of raw tokens, in rating units: [n_pairs]."""
        found = [self._rate(user, item) for user, item in pairs]
        return np.clip(np.array(found, dtype=np.float64), self.scale.lowest, self.scale.highest)

    def _rate(self, user: str, item: str) -> float:
        users, _ = self._rows.numbers
        if user in users:
            fit = self._whole
            if self.corpus.has(user, item):  # without its fold; if all reviews are in it, of none
                fit = self._without.get(fold_of(user, item)) or self._nothing
            own = fit.of_user[users[user]]
        else:  # beside the corpus, or unknown
            fit = self._whole
            left = [
                review.rating - fit.mean - self._of_item(fit, review.item)
                for review in self.corpus.user_reviews(user, without=item)
            ]
            own = sum(left) / (self.reg_weight + len(left))
        return float(fit.mean + own + self._of_item(fit, item))

    def _of_item(self, fit: _Fit, item: str) -> float:
        number = self._rows.numbers[1].get(item)
        return 0.0 if number is None else float(fit.of_item[number])
