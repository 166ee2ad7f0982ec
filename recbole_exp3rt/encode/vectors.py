"""Vectors on disk, by a key: one SQLite file, float32, no pickled object."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_exp3rt.errors import UsageError

AT_ONCE = 500  # keys of one query


class VectorStore:
    """Keeps float32 vectors by the digest of a key. Several processes may use it at once."""

    def __init__(self, path: str | Path) -> None:
        """Raises: UsageError if the file cannot be made, or is no such store."""
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self.path, timeout=60)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) "
                "WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"vectors cannot be kept in {self.path}: {error}") from error

    def get(self, keys: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of the keys that are known. Raises: UsageError if it cannot be read."""
        digests = {_digest(key): key for key in keys}
        found: dict[str, NDArray[np.float32]] = {}
        listed = list(digests)
        for start in range(0, len(listed), AT_ONCE):
            some = listed[start : start + AT_ONCE]
            marks = ",".join("?" * len(some))
            try:
                rows = self._file.execute(
                    f"SELECT key, vector FROM vectors WHERE key IN ({marks})", some
                ).fetchall()
            except sqlite3.Error as error:
                raise UsageError(f"{self.path} cannot be read: {error}; delete it") from error
            found |= {digests[key]: np.frombuffer(made, dtype="<f4") for key, made in rows}
        return found

    def put(self, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep vectors. Raises: UsageError if the file cannot be written."""
        rows = [(_digest(key), np.asarray(v, dtype="<f4").tobytes()) for key, v in vectors.items()]
        try:
            with self._file:
                self._file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise UsageError(f"vectors cannot be kept in {self.path}: {error}") from error


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
