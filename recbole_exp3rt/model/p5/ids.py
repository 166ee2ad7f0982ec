"""The words that stand for users and items in P5's prompts, made from train pairs alone.

No number follows the order of appearance: a user's items would have consecutive numbers then, and
"the last one + 1" would often be right.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recbole_exp3rt.config.systems import IdKind

Pair = tuple[str, str]  # raw tokens of a user and an item
Path = tuple[int, ...]


@dataclass(frozen=True)
class Ids:
    """Raw token of each train user and item -> its word, such as `item_8231`.

    `paths` maps a word to its new tokens, numbered from 0 to `n_tokens`; a word that is not in it
    is spelled by the tokenizer, digit by digit. `prefixed`: `item_` stands before the new tokens.
    """

    users: dict[str, str]
    items: dict[str, str]
    paths: dict[str, Path] = field(default_factory=dict)
    n_tokens: int = 0
    prefixed: bool = True


def make_ids(kind: IdKind, pairs: Iterable[Pair], seed: int, clusters: int) -> Ids:
    """The words of all users and items of the train `pairs`; the same pairs give the same words.

    random: numbers in random order. collaborative: an item's word is its way through clusters of
    items with the same users, at most `clusters` branches a step (OpenP5, arXiv 2306.11134).
    independent: one new token for each user and item (Hua et al., arXiv 2305.06569).
    """
    rows = sorted(set(pairs))
    users, items = sorted({user for user, _ in rows}), sorted({item for _, item in rows})
    numbers = {"user": _numbers(users, seed), "item": _numbers(items, seed + 1)}
    words = {
        side: {token: f"{side}_{number}" for token, number in of_side.items()}
        for side, of_side in numbers.items()
    }
    if kind == "random":
        return Ids(words["user"], words["item"])
    if kind == "independent":
        paths: dict[str, Path] = {w: (k,) for k, w in enumerate(words["user"].values())}
        paths |= {word: (k,) for k, word in enumerate(words["item"].values(), len(paths))}
        return Ids(words["user"], words["item"], paths, len(paths), prefixed=False)
    row, column = ({token: k for k, token in enumerate(tokens)} for tokens in (users, items))
    at = ([row[user] for user, _ in rows], [column[item] for _, item in rows])
    seen = sp.csr_matrix((np.ones(len(rows)), at), shape=(len(users), len(items)))
    found = cluster_paths(seen.T @ seen, clusters, seed)
    named = {item: "item_" + "_".join(map(str, found[k])) for item, k in column.items()}
    paths = {word: found[column[item]] for item, word in named.items()}
    return Ids(words["user"], named, paths, clusters)


def _numbers(tokens: Sequence[str], seed: int) -> dict[str, int]:
    """A different number from 1 on for each token, in random order."""
    order = np.random.default_rng(seed).permutation(len(tokens)) + 1
    return dict(zip(tokens, order.tolist(), strict=True))


def cluster_paths(together: Any, branches: int, seed: int) -> list[Path]:
    """The way of each item through nested clusters; every way is another one: [n_items].

    `together` [n_items, n_items] counts the users that two items share. A cluster of over
    `branches` items is clustered again; in a smaller one, items are numbered in random order.
    """
    together = sp.csr_matrix(together, dtype=np.float64)
    together.setdiag(0)
    together.eliminate_zeros()
    random = np.random.default_rng(seed)
    paths: list[Path] = [()] * together.shape[0]
    waiting: list[tuple[Path, NDArray[Any]]] = [((), np.arange(len(paths)))]
    while waiting:
        path, members = waiting.pop()
        if len(members) <= branches:
            for number, member in enumerate(random.permutation(members).tolist()):
                paths[member] = (*path, number)
            continue
        labels = _clusters(together[members][:, members], branches, seed)
        if len(np.unique(labels)) == 1:  # nothing tells them apart
            labels = random.permutation(len(members)) % branches
        waiting += [((*path, int(k)), members[labels == k]) for k in np.unique(labels)]
    return paths


def _clusters(together: Any, branches: int, seed: int) -> NDArray[Any]:
    """Cluster of each item, by spectral clustering; items alone are one more or less: [n]."""
    from sklearn.cluster import SpectralClustering

    joined = np.asarray(together.sum(axis=1)).ravel() > 0
    labels = np.zeros(len(joined), dtype=np.int64)  # items that share no user: the first cluster
    n = int(joined.sum())
    if n <= branches:
        labels[joined] = np.arange(n)
        return labels
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        spectral = SpectralClustering(
            branches, affinity="precomputed", assign_labels="cluster_qr", random_state=seed
        )
        labels[joined] = spectral.fit_predict(together[joined][:, joined])
    return labels
