"""Which train reviews a profile is made of (paper, section 3.5.2).

A user profile is made of all reviews of the user. An item profile is made of all reviews of the
item, of the most helpful ones, or of those by the users most similar to the user of the pair.
`profile_reviews` limits the reviews of any profile that is made of all, by `profile_rule`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.records import Review, Subject

if TYPE_CHECKING:  # numpy, which only the neighbors need
    from recbole_exp3rt.stages.neighbors import Neighbors

ItemProfile = Literal["all", "helpful", "neighbor"]
ITEM_PROFILES: tuple[ItemProfile, ...] = ("all", "helpful", "neighbor")
ProfileRule = Literal["newest", "helpful", "similar"]
PROFILE_RULES: tuple[ProfileRule, ...] = ("newest", "helpful", "similar")


@dataclass(frozen=True, kw_only=True)
class ChoiceSettings:
    """How the reviews of a profile are chosen; see `properties/model/EXP3RT.yaml`."""

    item_profile: ItemProfile = "all"
    helpful_top: int = 5  # reviews of an item profile, with `helpful`
    neighbors: int = 3  # users behind an item profile, with `neighbor`
    profile_reviews: int | None = None  # at most as many reviews; None: all
    profile_rule: ProfileRule = "newest"  # which ones, where there are more
    profile_leave_one_out: bool = False  # without the review of the pair itself


@dataclass(frozen=True, slots=True)
class Choice:
    """The reviews of one profile, oldest first. Equal choices share one profile.

    `key` is the raw id of the user or item. `others` are the items that the user has reviewed,
    or the users who have reviewed the item.
    """

    subject: Subject
    key: str
    others: tuple[str, ...]
    reviews: tuple[Review, ...] = field(compare=False)


class Chooser:
    """Chooses the reviews of profiles from a corpus."""

    def __init__(self, corpus: Corpus, settings: ChoiceSettings) -> None:
        self.corpus = corpus
        self.settings = settings
        self._shared: dict[tuple[Subject, str], Choice] = {}  # choices that are equal in all pairs
        self._with_text: dict[str, dict[str, list[Review]]] = {}  # item -> user -> reviews

    @cached_property
    def _neighbors(self) -> Neighbors:
        from recbole_exp3rt.stages.neighbors import Neighbors

        return Neighbors(self.corpus)

    def prepare(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Find the neighbors of many pairs of a user and an item at once, item by item.

        It changes no choice; `of_item` would find the same neighbors one by one, slower.
        """
        if self.settings.item_profile != "neighbor":
            return
        by_item: dict[str, list[str]] = {}
        for user, item in pairs:
            by_item.setdefault(item, []).append(user)
        for item, users in by_item.items():
            self._neighbors.rank(
                users, item, self._reviews_with_text(item), self.settings.neighbors
            )

    def of_user(self, user: str, item: str | None = None) -> Choice:
        """The choice for the user's profile, in the pair with `item` or outside any pair."""
        if item is not None and self._leaves_out(user, item):
            return self._user_choice(user, item)
        if ("user", user) not in self._shared:
            self._shared["user", user] = self._user_choice(user, None)
        return self._shared["user", user]

    def of_item(self, item: str, user: str | None = None) -> Choice:
        """The choice for the item's profile, in the pair with `user` or outside any pair.

        Outside a pair there are no neighbors: `neighbor` takes all reviews, `similar` the newest.
        """
        if user is not None and self.settings.item_profile == "neighbor":
            return self._neighbors_choice(item, user, self.settings.neighbors)
        if user is not None and self._takes_similar(item):
            return self._neighbors_choice(item, user, self.settings.profile_reviews or 0)
        if user is not None and self._leaves_out(user, item):
            return self._item_choice(item, user)
        if ("item", item) not in self._shared:
            self._shared["item", item] = self._item_choice(item, None)
        return self._shared["item", item]

    def _leaves_out(self, user: str, item: str) -> bool:
        return self.settings.profile_leave_one_out and self.corpus.has(user, item)

    def _takes_similar(self, item: str) -> bool:
        """Whether the item has too many reviews, and those by similar users are taken."""
        config = self.settings
        if config.profile_rule != "similar" or not config.profile_reviews:
            return False
        many = len(self.corpus.item_reviews(item)) > config.profile_reviews
        return many and config.item_profile == "all"

    def _user_choice(self, user: str, without: str | None) -> Choice:
        reviews = self._limited(self.corpus.user_reviews(user, without=without))
        return Choice("user", user, tuple(r.item for r in reviews), tuple(reviews))

    def _item_choice(self, item: str, without: str | None) -> Choice:
        reviews = self.corpus.item_reviews(item, without=without)
        if self.settings.item_profile == "helpful":
            reviews = most_helpful(reviews, self.settings.helpful_top)
        else:
            reviews = self._limited(reviews)
        return Choice("item", item, tuple(r.user for r in reviews), tuple(reviews))

    def _neighbors_choice(self, item: str, user: str, number: int) -> Choice:
        by_user = self._reviews_with_text(item)
        near = self._neighbors.nearest(user, item, by_user, number)
        reviews = sorted((r for other in near for r in by_user[other]), key=_age)
        return Choice("item", item, tuple(r.user for r in reviews), tuple(reviews))

    def _reviews_with_text(self, item: str) -> dict[str, list[Review]]:
        """User -> the user's reviews of the item that have a text."""
        if item not in self._with_text:
            by_user = self._with_text.setdefault(item, {})
            for review in self.corpus.item_reviews(item):
                if review.is_written:
                    by_user.setdefault(review.user, []).append(review)
        return self._with_text[item]

    def _limited(self, reviews: list[Review]) -> list[Review]:
        """At most `profile_reviews` of the reviews: the most helpful or the newest ones."""
        number = self.settings.profile_reviews
        if not number or len(reviews) <= number:
            return reviews
        if self.settings.profile_rule == "helpful":
            return most_helpful(reviews, number)
        return reviews[-number:]


def most_helpful(reviews: Sequence[Review], n: int) -> list[Review]:
    """The `n` reviews with a text that have the most helpful votes, oldest first.

    Of equal votes (also of none) the newer review wins, then the smaller user id.
    """
    with_text = [review for review in reviews if review.is_written]
    best = sorted(with_text, key=lambda r: (-r.helpful, -r.timestamp, r.user, r.item))[:n]
    return sorted(best, key=_age)


def _age(review: Review) -> tuple[float, str, str]:
    return (review.timestamp, review.user, review.item)
