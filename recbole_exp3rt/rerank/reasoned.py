"""EXP3RT as a reranker: with a rationale about every candidate, about the K best, or about none."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_exp3rt.model.rater import Rater
from recbole_exp3rt.records import Candidates
from recbole_exp3rt.rerank.reranker import RatingReranker, Reranker, new_order

Scores = list[float | None]


def reranker_of(rater: Rater) -> Reranker:
    """The reranker that the setting `rerank_reasoning` asks for."""
    best = rater.pipeline.settings.rerank_best
    if best:
        return TopReasoned(rater, best)
    return RatingReranker(lambda pairs: rater.ratings(pairs, reasoning=best is None))


class TopReasoned:
    """Scores all candidates without a rationale, then asks again about the `best` of each list.

    These stay in front, sorted by their new ratings. The others follow in the order of their first
    ratings; where one is not below the last of the best, all of them are lowered by the same
    amount, so a score may lie below the scale.
    """

    def __init__(self, rater: Rater, best: int) -> None:
        self.rater = rater
        self.best = best

    def rerank(self, lists: Sequence[Candidates]) -> Sequence[Scores]:
        """See Reranker. Each of the two questions goes out for all lists at once."""
        first = RatingReranker(lambda pairs: self.rater.ratings(pairs, reasoning=False))
        scores = [list(own) for own in first.rerank(lists)]
        chosen = [new_order(own)[: self.best] for own in scores]
        pairs = [
            (one.user, one.items[position])
            for one, positions in zip(lists, chosen, strict=True)
            for position in positions
        ]
        again = iter(self.rater.ratings(pairs, reasoning=True))
        return [
            _in_front(own, {position: next(again) for position in positions})
            for own, positions in zip(scores, chosen, strict=True)
        ]


def _in_front(first: Scores, again: dict[int, float | None]) -> Scores:
    """The scores of one list: those `again`, by position, above all the others."""
    above = [rating for rating in again.values() if rating is not None]
    rest = [r for k, r in enumerate(first) if k not in again and r is not None]
    lower = max(0.0, max(rest) - min(above) + 1e-6) if above and rest else 0.0
    return [
        again[k] if k in again else None if rating is None else rating - lower
        for k, rating in enumerate(first)
    ]
