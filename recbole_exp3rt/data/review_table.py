"""Train rows as columns, and the reviews of a user or an item made of them when they are asked for.

A row takes 24 bytes; its text is read from the review file when its review is needed.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recbole_exp3rt.corpus import Corpus, Rated
from recbole_exp3rt.data.texts import Pair, Text
from recbole_exp3rt.records import Description, Review

NO_TEXT = -1  # the position of the text of a row without one


class Texts(Protocol):
    """Where texts are read from."""

    def texts(self, positions: Iterable[int]) -> Iterator[Text]:
        """Title and text of each position."""
        ...


class ReviewTable:
    """The rows of a corpus as columns [n_rows], oldest first; of each pair the latest row.

    `users` and `items` number the tokens. `positions` say where `file` has the texts.
    """

    def __init__(
        self,
        tokens: tuple[Sequence[str], Sequence[str]],
        ends: tuple[NDArray[Any], NDArray[Any]],
        columns: Mapping[str, NDArray[Any]],
        file: Texts | None,
    ) -> None:
        """`tokens` of users and items, `ends` their numbers in each row: [n_rows]. `columns` are
        `rating`, `time`, `helpful` and `position`: [n_rows], in any order of rows."""
        order = _latest(tokens, ends, columns["time"])
        self.tokens = tokens
        self.users, self.items = (end[order].astype(np.int32) for end in ends)
        self.ratings, self.times, self.votes, self.positions = (
            columns[name][order] for name in ("rating", "time", "helpful", "position")
        )
        self.file = file
        self._texts: dict[int, Text] = {}  # row -> text; nothing is taken out, so threads may share
        self._made: dict[int, Review] = {}  # row -> review
        self.by_user = Reviews(self, tokens[0], self.users)
        self.by_item = Reviews(self, tokens[1], self.items)

    def corpus(self, descriptions: Mapping[str, Description]) -> Corpus:
        """A corpus of these rows."""
        return Corpus.over(self.by_user, self.by_item, descriptions, self.prepare)

    def prepare(self, pairs: Iterable[Pair]) -> None:
        """Read the texts that the profiles of these pairs need, in one reading of the file."""
        users, items = map(dict.fromkeys, zip(*pairs, strict=True)) if pairs else ({}, {})
        rows = [self.by_user.rows(user) for user in users]
        rows += [self.by_item.rows(item) for item in items]
        if rows:
            self.read(np.unique(np.concatenate(rows)))

    def read(self, rows: NDArray[Any]) -> None:
        """Read the texts of rows that were not read yet."""
        new = [row for row in rows.tolist() if row not in self._texts]
        positions = self.positions[new]
        order = np.argsort(positions, kind="stable")
        order = order[positions[order] != NO_TEXT]
        if self.file is not None and len(order):
            found = self.file.texts(positions[order].tolist())
            self._texts.update(zip(np.array(new)[order].tolist(), found, strict=True))

    def reviews(self, rows: NDArray[Any]) -> list[Review]:
        """The reviews of rows, made once."""
        self.read(rows)
        for row in rows.tolist():
            if row not in self._made:
                title, text = self._texts.get(row, ("", ""))
                self._made[row] = Review(
                    self.tokens[0][self.users[row]],
                    self.tokens[1][self.items[row]],
                    self.ratings[row].item(),
                    text,
                    title,
                    self.times[row].item(),
                    int(self.votes[row]),
                )
        return [self._made[row] for row in rows.tolist()]


class Reviews(Mapping[str, list[Review]]):
    """User or item -> its reviews, oldest first. Ids come in the order of their first reviews."""

    def __init__(self, table: ReviewTable, tokens: Sequence[str], numbers: NDArray[Any]) -> None:
        self._table = table
        self._tokens = tokens
        self._order = np.argsort(numbers, kind="stable").astype(np.int32)  # rows, id by id
        counts = np.bincount(numbers, minlength=len(tokens))
        self._ends = np.cumsum(counts)
        there = np.flatnonzero(counts)
        first = self._order[self._ends[there] - counts[there]]
        self._ids = there[np.argsort(first, kind="stable")]  # numbers of ids with reviews
        self._known: dict[str, list[Review]] = {}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {self._tokens[number]: number for number in self._ids.tolist()}

    def rows(self, key: str) -> NDArray[Any]:
        """The rows of an id; none for an unknown one."""
        number = self._numbers.get(key)
        if number is None:
            return self._order[:0]
        return self._order[self._ends[number - 1] if number else 0 : self._ends[number]]

    def rated(self) -> Iterator[Rated]:
        """(user, item, rating) of all rows, id by id; no text is read."""
        table = self._table
        for number in self._ids.tolist():
            rows = self._order[self._ends[number - 1] if number else 0 : self._ends[number]]
            ends = zip(table.users[rows].tolist(), table.items[rows].tolist(), strict=True)
            for (user, item), rating in zip(ends, table.ratings[rows].tolist(), strict=True):
                yield table.tokens[0][user], table.tokens[1][item], rating

    def __getitem__(self, key: str) -> list[Review]:
        if key not in self._known:
            if key not in self._numbers:
                raise KeyError(key)
            self._known[key] = self._table.reviews(self.rows(key))
        return self._known[key]

    def __contains__(self, key: object) -> bool:
        return key in self._numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._ids)

    def values(self) -> ValuesView[list[Review]]:
        """The reviews of all ids; all texts are read, in one reading of the file."""
        self._table.read(self._order)
        return super().values()

    def items(self) -> ItemsView[str, list[Review]]:
        """As `values`, with the ids."""
        self._table.read(self._order)
        return super().items()


def _latest(
    tokens: tuple[Sequence[str], Sequence[str]],
    ends: tuple[NDArray[Any], NDArray[Any]],
    times: NDArray[Any],
) -> NDArray[np.int64]:
    """The latest row of each pair, by time, then user id, then item id.

    At equal times, the last of the rows counts.
    """
    users, items = ends
    codes = users.astype(np.int64) * len(tokens[1]) + items
    by_time = np.argsort(times, kind="stable")[::-1]
    _, first = np.unique(codes[by_time], return_index=True)
    kept = by_time[first]
    ranks = []
    for names, numbers in zip(tokens, ends, strict=True):
        rank = np.empty(len(names), dtype=np.int64)
        rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        ranks.append(rank[numbers[kept]])
    order: NDArray[np.int64] = kept[np.lexsort((ranks[1], ranks[0], times[kept]))]
    return order
