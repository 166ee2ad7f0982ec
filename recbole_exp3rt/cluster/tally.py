"""What the workers of a step have done so far: one count for all of them. Knows nothing of Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class Done:
    """Questions of one step. A question is asked, or its answer was known, in the store.

    `rows` are finished; `failed` rows lack an answer, or what they are made of does.
    """

    rows: int = 0
    asked: int = 0
    known: int = 0
    readable: int = 0
    failed: int = 0

    def __add__(self, other: Done) -> Done:
        return Done(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __str__(self) -> str:
        parts = [f"{self.asked:,} asked", f"{self.known:,} known"]
        return ", ".join([*parts, f"{self.readable:,} readable", f"{self.failed:,} failed"])

    def values(self) -> Mapping[str, int]:
        """By name."""
        return asdict(self)


class Tally:
    """The sum of what is done, and the first error of a worker: Ray passes on its text only."""

    def __init__(self) -> None:
        self.total = Done()
        self.error: Exception | None = None

    def add(self, done: Done | Exception) -> None:
        """A batch is done, or it has failed."""
        if isinstance(done, Done):
            self.total = self.total + done
        else:
            self.error = self.error or done

    def first_error(self) -> Exception | None:
        """What the first batch that failed has raised."""
        return self.error

    def now(self) -> Done:
        """What is done by now."""
        return self.total
