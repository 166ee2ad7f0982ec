"""What a reranker is: it gets candidates and returns a score for each of them.

To add a reranker, write a class with a method `rerank` in a file of its own in this folder.
The trainer in `trainer.py` sorts the candidates by the scores. This module imports no torch and
no RecBole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from recbole_exp3rt.records import Candidates as Candidates

# Raw (user, item) tokens -> a rating for each pair, None where there is none.
Rate = Callable[[Sequence[tuple[str, str]]], Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class Reranked:
    """A list of candidates with the reranker's scores and the new order.

    `order[k]` is the position in `candidates.items` of the item at the new rank k, from 0.
    """

    candidates: Candidates
    scores: tuple[float | None, ...]
    order: tuple[int, ...]


class Reranker(Protocol):
    """The interface of every reranker."""

    def rerank(self, lists: Sequence[Candidates]) -> Sequence[Sequence[float | None]]:
        """Return one score for each candidate of each list: [lists][candidates].

        A higher score is better. A candidate with None or NaN goes to the end of its list.
        """
        ...


class KeepOrder:
    """The reranker that keeps the generator's order. It measures the generator itself."""

    def rerank(self, lists: Sequence[Candidates]) -> Sequence[Sequence[float | None]]:
        """Scores that fall from position to position."""
        return [range(len(one.items), 0, -1) for one in lists]


class RatingReranker:
    """Sorts candidates by predicted rating.

    `rate` takes raw (user, item) tokens and returns a rating for each pair, or None.
    Paper: section 3.6.
    """

    def __init__(self, rate: Rate) -> None:
        """Keep `rate`, which is called once for all lists of a batch."""
        self.rate = rate

    def rerank(self, lists: Sequence[Candidates]) -> Sequence[Sequence[float | None]]:
        """The predicted ratings. All lists go into one call, so a model can batch over users."""
        ratings = iter(self.rate([(one.user, item) for one in lists for item in one.items]))
        return [[next(ratings) for _ in one.items] for one in lists]


def new_order(scores: Sequence[float | None]) -> tuple[int, ...]:
    """Positions sorted by falling score. Equal scores keep their order.

    Positions with None or NaN come last, in their order.
    """

    def key(position: int) -> tuple[bool, float]:
        score = scores[position]
        return (True, 0.0) if score is None or math.isnan(score) else (False, -score)

    return tuple(sorted(range(len(scores)), key=key))
