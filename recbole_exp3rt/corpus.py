"""The data that the steps may read: train reviews with ratings, and item descriptions.

A corpus holds train rows only, so that no prompt can leak a test row (paper, section 4.1.4).
`data/train_corpus.py` makes it from a RecBole data set.
"""

from __future__ import annotations

import copy
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from recbole_exp3rt.records import Description, Review
from recbole_exp3rt.scale import mean

T = TypeVar("T")
Pair = tuple[str, str]  # raw ids of a user and an item
Prepare = Callable[[Sequence[Pair]], None]
Rated = tuple[str, str, float]  # raw ids of a user and an item, and the rating


class Corpus:
    """Train reviews by user and by item, oldest first. Averages are in rating units.

    Of several reviews of one (user, item) pair only the latest is kept; at equal timestamps, the
    last one in `reviews`.
    """

    def __init__(
        self, reviews: Iterable[Review], descriptions: Mapping[str, Description] | None = None
    ) -> None:
        by_user: dict[str, list[Review]] = {}
        by_item: dict[str, list[Review]] = {}
        latest = {(r.user, r.item): r for r in sorted(reviews, key=lambda r: r.timestamp)}
        for review in sorted(latest.values(), key=lambda r: (r.timestamp, r.user, r.item)):
            by_user.setdefault(review.user, []).append(review)
            by_item.setdefault(review.item, []).append(review)
        self._take(by_user, by_item, dict(descriptions or {}), _nothing)

    def _take(
        self,
        by_user: Mapping[str, list[Review]],
        by_item: Mapping[str, list[Review]],
        descriptions: Mapping[str, Description],
        prepare: Prepare,
    ) -> None:
        self.by_user = by_user
        self.by_item = by_item
        self.descriptions = descriptions
        self._prepare = prepare

    @classmethod
    def over(
        cls,
        by_user: Mapping[str, list[Review]],
        by_item: Mapping[str, list[Review]],
        descriptions: Mapping[str, Description],
        prepare: Prepare,
    ) -> Corpus:
        """A corpus of reviews that are made when they are asked for.

        `prepare` takes pairs whose users' and items' reviews will be asked for.
        """
        corpus = cls.__new__(cls)
        corpus._take(by_user, by_item, descriptions, prepare)
        return corpus

    def prepare(self, pairs: Sequence[Pair]) -> None:
        """Read what the reviews of these users and items need at once; it changes no answer."""
        self._prepare(pairs)

    def extended(
        self, reviews: Iterable[Review], descriptions: Mapping[str, Description]
    ) -> Corpus:
        """A new corpus with more reviews and descriptions; this corpus is not changed.

        A new review replaces the review of the same (user, item) pair.
        """
        new = list(reviews)
        own = self.without((review.user, review.item) for review in new)
        kept = [review for rows in own.by_user.values() for review in rows]
        return Corpus([*kept, *new], {**self.descriptions, **descriptions})

    def beside(self, reviews: Iterable[Review], descriptions: Mapping[str, Description]) -> Corpus:
        """A corpus that knows users of none of its reviews by `reviews`; this one is not changed.

        They are for questions about these users alone: the reviews of items stay as they are, and
        so do item profiles and averages. `descriptions` of known items are not replaced.

        Raises: ValueError if this corpus has a review by one of these users.
        """
        own = Corpus(reviews)
        if known := [user for user in own.by_user if user in self.by_user]:
            raise ValueError(f"user {min(known)} has reviews in this corpus")
        joined = copy.copy(self)
        joined.by_user = _joined(self.by_user, own.by_user)
        joined.descriptions = _joined(descriptions, self.descriptions)
        return joined

    def without(self, pairs: Iterable[tuple[str, str]]) -> Corpus:
        """A new corpus without the reviews of these (user, item) pairs."""
        excluded = set(pairs)
        own = [
            r for rows in self.by_user.values() for r in rows if (r.user, r.item) not in excluded
        ]
        return Corpus(own, self.descriptions)

    def user_reviews(self, user: str, *, without: str | None = None) -> list[Review]:
        """The user's reviews, oldest first, except the review of the item `without`."""
        reviews = self.by_user.get(user, [])
        return reviews if without is None else [r for r in reviews if r.item != without]

    def item_reviews(self, item: str, *, without: str | None = None) -> list[Review]:
        """The item's reviews, oldest first, except the review by the user `without`."""
        reviews = self.by_item.get(item, [])
        return reviews if without is None else [r for r in reviews if r.user != without]

    def rated_by_user(self) -> Iterator[Rated]:
        """The ratings of all users, user by user, each user's oldest first; no text is read."""
        return _rated(self.by_user)

    def rated_by_item(self) -> Iterator[Rated]:
        """The ratings of all items, item by item, each item's oldest first; no text is read.

        Those of users beside are left out.
        """
        return _rated(self.by_item)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(user, item) of all reviews that items have: those of users beside are left out."""
        return [(user, item) for user, item, _ in self.rated_by_item()]

    def has(self, user: str, item: str) -> bool:
        """Whether the corpus has a review of this pair, which makes it a train pair."""
        return any(review.item == item for review in self.user_reviews(user))

    def user_average(self, user: str, *, without: str | None = None) -> float | None:
        """Mean train rating of the user, except that of `without`; None if no rating is left."""
        return _average(self.user_reviews(user, without=without))

    def item_average(self, item: str, *, without: str | None = None) -> float | None:
        """Mean train rating of the item, except that by `without`; None if no rating is left."""
        return _average(self.item_reviews(item, without=without))

    def description(self, item: str) -> Description:
        """The description of the item; without lines if there is none."""
        return self.descriptions.get(item, Description(item))


def _joined(below: Mapping[str, T], above: Mapping[str, T]) -> Mapping[str, T]:
    """`{**below, **above}`, without making what either of them makes when it is asked for."""
    return ChainMap(above, below)  # type: ignore[arg-type]


def _rated(reviews: Mapping[str, list[Review]]) -> Iterator[Rated]:
    if isinstance(reviews, ChainMap):
        above, below = reviews.maps  # of users, see `beside`
        yield from (row for row in _rated(below) if row[0] not in above)
        yield from _rated(above)
    elif hasattr(reviews, "rated"):  # columns, which know ratings without texts
        yield from reviews.rated()
    else:
        yield from ((r.user, r.item, r.rating) for rows in reviews.values() for r in rows)


def _nothing(pairs: Sequence[Pair]) -> None:
    """All reviews are there."""


def _average(reviews: list[Review]) -> float | None:
    return mean([review.rating for review in reviews]) if reviews else None
