"""Rerankers that order candidates by predicted ratings (paper, section 3.6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recbole_exp3rt.rerank import Candidates

Rate = Callable[[Sequence[tuple[str, str]]], Sequence[float | None]]


class RatingReranker:
    """Candidates by what `rate` predicts for their (user, item) pairs; None: no opinion."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate

    def rerank(self, lists: Sequence[Candidates]) -> Sequence[Sequence[float | None]]:
        """All lists in one call, so that a model can batch over users."""
        ratings = iter(self.rate([(one.user, item) for one in lists for item in one.items]))
        return [[next(ratings) for _ in one.items] for one in lists]
