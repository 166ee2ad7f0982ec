"""What a run may read: the reviews and ratings of the train part, and item descriptions.

A corpus is made of train rows alone, so nothing that is asked of it can leak a test row
(paper, section 4.1.4). Plain values; how it is cut out of a RecBole data set stands in
`data/corpus.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from recbole_exp3rt.records import Description, Review
from recbole_exp3rt.scale import mean


class Corpus:
    """Train reviews by user and by item, oldest first, with averages in rating units."""

    def __init__(
        self, reviews: Iterable[Review], descriptions: Mapping[str, Description] | None = None
    ) -> None:
        self.by_user: dict[str, list[Review]] = defaultdict(list)
        self.by_item: dict[str, list[Review]] = defaultdict(list)
        for review in sorted(reviews, key=lambda r: (r.timestamp, r.user, r.item)):
            self.by_user[review.user].append(review)
            self.by_item[review.item].append(review)
        self.descriptions = dict(descriptions or {})

    def extended(
        self, reviews: Iterable[Review], descriptions: Mapping[str, Description]
    ) -> Corpus:
        """A corpus that holds these too; this one stays as it is."""
        own = [review for rows in self.by_user.values() for review in rows]
        return Corpus([*own, *reviews], {**self.descriptions, **descriptions})

    def user_reviews(self, user: str) -> list[Review]:
        return self.by_user.get(user, [])

    def item_reviews(self, item: str) -> list[Review]:
        return self.by_item.get(item, [])

    def user_average(self, user: str) -> float | None:
        """Mean train rating of the user; None where there is no train row."""
        return _average(self.user_reviews(user))

    def item_average(self, item: str) -> float | None:
        return _average(self.item_reviews(item))

    def description(self, item: str) -> Description:
        return self.descriptions.get(item, Description(item))


def _average(reviews: list[Review]) -> float | None:
    return mean([review.rating for review in reviews]) if reviews else None
