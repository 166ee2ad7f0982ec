"""Answers from one store to another, and to and from a parquet file.

What a file holds is checked row by row: a key is the hash of the model's identity and the request,
so no answer gets under another question than its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.stores.base import Row, Store, completion_of
from recbole_exp3rt.paths import atomic
from recbole_exp3rt.text import without_surrogates

AT_ONCE = 1_000  # rows of one commit
COLUMNS = dict.fromkeys(Row._fields, "string")
COLUMNS |= dict.fromkeys(("prompt_tokens", "new_tokens", "missing_labels"), "int64")
FORMAT = {b"exp3rt": b"answers 1"}  # metadata of the file


@dataclass(frozen=True, slots=True)
class Moved:
    """Rows that were read; of them `new` were not there before, `damaged` were left out."""

    read: int
    new: int
    damaged: int
    first_damaged: str = ""  # key and reason

    def __str__(self) -> str:
        known = self.read - self.damaged - self.new
        text = f"{self.new:,} answers are new, {known:,} were there already"
        if self.damaged:
            text += f"; {self.damaged:,} damaged ones were left out (the first: "
            text += f"{self.first_damaged})"
        return text


def export(store: Store, path: str | Path) -> Moved:
    """Write all answers of `store` to a parquet file, which is complete or not there.

    Raises: UsageError if the file cannot be written, or its name says that it is no parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if Path(path).suffix not in ("", ".parquet"):
        raise UsageError(f"{path} would be parquet: name it {Path(path).stem}.parquet")

    fields = [pa.field(name, kind, name == "label_logp") for name, kind in COLUMNS.items()]
    schema = pa.schema(fields, metadata=FORMAT)
    with atomic(path) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:

        def write(rows: list[Row]) -> int:
            columns = dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
            writer.write_table(pa.table(columns, schema=schema))
            return len(rows)

        return _move(store.rows(), write)


def load(path: str | Path, store: Store) -> Moved:
    """Add the answers of a parquet file to `store`; an answer that is there stays as it is.

    Raises: UsageError if the file cannot be read, or was not written by `export`.
    """
    return _move(_rows_of(path), store.put_rows)


def merge(source: Store, store: Store) -> Moved:
    """Add the answers of `source` to `store`; an answer that is there stays as it is."""
    return _move(source.rows(), store.put_rows)


def _rows_of(path: str | Path) -> Iterator[list[Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if (file.schema_arrow.metadata or {}).get(b"exp3rt") != FORMAT[b"exp3rt"]:
                raise UsageError(f"{path} was not written by exp3rt store export")
            for batch in file.iter_batches(AT_ONCE, columns=list(Row._fields)):
                yield [Row(**row) for row in batch.to_pylist()]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (pa.ArrowException, TypeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is no readable parquet file of answers: {str(error).splitlines()[0]}"
        ) from error


def _move(pages: Iterable[list[Row]], write: Callable[[list[Row]], int]) -> Moved:
    """Pass the rows that are answers on to `write`, which says how many are new."""
    read = new = damaged = 0
    first = ""
    for page in pages:
        good = []
        for row in page:
            if reason := wrong_with(row):
                damaged, first = damaged + 1, first or f"{row.key}: {reason}"
            else:
                good.append(row)
        read += len(page)
        new += write(good) if good else 0
    return Moved(read, new, damaged, first)


def wrong_with(row: Row) -> str | None:
    """Why `row` is no answer to its question; None: it is one."""
    texts: tuple[Any, ...] = (row.key, row.identity, row.request)
    if not all(type(text) is str for text in texts):
        return "its key, identity or request is no text"
    if "\0" in f"{row.text}":
        return "its text holds a character that cannot be stored"
    try:
        completion_of(*row[3:])
        if not all(0 <= count < 2**63 for count in (row.prompt_tokens, row.new_tokens)):
            return "its counts are out of range"
        body = json.dumps(
            [row.identity, json.loads(row.request)], sort_keys=True, ensure_ascii=False
        )
    except (ValueError, RecursionError) as error:
        return str(error)[:80]
    if hashlib.sha256(without_surrogates(body).encode()).hexdigest() != row.key:
        return "its key is not that of its question"
    return None
