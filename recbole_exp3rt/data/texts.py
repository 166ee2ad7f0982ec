"""Joins review texts with train rows, also where a (user, item) pair occurs more than once.

A text is joined by user and item. If a pair has several rows or several texts, the time is
compared as well. A text that could belong to a row outside of train is never joined with a train
row. This module does not know RecBole or the format of the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

Pair = tuple[str, str]
Row = tuple[str, str, float]  # user, item, time in the data set's unit; NaN: no time
Text = tuple[str, str]  # title, text
TimedText = tuple[float, Text]  # the time on the line of a text, or NaN
T = TypeVar("T")  # a text, or what stands for it: equal for equal texts


@dataclass(frozen=True)
class OwnTexts(Generic[T]):
    """The text of each train row, or none if none certainly belongs to it; and counts of pairs."""

    texts: Sequence[T]  # [n_rows]
    outside: int  # train pairs that also have rows outside of train
    within: int  # pairs with several rows, all of them in train
    unknown: int  # pairs with a row whose text cannot be decided

    def note(self, sidecar: str) -> str:
        """The counts as a message that names the file `sidecar`; "" if all are 0."""
        parts = []
        if self.within:
            parts.append(
                f"{self.within:,} (user, item) pairs occur more than once in train: their latest "
                "review is used"
            )
        if self.outside:
            parts.append(
                f"{self.outside:,} train pairs occur again outside of train (validation, test or "
                "filtered rows): no text of those rows is read"
            )
        if self.unknown:
            parts.append(
                f"{self.unknown:,} pairs have no text in train, because it is not clear which text "
                f"belongs to which row; give each line of {sidecar} the `timestamp` of its row"
            )
        return "; ".join(parts)


def own_texts(
    rows: Sequence[Row],
    repeated: Iterable[Row],
    texts_of: Mapping[Pair, Sequence[tuple[float, T]]],
    nothing: T,
) -> OwnTexts[T]:
    """Choose a text for each of the train `rows` from `texts_of`: [n_rows]; `nothing`: it has none.

    `repeated` are the rows of all parts whose pair occurs more than once. A text belongs to a row
    if every row that it could belong to is a train row, and if there are not more texts than such
    rows, or only one different text. Of several such texts the last one is used.
    """
    files, pairs = _counts(repeated)
    several = pairs | {pair for pair, texts in texts_of.items() if len(texts) > 1}
    train, _ = _counts(row for row in rows if row[:2] in several)
    texts: list[T] = []
    unknown = set()
    for user, item, time in rows:
        found = texts_of.get((user, item), ())
        if (user, item) in several:
            own = _own((user, item), np.float32(time), files, train, found, nothing)
        else:
            own = found[0][1] if found else nothing
        if own is None:
            unknown.add((user, item))
        texts.append(nothing if own is None else own)
    outside = sum(files[pair] > train[pair] for pair in pairs if train[pair])
    within = sum(1 < train[pair] >= files[pair] for pair in several)
    return OwnTexts(texts, outside, within, len(unknown))


def _own(
    pair: Pair,
    time: np.float32,
    files: Mapping[object, int],
    train: Mapping[object, int],
    found: Sequence[tuple[float, T]],
    nothing: T,
) -> T | None:
    """The text that certainly belongs to a row; None if this cannot be decided.

    `files` and `train` count the rows of each pair, and of each pair and time.
    """
    if not found:
        return nothing
    same_time = [text for at, text in found if np.float32(at) == time]
    for key, texts in (((pair, time), same_time), (pair, [text for _, text in found])):
        if (
            texts
            # where fewer rows of the files are of that time than of train, it is another clock's
            and (files[key] == train[key] or not files[pair])
            and (len(texts) <= train[key] or len(set(texts)) == 1)
        ):
            return texts[-1]
    return None


def _counts(rows: Iterable[Row]) -> tuple[Counter[object], set[Pair]]:
    """Count the rows of each pair and of each pair with its time; also return the pairs.

    RecBole keeps times in single precision (steps of about two minutes today), so times are
    compared in single precision.
    """
    counts: Counter[object] = Counter()
    pairs: set[Pair] = set()
    for user, item, time in rows:
        counts[user, item] += 1
        counts[(user, item), np.float32(time)] += 1
        pairs.add((user, item))
    return counts, pairs
