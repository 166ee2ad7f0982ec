"""Answers on disk, found again by the content of the question.

One SQLite file. Beside each raw answer stand the identity and the request, so that an answer can
be looked at. What the store does not know: which model is asked, or what an answer means.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import cast

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Completion, Request

APPLICATION_ID = 0x45585033  # "EXP3": tells our files from other SQLite files
VERSION = 2  # 2: missing_labels
IN_ONE_QUERY = 500  # SQLite binds at least 999 values
WAIT_SECONDS = 60.0  # for another process's commit

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
)
# Version 1 had no such column: whatever it kept was exact.
ADD_MISSING_LABELS = "ALTER TABLE answers ADD COLUMN missing_labels INTEGER NOT NULL DEFAULT 0"


class Store:
    """Completions by `Request.key(identity)`. Two processes may share one file.

    A committed answer survives `kill -9` of the process; the first answer to a question stays.
    Raises: UsageError if the file is not such a store, or cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Any thread may use it; who shares a store among threads lets one in at a time.
            self._db = sqlite3.connect(
                self.path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._open()
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(str(error)) from error

    def _open(self) -> None:
        # Tables before the mark: another process may make both, in one commit, while we look.
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if tables and application != APPLICATION_ID:
            raise self._unusable("it holds something else")
        if version > VERSION:
            raise self._unusable(f"it was written by a newer version ({version})")
        self._write_ahead()
        self._db.execute("PRAGMA synchronous = NORMAL")
        if version < VERSION:
            self._make()

    def _make(self) -> None:
        """The tables of this version, new or out of an older one's, in one commit."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for table in TABLES:
                self._db.execute(table)
            columns = [row[1] for row in self._db.execute("PRAGMA table_info(answers)")]
            if "missing_labels" not in columns:
                self._db.execute(ADD_MISSING_LABELS)
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {VERSION}")
            self._db.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise

    def _write_ahead(self) -> None:
        """Readers and a writer at once, and no disk flush at each commit.

        A power cut may lose the last commits, a killed process none.
        """
        patience = time.monotonic() + WAIT_SECONDS
        while True:  # SQLite does not wait by itself while two processes change the mode
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > patience:
                    raise
                time.sleep(0.01)

    def _rollback(self) -> None:
        with suppress(sqlite3.Error):  # a full disk has undone it already
            self._db.execute("ROLLBACK")

    def _unusable(self, reason: str) -> UsageError:
        if "disk is full" in reason or "disk I/O" in reason:
            return UsageError(
                f"store {self.path}: {reason}; free some space, and the same command goes on"
            )
        return UsageError(
            f"store {self.path} is not a readable answer store ({reason}): "
            "move it away, or name another file"
        )

    def damaged(self, key: str, reason: str) -> UsageError:
        return self._unusable(f"answer {key} is damaged: {reason}")

    def get_many(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The completions that are there, by key."""
        found: dict[str, Completion] = {}
        try:
            for start in range(0, len(keys), IN_ONE_QUERY):
                some = keys[start : start + IN_ONE_QUERY]
                query = f"SELECT {COLUMNS} FROM answers WHERE key IN ({','.join('?' * len(some))})"
                for key, text, finish, prompt, new, logp, missing in self._db.execute(query, some):
                    label_logp = None if logp is None else tuple(map(float, json.loads(logp)))
                    if not all(isinstance(count, int) for count in (prompt, new, missing)):
                        raise ValueError(f"its counts are {prompt!r}, {new!r}, {missing!r}")
                    found[key] = Completion(text, finish, prompt, new, label_logp, missing)
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from error
        except (ValueError, TypeError) as error:
            raise self.damaged(key, str(error)) from error
        return found

    def put_many(self, identity: str, answers: Mapping[str, tuple[Request, Completion]]) -> None:
        """Keep all answers in one commit. An answer that is there already stays as it is."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(
                    f"INSERT OR IGNORE INTO answers ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [
                        (
                            key,
                            answer.text,
                            answer.finish,
                            answer.prompt_tokens,
                            answer.new_tokens,
                            None if answer.label_logp is None else json.dumps(answer.label_logp),
                            answer.missing_labels,
                        )
                        for key, (_, answer) in answers.items()
                    ],
                )
                self._db.executemany(
                    "INSERT OR IGNORE INTO requests VALUES (?, ?, ?)",
                    [
                        (key, identity, json.dumps(asdict(request), ensure_ascii=False))
                        for key, (request, _) in answers.items()
                    ],
                )
                self._db.execute("COMMIT")
            except BaseException:
                self._rollback()
                raise
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from error

    def asked(self, key: str) -> tuple[str, str] | None:
        """Identity of the model and the request as JSON, for somebody who looks at an answer."""
        row = self._db.execute(
            "SELECT identity, request FROM requests WHERE key = ?", (key,)
        ).fetchone()
        return cast("tuple[str, str] | None", row)

    def identities(self) -> list[str]:
        """Whose answers these are, sorted."""
        found = self._db.execute("SELECT DISTINCT identity FROM requests ORDER BY identity")
        return [str(identity) for (identity,) in found]

    def __len__(self) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM answers").fetchone()
        return int(count)

    def close(self) -> None:
        self._db.close()
