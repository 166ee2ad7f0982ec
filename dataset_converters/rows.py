"""The rows of one table in bounded memory: CSV, TSV, JSON lines, a JSON array, parquet.

The content decides, not the file's name; `.gz` files are unpacked. A row that cannot be read is
`Dropped`, for the caller to count.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_converters.cleaning import Dropped
from dataset_converters.nested import Shape, shape_of
from dataset_converters.read import Lines, beginning, lines, numbered_records
from recbole_exp3rt.errors import UsageError

Record = dict[str, Any]

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_FIRST = 1_000  # records of a JSON file whose fields are its columns
_BATCH = 1_000  # rows of a parquet file that are held at a time
_MALFORMED = Dropped("malformed")
_UNCLOSED = Dropped("quotation mark that is not closed, or a line that is no row")


class Table:
    """The rows of a file, read as often as asked.

    `form` says what the file is, `columns` the names of its columns.
    Raises: UsageError for a file that cannot be read or is none of the known forms.
    """

    def __init__(self, path: Path, option: str = "FILE") -> None:
        self.path = path
        if not path.is_file():
            raise UsageError(
                f"{option}={path} is not a file; name a CSV, TSV, JSON or parquet file"
            )
        head = beginning(path)
        if not head.strip():
            raise UsageError(f"{path} is empty; name a file with rows")
        start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:4]
        self.separator = ""
        self.shape: Shape | None = None  # of JSON with reviews inside records
        if start == b"PAR1":
            self.form, self._read = "parquet", self._parquet
            self.columns = self._names() or list(self.opened().schema_arrow.names)
        elif start[:1] in (b"{", b"["):
            self.shape = shape_of(path)
            self.form, self._read = "JSON", self._json
            if self.shape:
                inside = f" in {self.shape.inside}" if self.shape.inside else ""
                self.form = f"JSON, the reviews of each {self.shape.side}{inside}"
            self.columns = self._names()
        else:
            if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head[:1000]:
                raise UsageError(f"{path} is no text in UTF-8; save it as UTF-8, or as parquet")
            if start[:4] == b"PK\x03\x04":
                raise UsageError(f"{path} is a workbook or a zip file; save its table as CSV")
            first = next(lines(path), "")
            self.separator = max(_SEPARATORS, key=first.count)
            self.form = f"CSV with {_SEPARATORS[self.separator]}"
            self._read = self._csv
            self.columns = _unique(self._cells(Lines([first])) or [])

    def rows(self) -> Iterator[Record | Dropped]:
        """Each row as column -> value; nested records as `author.id`."""
        return (row for _, row in self._read())

    def numbered(self) -> Iterator[tuple[int, Record | Dropped]]:
        """Each row and its first line; of an array or of parquet, its number."""
        return self._read()

    def _names(self) -> list[str]:
        found = (row for row in islice(self.rows(), _FIRST) if isinstance(row, dict))
        return list(dict.fromkeys(name for row in found for name in row))

    def _json(self) -> Iterator[tuple[int, Record | Dropped]]:
        found = numbered_records(self.path)
        if self.shape:  # a review's number, as several stand in one record
            found = enumerate(self.shape.rows(self.path), start=1)
        for number, row in found:
            yield number, flat(row)

    def opened(self) -> pq.ParquetFile:
        """The parquet file. Raises: UsageError if it is none."""
        with self._readable():
            return pq.ParquetFile(self.path)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"{self.path} is no readable parquet file ({error})") from None

    def _parquet(self) -> Iterator[tuple[int, Record | Dropped]]:
        number = 0
        with self._readable():
            for batch in self.opened().iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, dict(_flat(row))

    def batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Some columns of the parquet file, `size` rows at a time. Raises: as `opened` does."""
        with self._readable():
            yield from self.opened().iter_batches(batch_size=size, columns=list(columns))

    def _cells(self, text: Iterable[str], strict: bool = False) -> list[str] | None:
        """The next row; None at the end, or where it is none. Raises: csv.Error."""
        return next(csv.reader(text, delimiter=self.separator, strict=strict), None)

    def _csv(self) -> Iterator[tuple[int, Record | Dropped]]:
        """Rows of as many cells as the header has.

        Where several lines are no row, the first of them is dropped and reading goes on with the
        second: a quotation mark that is not closed costs one row.
        """
        text = Lines(lines(self.path))
        next(text, None)
        while True:
            begin = text.number + 1
            row = self.next_row(text)
            if row is not None:
                yield begin, row
            elif not text.taken:
                return

    def next_row(self, text: Lines) -> Record | Dropped | None:
        """The row that begins with the next line; None for an empty line or no line."""
        text.taken = []
        try:
            cells = self._cells(text, strict=True)
        except csv.Error:
            cells = None
        if not text.taken or (len(text.taken) == 1 and text.taken[0].isspace()):
            return None
        if cells is None or len(cells) != len(self.columns):
            several = len(text.taken) > 1
            text.give_back(1)
            cells = None if several else self._leniently(text.taken[0])
        if cells is None:
            return _UNCLOSED if several else _MALFORMED
        return dict(zip(self.columns, cells, strict=True))

    def _leniently(self, line: str) -> list[str] | None:
        """A line with stray quotation marks, if it has as many cells as the header."""
        try:
            cells = self._cells([line])
        except csv.Error:
            return None
        return cells if cells is not None and len(cells) == len(self.columns) else None


def flat(row: object) -> Record | Dropped:
    """A record with the values of nested ones as `author.id`."""
    return dict(_flat(row)) if isinstance(row, dict) else _MALFORMED


def _flat(row: Record, before: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values; those of a nested record (two levels) as `author.id`."""
    for name, value in row.items():
        if isinstance(value, dict) and before.count(".") < 2:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _unique(names: list[str]) -> list[str]:
    """Names of columns: those without one get one, those that occur again get a number."""
    found: dict[str, None] = {}
    for number, name in enumerate(names, start=1):
        plain = name.strip() or f"column{number}"
        found[f"{plain}.{number}" if plain in found else plain] = None
    return list(found)
