"""A table in pieces of columns: CSV, JSON (lines or an array) and parquet.

A form that knows less is slower, not different: what it does not know it leaves to Python.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from dataset_converters import csv_cells
from dataset_converters.blocks import Block, Places, Progress, blocks
from dataset_converters.cleaning import Dropped
from dataset_converters.engine import Engine
from dataset_converters.forms import LOOSE
from dataset_converters.read import parsed
from dataset_converters.rows import Record, Table, flat
from dataset_converters.values import id_of

IDS, TEXT_ROLES, VALUES = ("user", "item"), ("title", "text"), ("rating", "time", "helpful")
_ROWS = 20_000  # of a parquet file that are held at a time
_NAME = re.compile(r"[\w -]+(\.[\w -]+){0,2}")
_MACROS = r"""
CREATE OR REPLACE MACRO unquoted(v) AS CASE
    WHEN NOT contains(v, '\') THEN v[2:-2] ELSE json_extract_string(v, '$') END;
CREATE OR REPLACE MACRO id_in_json(v) AS CASE WHEN starts_with(v, '"') THEN unquoted(v)
    WHEN regexp_full_match(v, '[0-9]{1,18}') THEN v
    WHEN regexp_full_match(v, '[0-9]{1,15}\.0') THEN v[:-3] END;
CREATE OR REPLACE MACRO text_in_json(v) AS CASE WHEN v IS NULL OR v = 'null' THEN ''
    WHEN starts_with(v, '"') THEN unquoted(v) END;
"""


@dataclass(frozen=True)
class Piece:
    """Some rows of a table, by role: ids and texts as text, other values as they stand.

    An id or a text that is NULL is one that Python has to read. `rows` are the rows at some
    indexes as Python reads them, None for an empty line; `others` the places and rows that stand in
    no column.
    """

    places: Places  # [rows], rising
    roles: Mapping[str, pa.Array]
    rows: Callable[[Places], Iterator[Record | Dropped | None]]
    others: Sequence[tuple[int, Record | Dropped]] = ()


class Pieces(Protocol):
    """A table that can be read in pieces."""

    files: list[Path]

    def value(self, found: Any) -> object:
        """The Python value of one that stands in a column."""
        ...

    def ratings(self) -> Iterator[Piece]:
        """Yield the rows with all roles but texts that cannot be wrong."""
        ...

    def texts(self) -> Iterator[Piece]:
        """Yield the same rows with ids and texts."""
        ...


def pieces_of(
    table: Table, columns: Mapping[str, str], engine: Engine, progress: Progress
) -> Pieces | None:
    """The pieces of a table, whose `columns` are given by role; None where it has to be rows."""
    if table.separator:
        few = len(table.columns) <= csv_cells.MOST_COLUMNS
        return CsvPieces(table, columns, progress) if few else None
    if table.form == "parquet":
        found = ParquetPieces(table, columns, progress)
        return found if found.is_plain() else None
    plain = table.shape is None and all(map(_NAME.fullmatch, columns.values()))
    return JsonPieces(table, columns, engine, progress) if plain else None


@dataclass
class _OfColumns:
    """A file whose values are read as they stand. A subclass gives `_pieces` of some roles."""

    table: Table
    columns: Mapping[str, str]
    progress: Progress

    def __post_init__(self) -> None:
        """The files that the reader names."""
        self.files = [self.table.path]

    def value(self, found: object) -> object:
        """See `Pieces`."""
        return found

    def ratings(self) -> Iterator[Piece]:
        """See `Pieces`."""
        return self._pieces((*IDS, *VALUES))

    def texts(self) -> Iterator[Piece]:
        """See `Pieces`."""
        return self._pieces((*IDS, *TEXT_ROLES))

    def _pieces(self, roles: Sequence[str]) -> Iterator[Piece]:
        raise NotImplementedError


class CsvPieces(_OfColumns):
    """A CSV file: all values are texts."""

    def _pieces(self, roles: Sequence[str]) -> Iterator[Piece]:
        # all roles: a row that Python has to read needs them
        for found in csv_cells.cells(self.table, list(self.columns.values()), self.progress):
            whole = pa.table(found.columns)
            columns = {
                role: found.columns[self.columns[role]] for role in roles if role in self.columns
            }
            yield Piece(found.lines, columns, _records(whole), found.others)


def _records(table: pa.Table) -> Callable[[Places], Iterator[Record | Dropped | None]]:
    """The rows of a table at some indexes, as Python has them."""
    return lambda at: (flat(row) for row in table.take(pa.array(at)).to_pylist())


class ParquetPieces(_OfColumns):
    """A parquet file whose columns are numbers, times or texts."""

    def is_plain(self) -> bool:
        """Whether each role is one column of a plain kind, and texts are texts."""
        schema = self.table.opened().schema_arrow
        for role, name in self.columns.items():
            at = schema.get_all_field_indices(name)
            kinds = [_kind(schema.field(n).type) for n in at]
            is_text = kinds == ["text"] or role not in TEXT_ROLES
            if len(at) != 1 or kinds == [""] or not is_text or "." in name:
                return False
        return True

    def _pieces(self, roles: Sequence[str]) -> Iterator[Piece]:
        names = list(dict.fromkeys(self.columns[r] for r in roles if r in self.columns))
        path, before = self.table.path, 0
        self.progress.begin([path])
        size, count = path.stat().st_size, self.table.opened().metadata.num_rows
        for batch in self.table.batches(list(dict.fromkeys(self.columns.values())), _ROWS):
            values = {name: _plain(batch[name]) for name in names}
            columns = {role: values[self.columns[role]] for role in roles if role in self.columns}
            for role in IDS:
                if not types.is_string(columns[role].type):
                    columns[role] = each(columns[role], _id, pa.string())
            for role in set(columns) & set(TEXT_ROLES):
                columns[role] = pc.fill_null(columns[role], "")
            places = np.arange(batch.num_rows, dtype=np.int64) + before + 1
            before += batch.num_rows
            self.progress.at(path, size * before // count, batch.num_rows)
            yield Piece(places, columns, _records(pa.table(batch)))


def _kind(kind: pa.DataType) -> str:
    """`text`, `value` for numbers and times, or '' for what Python reads by itself."""
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    plain = (types.is_integer, types.is_float32, types.is_float64, types.is_boolean)
    times = (types.is_timestamp, types.is_date)
    return "value" if any(test(kind) for test in (*plain, *times)) else ""


def _plain(column: pa.Array) -> pa.Array:
    """A column without a dictionary; texts as `string`."""
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()) if types.is_large_string(column.type) else column


def _id(value: object) -> str | None:
    found = id_of(value)
    return found if isinstance(found, str) else None


@dataclass
class JsonPieces:
    """JSON lines, or the elements of an array; values stand as JSON writes them."""

    table: Table
    columns: Mapping[str, str]
    engine: Engine
    progress: Progress
    loose: list[Places] = field(default_factory=list)  # of the lines for Python, in each block

    def __post_init__(self) -> None:
        """Let the engine know the functions of JSON."""
        self.files = [self.table.path]
        self.engine.sql(_MACROS)

    def value(self, found: Any) -> object:
        """See `Pieces`."""
        return None if found is None else json.loads(found)

    def ratings(self) -> Iterator[Piece]:
        """See `Pieces`."""
        self.loose = []
        paths = ", ".join(
            f"'{path}'" for name in self.columns.values() for path in _other_paths(name)
        )
        twice = "len(list_distinct(json_keys(line))) < len(json_keys(line))"
        if paths:
            twice += f" OR list_count(json_extract(line, [{paths}])) > 0"
        query = (
            f"SELECT CASE WHEN NOT json_valid(line) OR {LOOSE} THEN true ELSE {twice} END AS loose "
            "FROM block"
        )
        for block in blocks(self.files, self.progress):
            found = self.engine.table(query, block=block.table())["loose"].to_numpy()
            self.loose.append(block.places[found.astype(bool)])
            yield self._piece(block, found.astype(bool), self.columns)

    def texts(self) -> Iterator[Piece]:
        """See `Pieces`."""
        roles = {role: self.columns[role] for role in (*IDS, *TEXT_ROLES) if role in self.columns}
        for number, block in enumerate(blocks(self.files, self.progress)):
            yield self._piece(block, np.isin(block.places, self.loose[number]), roles)

    def _piece(self, block: Block, loose: Any, columns: Mapping[str, str]) -> Piece:
        paths = ", ".join(f"'{_path(name)}'" for name in columns.values())
        asked = []
        for number, role in enumerate(columns, start=1):
            how = "id_in_json" if role in IDS else "text_in_json" if role in TEXT_ROLES else ""
            value = f"{how}(v[{number}])"
            value = f"CASE WHEN NOT loose THEN {value} END" if role in TEXT_ROLES else value
            asked.append(f'{value} AS "{role}"')
        table = block.table().append_column("loose", pa.array(loose))
        found = self.engine.table(
            f"SELECT {', '.join(asked)} FROM (SELECT loose, json_extract("
            f"CASE WHEN loose THEN 'null' ELSE line END, [{paths}])::VARCHAR[] AS v FROM block)",
            block=table,
        )
        roles = {role: found[role].combine_chunks() for role in columns}

        def rows(at: Places) -> Iterator[Record | Dropped | None]:
            for line in block.lines.take(pa.array(at)).to_pylist():
                yield None if line.isspace() else flat(parsed(line))

        return Piece(block.places, roles, rows)


def _path(name: str) -> str:
    """The path of a column: `author.id` is a value inside a record."""
    return "$" + "".join(f'."{part}"' for part in name.split("."))


def _other_paths(name: str) -> list[str]:
    """Where else a value of that name may stand."""
    parts = name.split(".")
    if len(parts) == 1:
        return []
    whole = [f'$."{name}"']
    if len(parts) == 3:
        whole += [f'$."{parts[0]}.{parts[1]}"', f'$."{parts[0]}"."{parts[1]}.{parts[2]}"']
    return whole


def each(column: pa.Array, function: Callable[[Any], Any], kind: pa.DataType) -> pa.Array:
    """`function` of every value, computed once for each different one; NULL is the value None."""
    found = column.dictionary_encode()
    values = pa.array(map(function, found.dictionary.to_pylist()), kind)
    result = values.take(found.indices)
    if column.null_count and (missing := function(None)) is not None:
        result = pc.if_else(pc.is_null(column), pa.scalar(missing, kind), result)
    return result
