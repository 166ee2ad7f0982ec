"""CSV in blocks of columns: Arrow splits the rows whose form leaves no doubt, Python the others.

A row begins at a line. Where a row of one line or of several is well-formed, which a regular
expression decides, every reader finds the same cells in it. At the first row that is not, Python's
reader (`rows.Table`) takes the lines that it takes, and says where the next row begins. So stray
quotation marks, rows of another length, empty lines and old ends of lines are read as before.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from dataset_converters.blocks import Places, Progress, in_utf8, offsets_of, whole_lines
from dataset_converters.cleaning import Dropped
from dataset_converters.read import Lines, opened
from dataset_converters.rows import Record, Table

MOST_COLUMNS = 100  # of a table that is read in blocks


@dataclass(frozen=True)
class Cells:
    """Some rows: the lines where they begin, a column for each that is asked for, the others."""

    lines: Places  # [rows]
    columns: dict[str, pa.Array]  # [rows] of text
    others: list[tuple[int, Record | Dropped]]  # the lines and rows that Python read


def cells(table: Table, wanted: Sequence[str], progress: Progress) -> Iterator[Cells]:
    """Yield the rows of a CSV file in blocks, in their order within each list.

    Raises: UsageError as `read.lines` does.
    """
    path, rest, before = table.path, b"", 0
    progress.begin([path])
    with opened(path) as file:
        waiting = None
        for data in _and_none(whole_lines(file, path)):
            if waiting is not None:
                block = _Block(table, rest + in_utf8(waiting), before, final=data is None)
                if not before:
                    block.at = 1  # the header
                block.walk()
                progress.at(path, file.taken(), block.at)
                yield block.cells(wanted)
                rest, before = block.data[block.offsets[block.at] :], before + block.at
            waiting = data


def _and_none(blocks: Iterator[bytes]) -> Iterator[bytes | None]:
    yield from blocks
    yield None


@dataclass
class _Block:
    """Lines of a file, and how far its rows are known: up to line `at`, from 0."""

    table: Table
    data: bytes
    before: int  # lines before the block
    final: bool  # the file ends with it
    at: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)  # bytes of well-formed rows
    firsts: list[Places] = field(default_factory=list)  # their first lines
    others: list[tuple[int, Record | Dropped]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Find the lines, and which of them begin inside quotation marks, by those before."""
        self.offsets = offsets_of(self.data, self.before, self.table.path)
        marks = np.flatnonzero(np.frombuffer(self.data, np.uint8) == ord('"'))
        self.odd = np.searchsorted(marks, self.offsets[:-1]) % 2
        self.groups: dict[int, tuple[Places, Places]] = {}

    def walk(self) -> None:
        """Find rows until the end, or until a row that may go on in the next block."""
        count = len(self.offsets) - 1
        while self.at < count:
            starts, bad = self._group(int(self.odd[self.at]))
            first = int(np.searchsorted(starts, self.at))
            after = int(np.searchsorted(bad, first))
            stop = int(bad[after]) if after < len(bad) else len(starts)
            end = int(starts[stop]) if stop < len(starts) else count
            if stop > first:
                self.spans.append((int(self.offsets[self.at]), int(self.offsets[end])))
                self.firsts.append(starts[first:stop])
                self.at = end
            if end < count and not self._in_python():
                return

    def _group(self, odd: int) -> tuple[Places, Places]:
        """The first lines of rows if rows begin after `odd` marks; which of them are no rows."""
        if odd not in self.groups:
            starts = np.flatnonzero(self.odd == odd)
            offsets = np.append(self.offsets[starts], len(self.data))
            buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self.data)]
            rows = pa.Array.from_buffers(pa.large_string(), len(starts), buffers)
            good: npt.NDArray[np.bool_] = np.diff(offsets) <= csv.field_size_limit()
            for pattern in (_well_formed(self.table), "[!-~]"):
                good &= pc.match_substring_regex(rows, pattern).to_numpy(zero_copy_only=False)
            self.groups[odd] = starts, np.flatnonzero(~good)
        return self.groups[odd]

    def _in_python(self) -> bool:
        """Read the row at line `at` as Python does; False if it needs lines after the block."""
        ended = False

        def rest() -> Iterator[str]:
            nonlocal ended
            for begin, end in zip(self.offsets[self.at :], self.offsets[self.at + 1 :]):  # noqa: B905
                yield self.data[begin:end].decode()
            ended = True

        text = Lines(rest())
        row = self.table.next_row(text)
        if ended and not self.final:
            return False
        if row is not None:
            self.others.append((self.before + self.at + 1, row))
        self.at += text.number
        return True

    def cells(self, wanted: Sequence[str]) -> Cells:
        """The rows that were found."""
        names = self.table.columns
        if not self.spans:
            return Cells(np.zeros(0, np.int64), _empty(wanted), self.others)
        data = b"".join(self.data[begin:end] for begin, end in self.spans)
        found = arrow_csv.read_csv(
            pa.BufferReader(data),
            arrow_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
            arrow_csv.ParseOptions(delimiter=self.table.separator, newlines_in_values=True),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=list(dict.fromkeys(wanted)),
                strings_can_be_null=False,
            ),
        )
        lines = np.concatenate(self.firsts) + self.before + 1
        assert len(lines) == found.num_rows
        return Cells(lines, {name: found[name].combine_chunks() for name in wanted}, self.others)


def _well_formed(table: Table) -> str:
    """A row: as many cells as the header has, in quotation marks or without any.

    A line feed or the separator stands only between quotation marks.
    """
    mark = re.escape(table.separator)
    cell = rf'(?:"(?:[^"\x00]|"")*"|[^"{mark}\r\n\x00]*)'
    return rf"\A{cell}(?:{mark}{cell}){{{len(table.columns) - 1}}}(?:\r?\n)?\z"


def _empty(wanted: Sequence[str]) -> dict[str, Any]:
    return {name: pa.array([], pa.string()) for name in wanted}
