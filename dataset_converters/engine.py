"""The engine of every conversion: DuckDB, under a memory limit, with temporary files on the disk.

`found` holds the usable rows of the input, without texts; `rejects` the others, with reasons.
`code` gives users and items numbers in the order of their ids, so `rows` is a table of numbers:
`latest_of_each_pair` and `k_core` are joins on them. What the engine does not know: files, the
format of a source, texts. `forms.py` says how lines of JSON become columns.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dataset_converters.blocks import Places
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review

FOUND = pa.schema(
    {
        "place": pa.int64(),
        "user": pa.string(),
        "item": pa.string(),
        "rating": pa.float64(),
        "timestamp": pa.float64(),
        "helpful": pa.int64(),
    }
)
DUPLICATE = "duplicate (user, item), an earlier one"
_BATCH = 50_000  # rows of one table that Python holds


@dataclass(frozen=True)
class Limits:
    """What a conversion may use. `threads` 0: all cores that this process may run on."""

    memory: str = "1GB"
    threads: int = 0

    def __post_init__(self) -> None:
        """Raises: UsageError for no amount of memory."""
        try:
            with duckdb.connect() as db:
                db.execute("SET memory_limit = ?", [self.memory])
        except duckdb.Error:
            raise UsageError(
                f"memory_limit={self.memory} is no amount of memory; take 1GB or 500MB"
            ) from None


def cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Engine:
    """Tables of one conversion; `close` forgets them. `folder` takes what memory cannot hold."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self.db = duckdb.connect()
        self.set("memory_limit", limits.memory)
        self.set("threads", limits.threads or cores())
        self.set("temp_directory", str(folder))
        self.set("enable_progress_bar", False)
        self.sql(
            'CREATE TABLE found (place BIGINT, "user" VARCHAR, item VARCHAR, rating DOUBLE, '
            "timestamp DOUBLE, helpful BIGINT)"
        )
        self.sql("CREATE TABLE rejects (place BIGINT, reason VARCHAR)")

    def set(self, name: str, value: object) -> None:
        """Set one of DuckDB's settings."""
        self.sql(f"SET {name} = ?", [value])

    def sql(self, query: str, values: Sequence[object] = (), **given: object) -> list[Any]:
        """Run a statement, return its rows; `given` are Arrow tables that it names.

        Raises: UsageError where memory and disk do not suffice.
        """
        with self._given(given):
            rows: list[Any] = self.db.execute(query, list(values)).fetchall()
            return rows

    def table(self, query: str, **given: object) -> pa.Table:
        """The answer to a query, as an Arrow table."""
        with self._given(given):
            answer: pa.Table = self.db.sql(query).to_arrow_table()
        return answer

    @contextmanager
    def _given(self, tables: Mapping[str, object]) -> Iterator[None]:
        """Let statements name `tables`, and say in one line what memory or disk refuse."""
        for name, table in tables.items():
            self.db.register(name, table)
        try:
            yield
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise UsageError(_said(error)) from None
        finally:
            for name in tables:
                self.db.unregister(name)

    def stream(self, query: str) -> Iterator[pa.RecordBatch]:
        """The answer to a query, some rows at a time."""
        # a connection of its own, so that others run while its rows are taken
        with self._given({}), self.db.cursor() as beside:
            yield from beside.sql(query).to_arrow_reader(_BATCH)

    def number(self, query: str) -> int:
        """The answer to a query that is one number."""
        return int(self.sql(query)[0][0])

    def places(self, table: str) -> Places:
        """The places of a table's rows, rising: int64."""
        found: Places = self.table(f"SELECT place FROM {table} ORDER BY place")["place"].to_numpy()
        return found

    def frame(self, table: str) -> pd.DataFrame:
        """A table of rows as a data frame with ids, sorted by user, time and item."""
        query = (
            'SELECT "user" AS user_id, item AS item_id, rating, timestamp, helpful, place AS row '
            f"FROM {table} JOIN users USING (u) JOIN items USING (i) ORDER BY u, timestamp, i"
        )
        frame: pd.DataFrame = self.db.sql(query).df()
        return frame

    def close(self) -> None:
        """Forget all tables and remove the files they are in."""
        self.db.close()

    # The steps of a conversion, in their order.

    def add(self, rows: Sequence[tuple[int, Review]], rejects: Sequence[tuple[int, str]]) -> None:
        """Add usable rows, and rejected ones with the reason, all with their places."""
        if rows:
            values = [(p, r.user, r.item, r.rating, r.timestamp, r.helpful) for p, r in rows]
            columns = dict(zip(FOUND.names, zip(*values, strict=True), strict=True))
            self.sql("INSERT INTO found FROM added", added=pa.table(columns, schema=FOUND))
        if rejects:
            places, reasons = zip(*rejects, strict=True)
            added = pa.table({"place": pa.array(places, pa.int64()), "reason": list(reasons)})
            self.sql("INSERT INTO rejects FROM added", added=added)

    def reject(self, places: str, reason: str) -> None:
        """Reject the rows of `found` whose places a query answers."""
        self.sql(f"INSERT INTO rejects SELECT place, ? FROM ({places})", [reason])

    def code(self) -> None:
        """Make `users`, `items` and `rows` of `found`: ids get numbers in their order."""
        for name, column, code in (("users", '"user"', "u"), ("items", "item", "i")):
            self.sql(
                f"CREATE TABLE {name} AS SELECT {column}, "
                f"(row_number() OVER (ORDER BY {column}) - 1)::INTEGER AS {code} "
                f"FROM (SELECT DISTINCT {column} FROM found)"
            )
        self.sql(
            "CREATE TABLE rows AS SELECT place, u, i, rating, timestamp, helpful FROM found "
            'JOIN users USING ("user") JOIN items USING (item)'
        )
        self.sql("DROP TABLE found")

    def latest_of_each_pair(self) -> int:
        """Keep one row of each (user, item): the latest; of equal times the one read last.

        Returns how many rows were rejected.
        """
        self.sql(
            "CREATE TABLE earlier AS SELECT place FROM (SELECT place, row_number() OVER ("
            "PARTITION BY u, i ORDER BY timestamp DESC, place DESC) AS age FROM rows SEMI JOIN "
            "(SELECT u, i FROM rows GROUP BY u, i HAVING count(*) > 1) USING (u, i)) WHERE age > 1"
        )
        count = self.number("SELECT count(*) FROM earlier")
        if count:
            self.reject("SELECT place FROM earlier", DUPLICATE)
            self.sql("CREATE TABLE latest AS SELECT * FROM rows ANTI JOIN earlier USING (place)")
            self.sql("DROP TABLE rows")
            self.sql("ALTER TABLE latest RENAME TO rows")
        return count

    def reasons(self) -> Counter[str]:
        """How many rows were rejected for each reason, in the order in which each came first."""
        found = self.sql("SELECT reason, count(*) FROM rejects GROUP BY 1 ORDER BY min(place)")
        return Counter(dict(found))

    def k_core(self, k: int, into: str = "core") -> int:
        """Make the table `into` of the largest part of `rows` where all have at least k rows.

        Returns how many rows are outside it. 0 keeps all.
        """
        left = whole = self.number("SELECT count(*) FROM rows")
        self.sql(f"CREATE TABLE {into} AS SELECT place, u, i FROM rows")
        while k and left:
            self.sql(
                f"CREATE TABLE fewer AS SELECT * FROM {into} "
                f"SEMI JOIN (SELECT u FROM {into} GROUP BY u HAVING count(*) >= {k}) USING (u) "
                f"SEMI JOIN (SELECT i FROM {into} GROUP BY i HAVING count(*) >= {k}) USING (i)"
            )
            self.sql(f"DROP TABLE {into}")
            self.sql(f"ALTER TABLE fewer RENAME TO {into}")
            before, left = left, self.number(f"SELECT count(*) FROM {into}")
            if left == before:
                break
        self.sql(
            f"CREATE TABLE fewer AS SELECT rows.* FROM rows SEMI JOIN {into} USING (place)"
            if left < whole
            else "CREATE TABLE fewer AS FROM rows"
        )
        self.sql(f"DROP TABLE {into}")
        self.sql(f"ALTER TABLE fewer RENAME TO {into}")
        return whole - left

    def lines(self, table: str) -> Iterator[str]:
        """Lines of an atomic file, sorted by user, time and item, some thousand in one text."""
        query = (
            "SELECT "
            + " || chr(9) || ".join(
                [_quoted('"user"'), _quoted("item"), "rating", "timestamp", "helpful"]
            )
            + f" || chr(10) FROM {table} JOIN users USING (u) JOIN items USING (i) "
            "ORDER BY u, timestamp, i"
        )
        for batch in self.stream(query):
            yield "".join(batch.column(0).to_pylist())


def core_of(users: pd.Series[Any], items: pd.Series[Any], k: int) -> npt.NDArray[np.bool_]:
    """Which of the pairs (users[n], items[n]) stand in their k-core: [pairs]."""
    codes = {"u": pd.factorize(users)[0], "i": pd.factorize(items)[0]}
    engine = Engine(Path(tempfile.gettempdir()))
    engine.sql("CREATE TABLE rows AS FROM pairs", pairs=_numbered(codes))
    engine.k_core(k)
    kept = np.zeros(len(users), dtype=bool)
    kept[engine.places("core")] = True
    engine.close()
    return kept


def _numbered(columns: Mapping[str, Any]) -> pa.Table:
    return pa.table({"place": np.arange(len(next(iter(columns.values())))), **columns})


def _quoted(column: str) -> str:
    """A column as pandas writes a cell that may hold quotation marks; ids hold no tabs."""
    twice = f"replace({column}, '\"', '\"\"')"
    return f"CASE WHEN contains({column}, '\"') THEN '\"' || {twice} || '\"' ELSE {column} END"


def _said(error: duckdb.Error) -> str:
    """What failed, in one line, and the remedy."""
    text = str(error).split("\n")[0]
    if isinstance(error, duckdb.OutOfMemoryException):
        return f"the memory limit is too low ({text}); raise --memory_limit"
    return f"temporary files: {text}; free some space there, or name a folder on another disk"
