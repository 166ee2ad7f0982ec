"""Notes on disk of batches in progress, so that a run that is started again finds them.

A note is written before its batch is created, with a mark that the batch will carry. A run that was
killed between the two finds the batch by its mark, or knows that there is none. A note holds keys
of requests and names of files, no text and no secret.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recbole_exp3rt.errors import UsageError


@dataclass(frozen=True, slots=True)
class Job:
    """`keys` are the questions whose answers have not been taken out of it yet."""

    mark: str
    server: str
    file: str  # what was uploaded
    asked_at: float  # when its creation was asked for
    keys: tuple[str, ...]
    batch: str | None = None  # None: whether it was created is not known


class Jobs:
    """The notes in one folder. Raises: UsageError if it cannot be used."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self.unusable(error) from error

    def all(self) -> list[Job]:
        """The notes of all batches. Raises: UsageError for a file that is no note."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                entry = json.loads(path.read_text(encoding="utf-8"))
                found.append(_read(entry, path.stem))
            except FileNotFoundError:
                continue  # another process was done with it
            except OSError as error:
                raise self.unusable(error) from error
            except (ValueError, TypeError, KeyError, RecursionError):
                raise UsageError(
                    f"{path} is no note of a batch: move it away, or name another folder "
                    "(batch_dir)"
                ) from None
        return found

    def keep(self, job: Job) -> None:
        """Note it, on the disk: a lost note of a batch is a batch that is paid twice."""
        path, part = self._path(job), self.folder / f".{job.mark}.part"
        try:
            with part.open("w", encoding="utf-8") as file:
                json.dump(asdict(job), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError as error:
            raise self.unusable(error) from error

    def drop(self, job: Job) -> None:
        """Delete the note of a batch. Raises: UsageError."""
        try:
            self._path(job).unlink(missing_ok=True)
        except OSError as error:
            raise self.unusable(error) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time submits; the lock of a killed one is gone with it."""
        try:
            lock = (self.folder / ".lock").open("a")
        except OSError as error:
            raise self.unusable(error) from error
        with lock:
            try:
                import fcntl
            except ModuleNotFoundError:  # not on Windows
                yield
            else:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield

    def _path(self, job: Job) -> Path:
        return self.folder / f"{job.mark}.json"

    def unusable(self, error: OSError) -> UsageError:
        """The error for a folder that cannot be read or written."""
        return UsageError(
            f"batch_dir={self.folder} cannot be used ({error.strerror or error}): make room, or "
            "name another folder"
        )


def _read(entry: Any, mark: str) -> Job:
    """The job of a note in the file called `mark`. Raises: ValueError, TypeError, KeyError."""
    job = Job(**{**entry, "keys": tuple(entry["keys"])})
    texts = (job.server, job.file, "" if job.batch is None else job.batch, *job.keys)
    good = job.mark == mark and all(isinstance(text, str) for text in texts)
    if not good or type(job.asked_at) not in (int, float) or not 0 <= job.asked_at < math.inf:
        raise ValueError("its values are none of ours")
    return job
