"""Similar users, by their train ratings (paper, section 3.5.2 and Appendix B).

Similarities are computed only between a user and the users who have rated the same item.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.records import Review
from recbole_exp3rt.scale import mean

Centred = Mapping[str, float]  # item -> rating minus the user's mean
DIGITS = 9  # more decimals are rounding errors, which must not change a ranking


def centred(reviews: Sequence[Review]) -> dict[str, float]:
    """Item -> R' of one user: each rating minus the user's mean rating, in rating units.

    If an item occurs twice, its last rating is taken.
    Source: Appendix B, step 3.
    """
    if not reviews:
        return {}
    middle = mean([review.rating for review in reviews])
    return {review.item: round(review.rating - middle, DIGITS) for review in reviews}


def similarity(one: Centred, other: Centred) -> tuple[float, int]:
    """Adjusted cosine of two users over the items both rated, and the number of those items.

    sim(u, v) = sum R'_ui R'_vi / (sqrt(sum R'_ui^2) sqrt(sum R'_vi^2)), sums over I_uv.
    The similarity is 0 where a norm is zero: the users have no item in common, or one of them
    rated all common items with the own mean.
    Source: Appendix B, step 4.
    """
    common = one.keys() & other.keys()
    squares = (math.fsum(user[item] ** 2 for item in common) for user in (one, other))
    norms = math.sqrt(math.prod(squares)) if common else 0.0
    if norms == 0.0:
        return 0.0, len(common)
    products = math.fsum(one[item] * other[item] for item in common)
    return round(products / norms, DIGITS), len(common)


class Neighbors:
    """Ranks the users who have rated an item by their similarity to a user, in the train part."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self._centred: dict[str, dict[str, float]] = {}  # user -> R', of the users so far
        self._ranked: dict[tuple[str, str, int], tuple[str, ...]] = {}

    def nearest(self, user: str, item: str, raters: Iterable[str], n: int) -> tuple[str, ...]:
        """The `n` users of `raters` most similar to `user`, best first; without the user itself.

        At equal similarities the user with more items in common wins, then the smaller id. The
        user's rating of `item` is ignored, as a common item and in the user's mean.
        """
        key = (user, item, n)
        if key not in self._ranked:
            own = self._own(user, item)

            def rank(rater: str) -> tuple[float, int, str]:
                alike, common = similarity(own, self._of(rater))
                return (-alike, -common, rater)

            others = {rater for rater in raters if rater != user}
            self._ranked[key] = tuple(heapq.nsmallest(n, others, key=rank))
        return self._ranked[key]

    def _of(self, user: str) -> dict[str, float]:
        if user not in self._centred:
            self._centred[user] = centred(self.corpus.user_reviews(user))
        return self._centred[user]

    def _own(self, user: str, item: str) -> dict[str, float]:
        known = self._of(user)
        return centred(self.corpus.user_reviews(user, without=item)) if item in known else known
