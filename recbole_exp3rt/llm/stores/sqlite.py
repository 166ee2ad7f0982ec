"""Answers in one SQLite file, found again by the content of the question.

Processes of one machine may share the file. For many machines: `postgres.py`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Completion, Request
from recbole_exp3rt.llm.claims import has_ended, this_process
from recbole_exp3rt.llm.stores.base import Damaged, Held, Row, completion_of, rows_of

APPLICATION_ID = 0x45585033  # "EXP3": tells our files from other SQLite files
VERSION = 2  # 2: missing_labels
IN_ONE_QUERY = 500  # SQLite binds at least 999 values
WAIT_SECONDS = 60.0  # for another process's commit
SPACE = "free some space, and the same command goes on"
REMEDIES = {  # what SQLite says -> what to do; all else is a file that is no store
    "disk is full": f"the disk is full; {SPACE}",
    "disk I/O": f"the disk fails; {SPACE}",
    "locked": "another process holds it locked; end that one, and the same command goes on",
    "readonly": "it cannot be written; make the file and its folder writable, or name another file",
}

COLUMNS = "key, text, finish, prompt_tokens, new_tokens, label_logp, missing_labels"
TABLES = (
    """CREATE TABLE IF NOT EXISTS answers (
        key TEXT PRIMARY KEY,
        text TEXT NOT NULL,
        finish TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        new_tokens INTEGER NOT NULL,
        label_logp TEXT,
        missing_labels INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS requests (
        key TEXT PRIMARY KEY,
        identity TEXT NOT NULL,
        request TEXT NOT NULL
    ) WITHOUT ROWID""",
    # Who asks, until when (seconds since 1970), and which process that is.
    """CREATE TABLE IF NOT EXISTS owners (
        owner TEXT PRIMARY KEY,
        expires REAL NOT NULL,
        process TEXT NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS claims (
        key TEXT PRIMARY KEY,
        owner TEXT NOT NULL
    ) WITHOUT ROWID""",
)
NOW = "(julianday('now') - 2440587.5) * 86400.0"  # seconds since 1970, by the database's clock
# Version 1 had no such column: whatever it kept was exact.
ADD_MISSING_LABELS = "ALTER TABLE answers ADD COLUMN missing_labels INTEGER NOT NULL DEFAULT 0"


class SQLiteStore:
    """A `Store` in one file. A file that stands in a folder that cannot be written is `read_only`.

    Raises: UsageError if the file is not such a store, or cannot be opened.
    """

    flushes = False  # a power cut may lose the last commits

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()  # one thread at a time uses the connection
        self._damaged = Damaged(str(self.path))
        self._process = this_process()
        self._columns = COLUMNS
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            places = (self.path, self.path.parent)
            self.read_only = self.path.is_file() and not all(os.access(p, os.W_OK) for p in places)
            self._db = self._read_only() if self.read_only else self._connect(self.path)
            self._open()
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(str(error)) from error

    def __reduce__(self) -> tuple[type[SQLiteStore], tuple[Path]]:
        return SQLiteStore, (self.path,)

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def _connect(self, file: str | Path) -> sqlite3.Connection:
        return sqlite3.connect(
            file,
            timeout=WAIT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            uri=isinstance(file, str),
        )

    def _read_only(self) -> sqlite3.Connection:
        """As another process may be writing it; else as a file that nobody changes; else, where
        the last commits of a killed run stand in a file of their own, a copy of both.
        """
        log = self.path.with_name(self.path.name + "-wal")
        left = log.is_file() and log.stat().st_size > 0
        for how in ("mode=ro", *(() if left else ("immutable=1",))):
            db = self._connect(f"{self.path.absolute().as_uri()}?{how}")
            try:
                db.execute("SELECT count(*) FROM sqlite_master")
                return db
            except sqlite3.OperationalError:
                db.close()
        self._copy = tempfile.TemporaryDirectory(prefix="exp3rt-")  # removed with the store
        copies = [shutil.copyfile(f, Path(self._copy.name) / f.name) for f in (self.path, log)]
        return self._connect(copies[0])

    def _open(self) -> None:
        # Tables before the mark: another process may make both in one commit between the two reads.
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master")}
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if tables and application != APPLICATION_ID:
            raise self._unusable("it holds something else")
        if version > VERSION:
            raise self._unusable(f"it was written by a newer version ({version})")
        if self.read_only:
            if version < 2:
                self._columns = COLUMNS.replace("missing_labels", "0")
            return
        self._write_ahead()
        self._db.execute("PRAGMA synchronous = NORMAL")
        if version < VERSION or "claims" not in tables:
            self._make()

    def _make(self) -> None:
        """The tables of this version, new or out of an older one's, in one commit."""
        with self._commit() as db:
            for table in TABLES:
                db.execute(table)
            columns = [row[1] for row in db.execute("PRAGMA table_info(answers)")]
            if "missing_labels" not in columns:
                db.execute(ADD_MISSING_LABELS)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {VERSION}")

    def _write_ahead(self) -> None:
        """Readers and a writer at once, and no disk flush at each commit.

        A power cut may lose the last commits, a killed process none.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while True:  # SQLite does not wait by itself while two processes change the mode
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _commit(self) -> Iterator[sqlite3.Connection]:
        """All that is done within is one commit, or nothing of it is done."""
        with self._lock:
            if self.read_only:
                raise self._unusable("readonly")
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):  # a full disk has undone it already
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._unusable(str(error)) from error

    def _rows(self, query: str, keys: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
        """Rows of `query`, which ends in the keys that it is about, some keys at a time."""
        for start in range(0, len(keys), IN_ONE_QUERY):
            some = keys[start : start + IN_ONE_QUERY]
            asked = f"{query} ({','.join('?' * len(some))})"
            try:
                with self._lock:
                    rows = self._db.execute(asked, some).fetchall()
            except sqlite3.OperationalError as error:
                if "decode" not in str(error):
                    raise self._unusable(str(error)) from error
                if len(some) == 1:
                    self.damaged(some[0], "it is no UTF-8")
                    continue
                for key in some:
                    yield from self._rows(query, [key])
                continue
            except sqlite3.Error as error:
                raise self._unusable(str(error)) from error
            yield rows

    def _unusable(self, reason: str) -> UsageError:
        for sign, remedy in REMEDIES.items():
            if sign in reason:
                return UsageError(f"store {self.path}: {remedy}")
        return UsageError(
            f"store {self.path} is not a readable answer store ({reason}): "
            "move it away, or name another file"
        )

    def damaged(self, key: str, reason: str) -> None:
        """Say that the row of `key` is no answer; from now on it counts as not there."""
        self._damaged.add(key, reason)

    def get_many(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The completions that are there, by key."""
        found: dict[str, Completion] = {}
        for rows in self._rows(f"SELECT {self._columns} FROM answers WHERE key IN", keys):
            for key, text, finish, prompt, new, logp, missing in rows:
                try:
                    found[key] = completion_of(text, finish, prompt, new, logp, missing)
                except ValueError as error:
                    self.damaged(str(key), str(error))
        if self._damaged.keys:
            self._damaged.keys -= found.keys()  # another process has mended it
        return found

    def put_many(self, identity: str, answers: Mapping[str, tuple[Request, Completion]]) -> int:
        """Keep all answers in one commit; how many were not there before. An answer that is there
        already stays as it is.
        """
        return self.put_rows(rows_of(identity, answers))

    def put_rows(self, rows: Sequence[Row]) -> int:
        """Keep all rows in one commit; how many were not there before."""
        keys = {row.key for row in rows}
        with self._commit() as db:
            if damaged := self._damaged.keys & keys:
                db.executemany("DELETE FROM answers WHERE key = ?", [(key,) for key in damaged])
            new = db.executemany(
                f"INSERT OR IGNORE INTO answers ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(row.key, *row[3:]) for row in rows],
            ).rowcount
            db.executemany("INSERT OR IGNORE INTO requests VALUES (?, ?, ?)", [r[:3] for r in rows])
        self._damaged.keys -= keys
        return max(new, 0)

    # --- claims: see `claims.py`

    def claim(self, owner: str, keys: Sequence[str], seconds: float) -> set[str]:
        """Those of `keys` that are now `owner`'s to ask: no answer is there, and no other owner
        has them. They lapse `seconds` after the last claim or renewal of `owner`, and at once
        where its process has ended.
        """
        if not self._free(owner, keys):
            return set()  # nothing to write while waiting
        with self._commit() as db:
            free = self._free(owner, keys)
            lapsed = {name for (name,) in db.execute("SELECT owner FROM owners")} - self._living()
            for name in lapsed - {owner}:
                db.execute("DELETE FROM claims WHERE owner = ?", (name,))
                db.execute("DELETE FROM owners WHERE owner = ?", (name,))
            self._hold(owner, seconds)
            db.executemany(
                "INSERT OR REPLACE INTO claims VALUES (?, ?)", [(key, owner) for key in free]
            )
        return set(free)

    def renew(self, owner: str, seconds: float) -> None:
        """All claims of `owner` hold for `seconds` from now."""
        with self._commit():
            self._hold(owner, seconds)

    def release(self, owner: str, keys: Collection[str]) -> None:
        """Others may ask for those of `keys` that are `owner`'s."""
        with self._commit() as db:
            db.executemany(
                "DELETE FROM claims WHERE key = ? AND owner = ?", [(key, owner) for key in keys]
            )

    def _hold(self, owner: str, seconds: float) -> None:
        self._db.execute(
            f"INSERT OR REPLACE INTO owners VALUES (?, {NOW} + ?, ?)",
            (owner, seconds, self._process),
        )

    def _living(self) -> set[str]:
        """Owners whose claims hold."""
        query = f"SELECT owner, process FROM owners WHERE expires > {NOW}"
        try:
            with self._lock:
                owners = self._db.execute(query).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from error
        return {owner for owner, process in owners if not has_ended(str(process))}

    def _free(self, owner: str, keys: Sequence[str]) -> list[str]:
        """Those of `keys` without an answer that no other owner holds."""
        taken: set[str] = set()
        for rows in self._rows("SELECT key FROM answers WHERE key IN", keys):
            taken.update(key for (key,) in rows)
        taken -= self._damaged.keys
        others = self._living() - {owner}
        if others:
            for rows in self._rows("SELECT key, owner FROM claims WHERE key IN", keys):
                taken.update(key for key, holder in rows if holder in others)
        return [key for key in keys if key not in taken]

    # --- to look at what is stored

    def asked(self, key: str) -> tuple[str, str] | None:
        """Identity of the model and the request as JSON, of an answer; None: there is none."""
        for rows in self._rows("SELECT identity, request FROM requests WHERE key IN", [key]):
            for row in rows:
                return cast("tuple[str, str]", row)
        return None

    def identities(self) -> list[str]:
        """Identities of the models whose answers are stored, sorted."""
        found = self._db.execute("SELECT DISTINCT identity FROM requests ORDER BY identity")
        return [str(identity) for (identity,) in found]

    def rows(self) -> Iterator[list[Row]]:
        """All answers by key, some at a time, as they are stored: also damaged ones."""
        columns = self._columns.removeprefix("key, ")
        query = (
            f"SELECT key, coalesce(identity, ''), coalesce(request, ''), {columns} "
            "FROM answers LEFT JOIN requests USING (key) WHERE key IN"
        )
        some = f"SELECT key FROM answers WHERE key > ? ORDER BY key LIMIT {IN_ONE_QUERY}"
        last = ""
        while keys := [str(key) for (key,) in self._read(some, last)]:
            last = keys[-1]
            for found in self._rows(query, keys):
                yield [Row(*row) for row in sorted(found)]

    def held(self) -> list[Held]:
        """What is stored of each model, by its identity."""
        found = self._read(
            "SELECT coalesce(identity, ''), count(*), sum(prompt_tokens), sum(new_tokens) "
            "FROM answers LEFT JOIN requests USING (key) GROUP BY 1 ORDER BY 1"
        )
        return [Held(str(name), int(n), int(prompt), int(new)) for name, n, prompt, new in found]

    def size(self) -> int:
        """Bytes of the file, and of the last commits beside it."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.is_file())

    def _read(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from error

    def __len__(self) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM answers").fetchone()
        return int(count)

    def close(self) -> None:
        """Close the file."""
        self._db.close()
