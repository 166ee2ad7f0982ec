"""About which pairs a rationale is written: settings `rating_reasoning` and `rerank_reasoning`.

Where it is not all of them, every pair is first scored without one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from recbole_exp3rt.records import RatingPrediction

Pair = tuple[str, str]
ALL, NONE, TOP, UNCERTAIN = "all", "none", "top", "uncertain"


def share_of(setting: str) -> float:
    """`rating_reasoning` as the share of pairs with a rationale, from 0 to 1.

    `all`, `none`, or `uncertain:P` for P %. Raises: ValueError for anything else.
    """
    if setting in (ALL, NONE):
        return 1.0 if setting == ALL else 0.0
    kind, _, number = setting.partition(":")
    share = float(number) / 100 if kind == UNCERTAIN else math.nan
    if not 0 < share < 1:
        raise ValueError(setting)
    return share


def best_of(setting: str) -> int | None:
    """`rerank_reasoning` as the number of candidates of a list with a rationale; None: all.

    `all`, `none`, or `top:K`. Raises: ValueError for anything else.
    """
    if setting in (ALL, NONE):
        return None if setting == ALL else 0
    kind, _, number = setting.partition(":")
    if kind != TOP or not number.isdecimal() or int(number) < 1:
        raise ValueError(setting)
    return int(number)


def number_of(share: float, n_pairs: int) -> int:
    """How many of `n_pairs` pairs get a rationale: the nearest whole number, a half goes up."""
    return math.floor(share * n_pairs + 0.5)


def entropy(prediction: RatingPrediction | None) -> float:
    """Entropy of the labels, in nats; of an unreadable answer infinite: nothing is known.

    H = - sum over the labels of p log p.
    """
    if prediction is None:
        return math.inf
    return -sum(p * math.log(p) for p in prediction.probabilities.values() if p > 0)


def most_uncertain(
    pairs: Sequence[Pair], said: Sequence[RatingPrediction | None], share: float
) -> list[Pair]:
    """The `share` of the different pairs whose answers have the highest entropy.

    Pairs of equal entropy go by their ids, so the order of `pairs` does not matter.
    """
    of = dict(zip(pairs, said, strict=True))
    order = sorted(of, key=lambda pair: (-entropy(of[pair]), pair))
    return order[: number_of(share, len(order))]
