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
from recbole_exp3rt.records import Review
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


@dataclass(frozen=True)
class _Fit:
    mean: float
    of_user: dict[str, float]
    of_item: dict[str, float]


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
    def _folds(self) -> list[tuple[int, Review]]:
        """All reviews of the fits with their folds. Users beside the corpus are in no item."""
        rows = [review for reviews in self.corpus.by_item.values() for review in reviews]
        return [(fold_of(review.user, review.item), review) for review in rows]

    def _fit(self, without: int | None) -> _Fit:
        """The fit of all reviews but those of the fold `without`; each is made once."""
        if without not in self._fits:
            rows = [review for fold, review in self._folds if fold != without]
            if not rows:
                middle = (self.scale.lowest + self.scale.highest) / 2
                return self._fits.setdefault(without, _Fit(middle, {}, {}))
            users = {key: k for k, key in enumerate(dict.fromkeys(r.user for r in rows))}
            items = {key: k for k, key in enumerate(dict.fromkeys(r.item for r in rows))}
            mean, of_user, of_item = solve_biases(
                np.array([users[review.user] for review in rows]),
                np.array([items[review.item] for review in rows]),
                np.array([review.rating for review in rows], dtype=np.float64),
                (len(users), len(items)),
                self.reg_weight,
            )
            self._fits[without] = _Fit(
                mean,
                dict(zip(users, of_user.tolist(), strict=True)),
                dict(zip(items, of_item.tolist(), strict=True)),
            )
        return self._fits[without]

    def rate(self, pairs: Sequence[Pair]) -> Array:
        """Ratings of pairs of raw tokens, in rating units: [n_pairs]."""
        found = [self._rate(user, item) for user, item in pairs]
        return np.clip(np.array(found, dtype=np.float64), self.scale.lowest, self.scale.highest)

    def _rate(self, user: str, item: str) -> float:
        fit = self._fit(fold_of(user, item) if self.corpus.has(user, item) else None)
        own = fit.of_user.get(user)
        if own is None:
            own = 0.0
            if user not in self._fit(None).of_user:  # beside the corpus, or unknown
                whole = self._fit(None)
                left = [
                    review.rating - whole.mean - whole.of_item.get(review.item, 0.0)
                    for review in self.corpus.user_reviews(user, without=item)
                ]
                fit, own = whole, sum(left) / (self.reg_weight + len(left))
        return fit.mean + own + fit.of_item.get(item, 0.0)
