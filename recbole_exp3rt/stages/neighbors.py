"""Similar users, by their train ratings (paper, section 3.5.2 and Appendix B).

`similarity.py` says what similar means, `similar_users.py` computes it for many pairs at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.stages.similar_users import RatingTable


class Neighbors:
    """Ranks the users who have rated an item by their similarity to a user, in the train part."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self._ranked: dict[tuple[str, str, int], tuple[str, ...]] = {}

    def nearest(self, user: str, item: str, raters: Iterable[str], n: int) -> tuple[str, ...]:
        """The `n` users of `raters` most similar to `user`, best first; without the user itself.

        At equal similarities the user with more items in common wins, then the smaller id. The
        user's rating of `item` is ignored, as a common item and in the user's mean.
        """
        self.rank([user], item, raters, n)
        return self._ranked[user, item, n]

    def rank(self, users: Iterable[str], item: str, raters: Iterable[str], n: int) -> None:
        """Find the answers of `nearest` for many users of one item: much faster than one by one."""
        new = [user for user in dict.fromkeys(users) if (user, item, n) not in self._ranked]
        if not new:
            return
        numbers, tokens, without = self._users, self._tokens, self._items.get(item)
        asked = [self._table.rater(numbers[user], without) for user in new if user in numbers]
        ids = np.array(sorted(numbers[rater] for rater in set(raters)), dtype=np.int64)
        found = iter(self._table.nearest(asked, ids, n))
        strangers = tuple(tokens[k] for k in ids[:n].tolist())  # of equal similarity: none
        for user in new:
            near = (tokens[k] for k in next(found).tolist()) if user in numbers else strangers
            self._ranked[user, item, n] = tuple(near)

    @cached_property
    def _users(self) -> dict[str, int]:
        """User -> number, in the order of the ids."""
        return {user: number for number, user in enumerate(sorted(self.corpus.by_user))}

    @cached_property
    def _tokens(self) -> list[str]:
        """Number -> user."""
        return list(self._users)

    @cached_property
    def _items(self) -> dict[str, int]:
        """Item -> number, in any order."""
        items = dict.fromkeys(item for _, item, _ in self.corpus.rated_by_user())
        return {item: number for number, item in enumerate(items)}

    @cached_property
    def _table(self) -> RatingTable:
        """The ratings of all users."""
        users, items = self._users, self._items
        rows = np.fromiter(
            ((users[u], items[i], rating) for u, i, rating in self.corpus.rated_by_user()),
            dtype=[("user", np.int32), ("item", np.int32), ("rating", np.float64)],
        )
        return RatingTable(rows["user"], rows["item"], rows["rating"])
