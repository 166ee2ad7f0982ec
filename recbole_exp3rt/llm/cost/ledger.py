"""The ledger: a file that holds what was spent, one line for each answer."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.cost.estimate import dollars
from recbole_exp3rt.text import without_surrogates

LINE_START = b'{"when": "'


@dataclass(frozen=True, slots=True)
class Spent:
    """What calls cost: `cost` in USD, without the `unpriced` calls, which have no known price."""

    calls: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0

    def __add__(self, other: Spent) -> Spent:
        """The sum of both."""
        return Spent(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.new_tokens + other.new_tokens,
            self.cost + other.cost,
            self.unpriced + other.unpriced,
        )

    def __str__(self) -> str:
        """One line: calls, tokens, dollars."""
        unpriced = f" ({self.unpriced:,} calls without a known price)" if self.unpriced else ""
        tokens = f"{self.prompt_tokens:,} prompt and {self.new_tokens:,} new tokens"
        return f"{self.calls:,} calls, {tokens}, {dollars(self.cost)}{unpriced}"


@dataclass(frozen=True, slots=True)
class Charge:
    """One answered request: its tokens, its cost in USD (None: no price is known).

    `bound` is the highest cost that was reserved for it, if any.
    """

    model: str
    prompt_tokens: int
    new_tokens: int
    cost: float | None
    bound: float = 0.0


class Ledger:
    """What was spent, one JSON line for each answer. Lines are only appended.

    Each line is one write, so several processes may share a file, and each counts the lines of
    the others. A killed process leaves whole lines. A line that a full disk or a power cut has
    cut off is skipped. Any other line without costs is skipped too; `garbage` describes the first
    one, as a budget cannot be kept then. A file that cannot be written can be read.

    Not in the ledger: requests that were in progress when a process was killed, answers that were
    lost on the connection and asked for again, and the few tokens of the probes that find out
    what a server serves.

    Raises: UsageError if the file cannot be read, or is no ledger.
    """

    flushes = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._read_to = 0
        self._lines = 0
        self._by_model: dict[str, Spent] = {}
        self.garbage = ""  # describes the first line without costs
        self._read_new_lines()

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def check(self) -> None:
        """Check, before anything is paid, that the file can be written. Raises: UsageError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab"):
                pass
        except OSError as error:
            raise self._unusable(error) from error

    def add(self, model: str, prompt_tokens: int, new_tokens: int, cost: float | None) -> None:
        """Append one answered request. Raises: UsageError if it cannot be written."""
        line = {
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "model": without_surrogates(model),
            "calls": 1,
            "prompt_tokens": prompt_tokens,
            "new_tokens": new_tokens,
            "cost": None if cost is None else round(cost, 9),
        }
        try:
            self._append(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise self._unusable(error) from error

    def add_all(self, charges: Sequence[Charge]) -> None:
        """Append answered requests. Raises: UsageError if they cannot be written."""
        for charge in charges:
            self.add(charge.model, charge.prompt_tokens, charge.new_tokens, charge.cost)

    def by_model(self) -> dict[str, Spent]:
        """What all processes have spent so far, by the identity of the model."""
        self._read_new_lines()
        return dict(self._by_model)

    @property
    def total(self) -> Spent:
        """What all processes have spent so far, on all models."""
        return sum(self.by_model().values(), Spent())

    def __str__(self) -> str:
        """One line for each model, then the total."""
        text = as_text(self.by_model())
        return f"{text}\nnot counted: {self.garbage}" if self.garbage else text

    def _append(self, line: bytes) -> None:
        """Append a line in one write. Raises: OSError."""
        with self.path.open("a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":  # the last line is cut off: keep the new one apart
                    line = b"\n" + line
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _read_new_lines(self) -> None:
        """Read the lines that were appended since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read_to)
                added = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(error) from error
        if not self._read_to and added and not added.startswith(b"{"):
            raise UsageError(
                f"ledger {self.path} holds something else: move it away, or name another file"
            )
        complete = added.rfind(b"\n") + 1
        for line in added[:complete].split(b"\n")[:-1]:
            self._lines += 1
            try:
                model, spent = _read_line(line)
            except ValueError as error:
                if line.strip() and not self.garbage and not _is_torn(line):
                    self.garbage = f"line {self._lines}: {error}"
                continue
            self._by_model[model] = self._by_model.get(model, Spent()) + spent
        self._read_to += complete

    def _unusable(self, error: OSError) -> UsageError:
        return UsageError(
            f"ledger {self.path} cannot be used ({error.strerror or error}): "
            "make room, or name another file (ledger: FILE)"
        )


def as_text(by_model: Mapping[str, Spent]) -> str:
    """One line for each model, then the total."""
    lines = [f"{model}: {spent}" for model, spent in sorted(by_model.items())]
    return "\n".join([*lines, f"in all: {sum(by_model.values(), Spent())}"])


def _read_line(line: bytes) -> tuple[str, Spent]:
    """Identity and costs of a line. Raises: ValueError that says what is wrong with it."""
    try:
        entry = json.loads(line)
        counts = [entry[name] for name in ("calls", "prompt_tokens", "new_tokens")]
        model, cost = entry["model"], entry["cost"]
        cost_usd = 0.0 if cost is None else float(cost)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ValueError("it is no line of a ledger") from None
    for number in (*counts, 0 if cost is None else cost):
        if type(number) not in (int, float) or not 0 <= number < math.inf:
            raise ValueError(f"{str(number)[:20]!r} is no number from 0 on")
    calls, prompt, new = (int(count) for count in counts)
    return str(model), Spent(calls, prompt, new, cost_usd, calls if cost is None else 0)


def _is_torn(line: bytes) -> bool:
    """Whether `line` is the start of a ledger line, cut off by a full disk or a power cut."""
    return line.startswith(LINE_START[: len(line)]) and not line.rstrip().endswith(b"}")
