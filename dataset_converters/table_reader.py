"""Reads a table in pieces of columns into the engine.

Ratings, times and votes are read in Python, once for each different value of a piece; ids and
texts stay columns. A row with a value that is not of the usual kind goes whole to
`guesses.Reading.review`, which alone decides why a row is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_converters.blocks import Places
from dataset_converters.cleaning import (
    LONGEST_ID,
    READS_AS_MISSING,
    Dropped,
    plain_text,
    plain_title,
    usable,
)
from dataset_converters.engine import Engine
from dataset_converters.forms import WHITE
from dataset_converters.guesses import Reading
from dataset_converters.pieces import IDS, TEXT_ROLES, VALUES, Piece, Pieces, each
from dataset_converters.reading import TEXTS, Batch
from dataset_converters.rows import Record
from recbole_exp3rt.records import Review

# ASCII, and letters of some scripts that every version of Unicode can print.
_SIGN = r"!-~\x{c0}-\x{24f}\x{410}-\x{44f}\x{3041}-\x{3096}\x{30a1}-\x{30fa}\x{4e00}-\x{9fa5}"
_SIGN += r"\x{ac00}-\x{d7a3}"
_MISSING = ", ".join(f"'{text}'" for text in sorted(READS_AS_MISSING))
_MACROS = rf"""
CREATE OR REPLACE MACRO token(v) AS CASE
    WHEN regexp_full_match(v, '[{_SIGN}](?:[ {_SIGN}]*[{_SIGN}])?') AND length(v) <= {LONGEST_ID}
        AND v NOT IN ({_MISSING}) THEN v END;
CREATE OR REPLACE MACRO as_it_is(v) AS regexp_full_match(v, '[^&<{WHITE}]*')
    AND NOT starts_with(v, ' ') AND NOT ends_with(v, ' ');
"""


class TableReader:
    """Reads a table in pieces; see `reading.Reader`."""

    def __init__(self, pieces: Pieces, reading: Reading, engine: Engine) -> None:
        self.pieces, self.reading, self.engine = pieces, reading, engine
        self.files = pieces.files
        engine.sql(_MACROS)

    def collect(self) -> Counter[str]:
        """See `Reader`."""
        notes: Counter[str] = Counter()
        batch = Batch(self.engine)
        for piece in self.pieces.ratings():
            columns = self._decoded(piece)
            given = [name for name in TEXT_ROLES if name in columns]
            odd = " OR ".join(f'"{name}" IS NULL' for name in (*IDS, *VALUES, *given))
            rows = self.engine.table(
                f'SELECT *, {odd} AS odd FROM (SELECT * REPLACE (token("user") AS "user", '
                "token(item) AS item) FROM decoded)",
                decoded=pa.table(columns),
            )
            self.engine.sql(
                'INSERT INTO found SELECT place, "user", item, rating, "time", helpful '
                "FROM rows_read WHERE NOT odd",
                rows_read=rows,
            )
            at = np.flatnonzero(rows["odd"].to_numpy())
            odd_rows = zip(piece.places[at].tolist(), piece.rows(at), strict=True)
            for place, row in (*(odd_rows if len(at) else ()), *piece.others):
                if row is not None:
                    batch.add(place, self._review(row), notes)
            batch.flush()
        return notes

    def _review(self, row: Record | Dropped) -> Review | Dropped:
        return row if isinstance(row, Dropped) else self.reading.review(row)

    def _decoded(self, piece: Piece) -> dict[str, pa.Array]:
        """The columns of a piece, its values as numbers."""
        count, value, reading = len(piece.places), self.pieces.value, self.reading
        found = {"place": pa.array(piece.places), **piece.roles}
        ways: dict[str, tuple[Callable[[object], float | None], pa.DataType]] = {
            "rating": (reading.rating, pa.float64()),
            "time": (reading.time, pa.float64()),
            "helpful": (reading.helpful, pa.int64()),
        }
        for name, (function, kind) in ways.items():
            if name in piece.roles:
                found[name] = each(piece.roles[name], partial(_of, function, value), kind)
            else:
                found[name] = pa.array([0] * count, kind)
        return found

    def texts(self, wanted: Places) -> Iterator[pa.Table]:
        """See `Reader`."""
        for piece in self.pieces.texts():
            at = np.flatnonzero(np.isin(piece.places, wanted))
            others = [row for row in piece.others if _stands(wanted, row[0])]
            found = self._texts(piece, at)
            if others:
                rows = [(place, *self._row(row)) for place, row in others]
                more = dict(zip(TEXTS.names, map(list, zip(*rows, strict=True)), strict=True))
                found = pa.concat_tables([found, pa.table(more, schema=TEXTS)]).sort_by("place")
            if found.num_rows:
                yield found

    def _texts(self, piece: Piece, at: Places) -> pa.Table:
        """TEXTS of the rows of a piece at some indexes."""
        taken = pa.array(at)
        kept = {name: piece.roles[name].take(taken) for name in piece.roles}
        for name in TEXT_ROLES:
            kept.setdefault(name, pa.array([""] * len(at), pa.string()))
        rows = self.engine.table(
            'SELECT place, token("user") AS user_id, token(item) AS item_id, title, "text", '
            "as_it_is(title) AND NOT contains(title, '  ') AS named, as_it_is(\"text\") AS clean, "
            'user_id IS NULL OR item_id IS NULL OR title IS NULL OR "text" IS NULL AS odd '
            "FROM kept",
            kept=pa.table({"place": pa.array(piece.places[at]), **kept}),
        )
        columns = {name: rows[name].combine_chunks() for name in TEXTS.names}
        odd = rows["odd"].to_numpy()
        for name, same, change in (("title", "named", plain_title), ("text", "clean", plain_text)):
            dirty = ~odd & ~np.asarray(rows[same].fill_null(True))
            values = map(change, columns[name].filter(pa.array(dirty)).to_pylist())
            columns[name] = _replaced(columns[name], dirty, values)
        if odd.any():
            new = zip(*(self._row(row) for row in piece.rows(at[odd])), strict=True)
            for name, cells in zip(TEXTS.names[1:], new, strict=True):
                columns[name] = _replaced(columns[name], odd, cells)
        return pa.table(columns, schema=TEXTS)

    def _row(self, row: Record | Dropped | None) -> tuple[str, str, str, str]:
        review = None if row is None else self._review(row)
        review = usable(review)[0] if isinstance(review, Review) else review
        assert isinstance(review, Review)  # it was one when the rows were collected
        return review.user, review.item, review.title, review.text


def _of(
    function: Callable[[object], float | None], value: Callable[[Any], object], found: Any
) -> float | None:
    return function(value(found))


def _stands(wanted: Places, place: int) -> bool:
    at = int(np.searchsorted(wanted, place))
    return at < len(wanted) and int(wanted[at]) == place


def _replaced(column: pa.Array, where: Any, values: Any) -> pa.Array:
    """A column with other values where `where` is true."""
    return pc.replace_with_mask(column, pa.array(where), pa.array(values, pa.string()))
