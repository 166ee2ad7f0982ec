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
    """The sum of what is done."""

    def __init__(self) -> None:
        self.total = Done()

    def add(self, done: Done) -> None:
        """A batch is done."""
        self.total = self.total + done

    def now(self) -> Done:
        """What is done by now."""
        return self.total
