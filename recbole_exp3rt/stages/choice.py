"""Which reviews a profile is made of (paper, section 3.5.2).

A user's profile: all of the user's reviews. An item's: all of them, those found most helpful, or
those of the users who rate like the user it is shown to. Out of the train part only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.records import Review, Subject
from recbole_exp3rt.stages.neighbors import Neighbors

ItemProfile = Literal["all", "helpful", "neighbor"]
ITEM_PROFILES: tuple[ItemProfile, ...] = ("all", "helpful", "neighbor")


@dataclass(frozen=True, kw_only=True)
class ChoiceSettings:
    """How the reviews of a profile are chosen."""

    item_profile: ItemProfile = "all"
    helpful_top: int = 5  # reviews of an item profile under `helpful`
    neighbors: int = 3  # users behind an item profile under `neighbor`
    profile_reviews: int | None = None  # newest reviews where all are taken; None: all
    profile_leave_one_out: bool = False  # a pair's profiles are made without its own review


@dataclass(frozen=True, slots=True)
class Choice:
    """The reviews of one profile, oldest first. Equal choices make one profile, asked once.

    `others` are the items of a user's reviews, the users of an item's.
    """

    subject: Subject
    key: str
    others: tuple[str, ...]
    reviews: tuple[Review, ...] = field(compare=False)


class Chooser:
    """Chooses out of a corpus."""

    def __init__(self, corpus: Corpus, settings: ChoiceSettings) -> None:
        self.corpus = corpus
        self.settings = settings
        self._neighbors = Neighbors(corpus)
        self._shared: dict[tuple[Subject, str], Choice] = {}  # those that no pair decides
        self._written: dict[str, dict[str, list[Review]]] = {}  # item -> user -> reviews

    def of_user(self, user: str, item: str | None = None) -> Choice:
        """For the user's profile in the pair with `item`, or in no pair."""
        if item is not None and self._leaves_out(user, item):
            return self._user_choice(user, item)
        if ("user", user) not in self._shared:
            self._shared["user", user] = self._user_choice(user, None)
        return self._shared["user", user]

    def of_item(self, item: str, user: str | None = None) -> Choice:
        """For the item's profile in the pair with `user`; in no pair, `neighbor` takes all."""
        if user is not None and self.settings.item_profile == "neighbor":
            return self._neighbors_choice(item, user)
        if user is not None and self._leaves_out(user, item):
            return self._item_choice(item, user)
        if ("item", item) not in self._shared:
            self._shared["item", item] = self._item_choice(item, None)
        return self._shared["item", item]

    def _leaves_out(self, user: str, item: str) -> bool:
        return self.settings.profile_leave_one_out and self.corpus.has(user, item)

    def _user_choice(self, user: str, without: str | None) -> Choice:
        reviews = self._newest(self.corpus.user_reviews(user, without=without))
        return Choice("user", user, tuple(r.item for r in reviews), tuple(reviews))

    def _item_choice(self, item: str, without: str | None) -> Choice:
        reviews = self.corpus.item_reviews(item, without=without)
        if self.settings.item_profile == "helpful":
            reviews = most_helpful(reviews, self.settings.helpful_top)
        else:
            reviews = self._newest(reviews)
        return Choice("item", item, tuple(r.user for r in reviews), tuple(reviews))

    def _neighbors_choice(self, item: str, user: str) -> Choice:
        written = self._written_of(item)
        near = self._neighbors.nearest(user, item, written, self.settings.neighbors)
        reviews = sorted((r for other in near for r in written[other]), key=_age)
        return Choice("item", item, tuple(r.user for r in reviews), tuple(reviews))

    def _written_of(self, item: str) -> dict[str, list[Review]]:
        """The item's reviews that have a text, by their users."""
        if item not in self._written:
            by_user = self._written.setdefault(item, {})
            for review in self.corpus.item_reviews(item):
                if review.is_written:
                    by_user.setdefault(review.user, []).append(review)
        return self._written[item]

    def _newest(self, reviews: list[Review]) -> list[Review]:
        number = self.settings.profile_reviews
        return reviews[-number:] if number else reviews


def most_helpful(reviews: Sequence[Review], n: int) -> list[Review]:
    """The `n` written reviews with the most helpful votes, oldest first.

    Equal votes, which no votes at all are too: the newer first, then the smaller user token.
    """
    written = [review for review in reviews if review.is_written]
    best = sorted(written, key=lambda r: (-r.helpful, -r.timestamp, r.user, r.item))[:n]
    return sorted(best, key=_age)


def _age(review: Review) -> tuple[float, str, str]:
    return (review.timestamp, review.user, review.item)
