"""Vectors of train reviews and of descriptions, pooled by user and by item.

It reads the train part alone, and the description of every item. Vectors are measured from the
mean vector of their kind, so a text like all others is near 0.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.data.review_file import review_file_of
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.encode.encoders import StoredEncoder, Vectors, identity_of, load_encoder
from recbole_exp3rt.encode.texts import description_text, review_text

AT_ONCE = 4096  # rows of one piece: memory is linear in the rows, and small in the features
Ids = NDArray[np.int64]
Pooled = tuple[Vectors, Vectors]  # of users, of items


@dataclass(frozen=True, eq=False)
class TextVectors:
    """The texts of a train part as vectors; a pair of a user and an item counts once.

    `users`, `items`: inner ids of the pairs, [n_pairs]. `reviews`: [n_pairs, dimension];
    `descriptions`: [n_items, dimension]; both are 0 where there is no text. `written`, `described`:
    1 where there is one, else 0. `review_mean`: what was subtracted from each review, [dimension].
    """

    n_users: int
    users: Ids
    items: Ids
    reviews: Vectors
    written: Vectors
    descriptions: Vectors
    described: Vectors
    review_mean: Vectors | float = 0.0
    moments: dict[float, Any] = field(default_factory=dict)  # of features, by shrinkage

    @property
    def n_items(self) -> int:
        """Number of inner item ids, padding included."""
        return len(self.described)

    def pooled(self, shrinkage: float = 0.0) -> Pooled:
        """Vectors of users [n_users, dimension] and of items [n_items, dimension].

        sum of the texts / (number of texts + shrinkage); 0 without a text. The description is one
        text of its item.
        """
        (users, items), (user_counts, item_counts) = self._sums, self._counts
        return _mean(users, user_counts, shrinkage), _mean(items, item_counts, shrinkage)

    def without_own(self, pairs: slice, shrinkage: float = 0.0) -> Pooled:
        """As `pooled`, for train pairs, each without its own review: twice [pairs, dimension]."""
        own, one = self.reviews[pairs], self.written[pairs]
        user, item = self.users[pairs], self.items[pairs]
        (users, items), (user_counts, item_counts) = self._sums, self._counts
        return (
            _mean(users[user] - own, user_counts[user] - one, shrinkage),
            _mean(items[item] - own, item_counts[item] - one, shrinkage),
        )

    @cached_property
    def _sums(self) -> Pooled:
        ones, rows = np.ones(len(self.users), dtype=np.float32), np.arange(len(self.users))
        by_user = sp.csr_matrix((ones, (self.users, rows)), shape=(self.n_users, len(rows)))
        by_item = sp.csr_matrix((ones, (self.items, rows)), shape=(self.n_items, len(rows)))
        return by_user @ self.reviews, by_item @ self.reviews + self.descriptions

    @cached_property
    def _counts(self) -> Pooled:
        users = np.bincount(self.users, self.written, self.n_users)
        items = np.bincount(self.items, self.written, self.n_items) + self.described
        return users.astype(np.float32), items.astype(np.float32)


def text_vectors(config: Any, dataset: Any) -> TextVectors:
    """The vectors of the texts of `dataset`, a train part. The last ones made are kept in memory.

    Raises: UsageError if there are no reviews; LLMError if the encoder cannot be had.
    """
    global _last
    key = _key(config, dataset)
    if _last is None or _last[0] != key:
        _last = None  # frees its memory before
        _last = (key, _read(config, dataset))
    return _last[1]


_last: tuple[str, TextVectors] | None = None


def _read(config: Any, dataset: Any) -> TextVectors:
    read = Reader(config)
    described = read.names("description_fields")
    corpus = corpus_of(dataset, described, read.text_or_none("review_file"))
    uid, iid = dataset.uid_field, dataset.iid_field
    user_ids, item_ids = dataset.field2token_id[uid], dataset.field2token_id[iid]
    reviews = [review for rows in corpus.by_user.values() for review in rows]
    users = np.array([user_ids[review.user] for review in reviews], dtype=np.int64)
    items = np.array([item_ids[review.item] for review in reviews], dtype=np.int64)
    texts = [review_text(review) for review in reviews]
    tokens = dataset.field2id_token[iid]
    about = [description_text(corpus.description(str(token))) for token in tokens]
    encoder = encoder_of(config)
    seen = np.isin(np.arange(len(tokens)), items)
    # Each kind from its own mean: that of descriptions is of the train items alone.
    every = np.ones(len(texts), bool)
    review_vectors, written, mean = _centred(encoder.encode(texts), texts, every)
    descriptions, has, _ = _centred(encoder.encode(about), about, seen)
    n_users = len(dataset.field2id_token[uid])
    return TextVectors(
        n_users, users, items, review_vectors, written, descriptions, has, review_mean=mean
    )


def _centred(
    vectors: Vectors, texts: list[str], counted: NDArray[np.bool_]
) -> tuple[Vectors, Vectors, Vectors]:
    """Vectors minus the mean of those that count, where there is a text: 1 or 0, and the mean."""
    has = np.array([bool(text.strip()) for text in texts])
    mean = np.zeros(vectors.shape[1], dtype=np.float32)
    if (has & counted).any():
        mean = vectors[has & counted].mean(axis=0, dtype=np.float64).astype(np.float32)
        vectors[has] -= mean
    return vectors, has.astype(np.float32), mean


def _mean(sums: Vectors, counts: Vectors, shrinkage: float) -> Vectors:
    """sums / (counts + shrinkage), 0 where nothing is counted: [n, dimension]."""
    weights = np.where(counts > 0, 1 / np.maximum(counts + shrinkage, 1e-12), 0)
    made: Vectors = sums * weights[:, None].astype(np.float32)
    return made


def _key(config: Any, dataset: Any) -> str:
    """Digest of all that the vectors depend on: rows, files, fields, encoder."""
    digest = hashlib.sha256()
    for name in (dataset.uid_field, dataset.iid_field, dataset.time_field):
        if name is not None and name in dataset.inter_feat:
            digest.update(np.ascontiguousarray(dataset.inter_feat[name]).tobytes())
    for name in (dataset.uid_field, dataset.iid_field):
        digest.update("\n".join(map(str, dataset.field2id_token[name])).encode("utf-8", "replace"))
    folder, name = Path(dataset.dataset_path), dataset.dataset_name
    reviews = review_file_of(folder, name, config["review_file"])
    for path in (reviews, folder / f"{name}.item"):
        if path.is_file():
            about = path.stat()
            digest.update(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())
    settings = ("description_fields", "review_fields", "vector_store")
    digest.update(repr([config[key] for key in settings]).encode())
    digest.update(identity_of(str(config["encoder"]), config["encoder_tokens"]).encode())
    return digest.hexdigest()


def encoder_of(config: Any) -> StoredEncoder:
    """The sentence encoder of the settings, with its store. Raises: LLMError, UsageError."""
    read = Reader(config)
    return load_encoder(
        read.text("encoder"),
        read.text("vector_store"),
        str(config["device"]),
        read.whole_or_none("encoder_tokens"),
    )
