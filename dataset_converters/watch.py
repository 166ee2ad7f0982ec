"""What a conversion says while it works: its stage, the rows read, the rate and the time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.status import Status

from dataset_converters.blocks import Progress


class Watch(Progress):
    """A status line on a terminal, nothing elsewhere. `seconds` is the CPU time of each stage."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.status = Status("", console=self.console) if self.console.is_terminal else None
        self.seconds: dict[str, float] = {}
        self.name, self.cpu = "", time.process_time()
        self.sizes: dict[Path, int] = {}
        self.begun, self.rows = time.monotonic(), 0

    def __enter__(self) -> Watch:
        """Show the line."""
        if self.status:
            self.status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Take the line away."""
        self.stage("")
        if self.status:
            self.status.stop()

    def stage(self, name: str) -> None:
        """A stage begins, and the one before it ends."""
        now = time.process_time()
        if self.name:
            self.seconds[self.name] = now - self.cpu
        self.name, self.cpu = name, now
        self._show("")

    def begin(self, files: Sequence[Path]) -> None:
        """See `Progress`."""
        self.sizes = {path: path.stat().st_size for path in files}
        self.begun, self.rows = time.monotonic(), 0

    def at(self, path: Path, taken: int, rows: int) -> None:
        """See `Progress`."""
        self.rows += rows
        files = list(self.sizes)
        before = sum(self.sizes[file] for file in files[: files.index(path)])
        self._show(said(before + taken, sum(self.sizes.values()), self.rows, self.seconds_since()))

    def seconds_since(self) -> float:
        """Seconds since the files were begun."""
        return time.monotonic() - self.begun

    def _show(self, text: str) -> None:
        if self.status:
            self.status.update(f"{self.name}{text}")


def said(taken: int, size: int, rows: int, seconds: float) -> str:
    """Share, rows, rate and time left, when `taken` of `size` bytes took `seconds`."""
    if not taken or not seconds:
        return ""
    left = timedelta(seconds=round(seconds * max(size - taken, 0) / taken))
    return f": {taken / size:.0%}, {rows:,} rows, {rows / seconds:,.0f} a second, {left} left"
