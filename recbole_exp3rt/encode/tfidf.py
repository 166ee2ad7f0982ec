"""TF-IDF vectors of texts: sparse, of length 1, by words of the texts that they were fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer


class Tfidf:
    """Words weighted by (1 + log count) * idf, by scikit-learn; no vector is kept on disk."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Learn words and their frequencies from `texts`; words of other texts are not read."""
        self._made = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
        self._made.fit([*texts, "a"])  # at least one word, where no text has any

    def encode(self, texts: Sequence[str]) -> Any:
        """A sparse matrix: [n_texts, n_words]; a row of a text without a known word is 0."""
        return self._made.transform(texts)
