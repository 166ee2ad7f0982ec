"""Which text is a row's own, where a (user, item) pair occurs more than once.

A text is joined by user and item; where these name several rows or several texts, by the time as
well. A text that may be of a row outside of train is never given to a train row. What this module
does not know: RecBole, the form of the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Pair = tuple[str, str]
Row = tuple[str, str, float]  # user, item, time; the time is NaN where there is none
Text = tuple[str, str]  # title, text
Written = tuple[float, Text]  # the time that stands beside a text, or NaN


@dataclass(frozen=True)
class OwnTexts:
    """The text of each train row, "" where none is surely its own, and how many pairs that are.

    `outside`: train pairs that have rows outside of train; `within`: those that have several rows,
    all in train; `untold`: those of which a row has no text, as its own cannot be told.
    """

    texts: Sequence[Text]
    outside: int
    within: int
    untold: int

    def note(self, sidecar: str) -> str:
        """What a run says of it, or nothing."""
        said = []
        if self.within:
            said.append(
                f"{self.within:,} (user, item) pairs occur more than once in train: their latest "
                "review counts"
            )
        if self.outside:
            said.append(
                f"{self.outside:,} train pairs occur again outside of train (validation, test or "
                "filtered rows): no text of those rows is read"
            )
        if self.untold:
            said.append(
                f"{self.untold:,} pairs have no text in train, as it cannot be told which text is "
                f"of which row; give each line of {sidecar} the `timestamp` of its row"
            )
        return "; ".join(said)


def own_texts(
    rows: Sequence[Row], everywhere: Iterable[Row], written: Mapping[Pair, Sequence[Written]]
) -> OwnTexts:
    """The texts of the train `rows` out of those `written`: [n_rows].

    `everywhere` are the rows of all parts whose pair occurs more than once there. A text is a
    row's own if every row that it could be of is a train row, and there are no more texts than
    such rows, or only one. Of several such texts the last one counts.
    """
    files, there = _counts(everywhere)
    several = there | {pair for pair, texts in written.items() if len(texts) > 1}
    train, _ = _counts(row for row in rows if row[:2] in several)
    texts: list[Text] = []
    untold = set()
    for user, item, time in rows:
        found = written.get((user, item), ())
        if (user, item) in several:
            own = _own((user, item), np.float32(time), files, train, found)
        else:
            own = found[0][1] if found else ("", "")
        if own is None:
            untold.add((user, item))
        texts.append(own or ("", ""))
    outside = sum(files[pair] > train[pair] for pair in there if train[pair])
    within = sum(1 < train[pair] >= files[pair] for pair in several)
    return OwnTexts(texts, outside, within, len(untold))


def _own(
    pair: Pair,
    time: np.float32,
    files: Mapping[object, int],
    train: Mapping[object, int],
    written: Sequence[Written],
) -> Text | None:
    """The text that is surely of a row; None: it cannot be told which one is."""
    if not written:
        return ("", "")
    then = [text for at, text in written if np.float32(at) == time]
    for key, texts in (((pair, time), then), (pair, [text for _, text in written])):
        if (
            texts
            # where fewer rows of the files are of that time than of train, it is another clock's
            and (files[key] == train[key] or not files[pair])
            and (len(texts) <= train[key] or len(set(texts)) == 1)
        ):
            return texts[-1]
    return None


def _counts(rows: Iterable[Row]) -> tuple[Counter[object], set[Pair]]:
    """How often each pair, and each pair with its time, occurs; and the pairs.

    RecBole keeps times in single precision, which is about two minutes today, so they are compared
    in it.
    """
    counts: Counter[object] = Counter()
    pairs: set[Pair] = set()
    for user, item, time in rows:
        counts[user, item] += 1
        counts[(user, item), np.float32(time)] += 1
        pairs.add((user, item))
    return counts, pairs
