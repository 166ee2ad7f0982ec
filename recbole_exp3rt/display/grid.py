"""Progress over the cells of a grid, with the time left: a bar on a terminal, a line a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from recbole_exp3rt.display.terminal import escape, plain


class CellProgress:
    """Says when each cell begins and ends; one line an end goes to the file `log`, appended.

    `waiting` are the systems of the cells to run, in order. `known` are the seconds of finished
    cells by system: the time left is guessed from them and from the cells that end.
    """

    def __init__(
        self,
        console: Console,
        log: Path,
        waiting: Sequence[str],
        known: Mapping[str, Sequence[float]],
    ) -> None:
        self.console = console
        self.log = log
        self.waiting = list(waiting)
        self.total = len(waiting)
        self.took = {system: list(seconds) for system, seconds in known.items()}
        bar = console.is_terminal and not console.is_dumb_terminal
        columns = (TextColumn("{task.description}", markup=False), BarColumn())
        more = (MofNCompleteColumn(), TextColumn("{task.fields[left]}", markup=False))
        self._bar = Progress(*columns, *more, console=console, transient=True) if bar else None
        self._task = self._bar.add_task("", total=self.total, left="") if self._bar else None

    def __enter__(self) -> CellProgress:
        if self._bar and self.total:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def left(self) -> float | None:
        """Seconds of the cells that wait, as others of their system took, else as all did on
        average; None: no cell was measured yet."""
        every = [second for seconds in self.took.values() for second in seconds]
        if not every:
            return None
        usual = {system: sum(own) / len(own) for system, own in self.took.items() if own}
        return sum(usual.get(system, sum(every) / len(every)) for system in self.waiting)

    def begin(self, cell: str) -> None:
        """A cell begins: the next of those that wait."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=plain(cell), left=self._left())

    def end(self, cell: str, seconds: float, said: str, *, failed: bool = False) -> None:
        """It ended after `seconds`; `said` is a figure of it, or why it has none."""
        system = self.waiting.pop(0)
        if not failed:
            self.took.setdefault(system, []).append(seconds)
        done = self.total - len(self.waiting)
        about = f"; {left}" if (left := self._left()) else ""
        line = f"[{done}/{self.total}] {cell}: {said} ({duration(seconds)}){about}"
        self.console.print(escape(line), soft_wrap=True)
        if self._bar and self._task is not None:
            self._bar.advance(self._task)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with open(self.log, "a", encoding="utf-8", errors="replace") as file:
            file.write(f"{now} {plain(line)}\n")

    def _left(self) -> str:
        left = self.left
        return "" if left is None or not self.waiting else f"about {duration(left)} left"


def duration(seconds: float) -> str:
    """`4 s`, `3 min`, `2:10 h`: as exact as a reader needs it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60}:{minutes % 60:02d} h"
