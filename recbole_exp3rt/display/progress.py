"""Progress of long steps: a bar with time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recbole_exp3rt.display.steps import log, say
from recbole_exp3rt.display.terminal import plain
from recbole_exp3rt.llm.base import Answer

EVERY = 15.0  # seconds between two lines where there is no terminal
FEW = 20  # the time left is told once a twentieth of the answers is there
STORED = 0.5  # seconds; what comes before that was in the store and tells no rate


class ConsoleProgress:
    """Shows the answers of a step as they arrive; see `stages.pipeline.Progress`."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(
        self, answers: Iterable[tuple[int, Answer]], total: int, title: str
    ) -> Iterator[tuple[int, Answer]]:
        """Pass on the `answers` of the step `title`, of which `total` are expected."""
        log(f"{title}: {total:,} …")
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            yield from self._bar(answers, total, title)
        else:
            yield from self._lines(answers, total, title)

    def _bar(
        self, answers: Iterable[tuple[int, Answer]], total: int, title: str
    ) -> Iterator[tuple[int, Answer]]:
        what = TextColumn("{task.description}", markup=False)
        columns = (what, BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self.console) as bar:
            task = bar.add_task(plain(title), total=total)
            for answer in answers:
                bar.advance(task)
                yield answer
        log(f"{title}: done")

    def _lines(
        self, answers: Iterable[tuple[int, Answer]], total: int, title: str
    ) -> Iterator[tuple[int, Answer]]:
        start = said = last = time.monotonic()
        done = stored = 0
        for done, answer in enumerate(answers, 1):
            now = time.monotonic()
            before = done - 1
            if before and now - said >= EVERY:
                # Answers come in bursts: the rate is that of the bursts before this one. The
                # first few tell no rate: all prompts of their batch were read by then.
                about, asked = "", before - stored
                if asked and FEW * asked >= total - stored:
                    left = timedelta(seconds=round((last - start) / asked * (total - before)))
                    about = f", about {left} left"
                say(self.console, f"{title}: {before:,} of {total:,}{about}")
                said = now
            if now - start < STORED:
                stored = done
            yield answer
            last = now
        took = timedelta(seconds=round(time.monotonic() - start))
        say(self.console, f"{title}: {done:,} of {total:,} in {took}")
