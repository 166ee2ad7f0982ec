"""The review file beside a data set: JSON lines, or parquet for many rows.

One reading of the texts writes the file of the data set and that of its unseen users.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset_converters.blocks import Places
from dataset_converters.engine import Engine
from dataset_converters.reading import Reader
from recbole_exp3rt.errors import UsageError

FORMS = ("auto", "jsonl", "parquet")
MANY = 200_000  # rows from which `auto` is parquet
_PARQUET = pa.schema(
    {
        "user_id": pa.string(),
        "item_id": pa.string(),
        "timestamp": pa.float64(),
        "title": pa.string(),
        "text": pa.string(),
    }
)
_LINE = """SELECT CASE WHEN contains(line, '\\u00') THEN NULL ELSE line END AS line FROM (
SELECT '{"user_id": ' || to_json(user_id) || ', "item_id": ' || to_json(item_id)
|| ', "title": ' || to_json(title) || ', "text": ' || to_json("text") || '}\n' AS line
FROM rows_read)"""


def form_of(rows: int, told: str = "auto") -> str:
    """`jsonl` or `parquet`. Raises: UsageError for a form that is not there."""
    if told not in FORMS:
        raise UsageError(f"sidecar={told} is unknown; take {', '.join(FORMS)}")
    return ("parquet" if rows > MANY else "jsonl") if told == "auto" else told


class Sink(Protocol):
    """A file that takes rows with texts."""

    def write(self, rows: pa.Table) -> None:
        """Write TEXTS and their times."""
        ...

    def close(self) -> None:
        """End the file."""
        ...


class JsonLines:
    """One JSON object a line: user_id, item_id, title, text."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.file, self.engine = path.open("w", encoding="utf-8", newline="\n"), engine

    def write(self, rows: pa.Table) -> None:
        """See `Sink`."""
        lines = self.engine.table(_LINE, rows_read=rows)["line"].to_pylist()
        if None in lines:  # control characters, which Python and DuckDB write in two ways
            names = ["user_id", "item_id", "title", "text"]
            for at in (at for at, line in enumerate(lines) if line is None):
                entry = {name: rows[name][at].as_py() for name in names}
                lines[at] = json.dumps(entry, ensure_ascii=False) + "\n"
        self.file.write("".join(lines))

    def close(self) -> None:
        """See `Sink`."""
        self.file.close()


class Parquet:
    """user_id, item_id, timestamp (seconds since 1970), title, text; packed with zstd."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.file = pq.ParquetWriter(path, _PARQUET, compression="zstd")

    def write(self, rows: pa.Table) -> None:
        """See `Sink`."""
        self.file.write_table(rows.select(_PARQUET.names))

    def close(self) -> None:
        """See `Sink`."""
        self.file.close()


SINKS: dict[str, Any] = {"jsonl": JsonLines, "parquet": Parquet}


class Sidecar:
    """The texts of the rows of some tables, in the order of the input.

    `tables` maps the middle of a file's name (`` or `.unseen`) to a table with `place` and
    `timestamp`. `form` is `jsonl` or `parquet`.
    """

    def __init__(self, reader: Reader, engine: Engine, tables: dict[str, str], form: str) -> None:
        self.reader, self.engine, self.tables, self.form = reader, engine, tables, form

    def write(self, stem: Path) -> None:
        """Write `<stem>.reviews.<form>`, and `<stem>.unseen.reviews.<form>` if there is one."""
        parts = [self._times(table) for table in self.tables.values()]
        wanted = np.sort(np.concatenate([places for places, _ in parts]))
        with ExitStack() as files:
            sinks: Sequence[Sink] = []
            for middle in self.tables:
                path = stem.with_name(f"{stem.name}{middle}.reviews.{self.form}")
                sinks = [*sinks, SINKS[self.form](path, self.engine)]
                files.callback(sinks[-1].close)
            for rows in self.reader.texts(wanted):
                places = rows["place"].to_numpy()
                for sink, (own, times) in zip(sinks, parts, strict=True):
                    at = np.minimum(np.searchsorted(own, places), max(len(own) - 1, 0))
                    mine = own[at] == places if len(own) else np.zeros(len(places), bool)
                    if mine.any():
                        some = rows if mine.all() else rows.filter(pa.array(mine))
                        sink.write(some.append_column("timestamp", pa.array(times[at[mine]])))

    def _times(self, table: str) -> tuple[Places, Any]:
        """Places of a table, which rise, and their timestamps."""
        query = f"SELECT place, timestamp FROM {table} ORDER BY place"
        found = self.engine.table(query)
        return found["place"].to_numpy(), pc.cast(found["timestamp"], pa.float64()).to_numpy()
