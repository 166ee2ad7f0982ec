"""Which train reviews of a user and of an item say most about each other, by their texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.records import Review, Subject

Encode = Callable[[Sequence[str]], Any]  # texts -> rows of length 1, dense or sparse
Choice = tuple[list[Review], list[Review]]  # of the user, of the item; the most relevant last
DIGITS = 6  # more decimals are rounding errors, which must not change an order


class Relevance:
    """Orders the written reviews of both sides of a pair, without the pair's own.

    A review of the user counts by its cosine with the item: its description plus the mean of its
    reviews. A review of the item counts by its cosine with the mean of the user's reviews. Of
    equal ones, and without `encode`, the newer counts more.
    """

    def __init__(self, corpus: Corpus, encode: Encode | None) -> None:
        self.corpus = corpus
        self.encode = encode
        self._known: dict[tuple[Subject, str], tuple[list[Review], Any]] = {}
        self._described: dict[str, Any] = {}

    def choose(self, user: str, item: str, most: int) -> Choice:
        """At most `most` reviews of each side."""
        (own, of_own), (others, of_others) = self._side("user", user), self._side("item", item)
        kept = [k for k, review in enumerate(own) if review.item != item]
        other = [k for k, review in enumerate(others) if review.user != user]
        own, others = [own[k] for k in kept], [others[k] for k in other]
        if self.encode is None:
            return own[-most:], others[-most:]
        about_item = _mean(of_others, other) + self._description(item)
        about_user = _mean(of_own, kept)
        return (
            _best(own, of_own, kept, about_item, most),
            _best(others, of_others, other, about_user, most),
        )

    def _side(self, subject: Subject, key: str) -> tuple[list[Review], Any]:
        """The written reviews of a user or item, oldest first, and their vectors."""
        if (subject, key) not in self._known:
            corpus = self.corpus
            rows = corpus.user_reviews(key) if subject == "user" else corpus.item_reviews(key)
            written = [review for review in rows if review.is_written]
            texts = [f"{review.title}\n{review.text}" for review in written]
            vectors = self.encode(texts) if self.encode and texts else None
            self._known[subject, key] = (written, vectors)
        return self._known[subject, key]

    def _description(self, item: str) -> Any:
        if item not in self._described:
            lines = self.corpus.description(item).lines
            text = "\n".join(value for _, value in lines)
            self._described[item] = _mean(self.encode([text]), [0]) if text and self.encode else 0.0
        return self._described[item]


def _mean(vectors: Any, rows: Sequence[int]) -> Any:
    """The mean of these rows: [dimension]; 0 without any."""
    return np.asarray(vectors[rows].mean(axis=0)).ravel() if len(rows) else 0.0


def _best(
    reviews: Sequence[Review], vectors: Any, rows: Sequence[int], query: Any, most: int
) -> list[Review]:
    """The `most` reviews, whose vectors are these rows, most similar to `query`; the best last.

    The length of `query` does not matter: it scales all similarities alike.
    """
    if not len(rows) or np.ndim(query) == 0:  # nothing to compare with: the newest
        return list(reviews[-most:])
    alike = np.round(vectors[rows] @ query, DIGITS)  # [n_rows]
    order = np.argsort(alike, kind="stable")[-most:]
    return [reviews[k] for k in order]
