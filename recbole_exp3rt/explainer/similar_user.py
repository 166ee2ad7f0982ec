"""SimilarUser: the first sentence of the item's review by the most similar user.

Users are similar by their train ratings (paper, section 3.5.2 and Appendix B, as for EXP3RT's item
profiles with `item_profile=neighbor`).
"""

from __future__ import annotations

from collections.abc import Sequence

from recbole_exp3rt.explainer.of_profiles import Pair, ProfileExplainer
from recbole_exp3rt.explainer.targets import first_sentences, text_of_review
from recbole_exp3rt.stages.neighbors import Neighbors


class SimilarUser(ProfileExplainer):
    """What a similar user wrote of the item. It asks no language model."""

    def say(self, pairs: Sequence[Pair]) -> list[str | None]:
        """See ProfileExplainer. None where nobody else wrote of the item."""
        neighbors = Neighbors(self.corpus)
        return [self._said(neighbors, *pair) for pair in pairs]

    def _said(self, neighbors: Neighbors, user: str, item: str) -> str | None:
        written = {
            review.user: review
            for review in self.corpus.item_reviews(item, without=user)
            if text_of_review(review).strip()
        }
        nearest = neighbors.nearest(user, item, written, 1)
        return first_sentences(text_of_review(written[nearest[0]])) or None if nearest else None
