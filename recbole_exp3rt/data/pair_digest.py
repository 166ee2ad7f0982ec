"""The digest of a split, made over columns: the same bytes as over lists of pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]  # users, items, times: [n_rows]
CHUNK = 100_000  # lines that are hashed at once


def digest_of(
    parts: Mapping[str, Columns], user_tokens: Sequence[str], item_tokens: Sequence[str]
) -> str:
    """SHA-256, in hex, of the sorted lines of each part: user, tab, item.

    Users and items are numbers of their tokens. A pair with several rows in all parts together has
    a line for each, with its time.
    """
    users, items = np.array(user_tokens, dtype=object), np.array(item_tokens, dtype=object)
    user_rank, item_rank = _ranks(users), _ranks(items)
    by_rank = users[np.argsort(user_rank)], items[np.argsort(item_rank)]
    codes = {
        name: user_rank[user].astype(np.int64) * len(items) + item_rank[item]
        for name, (user, item, _) in parts.items()
    }
    repeated = _repeated(np.concatenate(list(codes.values())))
    digest = hashlib.sha256()
    for name, (_, _, times) in parts.items():
        digest.update(f"\x00{name}\n".encode())
        own = codes[name]
        rows = np.flatnonzero(np.isin(own, repeated))
        known = [""] * len(rows) if times is None else [str(time) for time in times[rows]]
        at: dict[int, list[str]] = {}
        for code, time in sorted(zip(own[rows].tolist(), known, strict=True)):
            at.setdefault(code, []).append(time)
        ordered = np.sort(own)
        for start in range(0, len(ordered), CHUNK):
            some = ordered[start : start + CHUNK]
            pairs = zip(by_rank[0][some // len(items)], by_rank[1][some % len(items)], strict=True)
            lines = [f"{user}\t{item}\n" for user, item in pairs]
            for k in np.flatnonzero(np.isin(some, repeated)).tolist():
                lines[k] = f"{lines[k][:-1]}\t{at[int(some[k])].pop(0)}\n"
            digest.update("".join(lines).encode())
    return digest.hexdigest()


def _ranks(tokens: NDArray[np.object_]) -> NDArray[np.int64]:
    """The place of each token in their order as strings: [n_tokens]."""
    order = np.array(sorted(range(len(tokens)), key=tokens.__getitem__), dtype=np.int64)
    ranks = np.empty(len(tokens), dtype=np.int64)
    ranks[order] = np.arange(len(tokens))
    return ranks


def _repeated(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The codes that occur more than once."""
    found, counts = np.unique(codes, return_counts=True)
    return found[counts > 1]
