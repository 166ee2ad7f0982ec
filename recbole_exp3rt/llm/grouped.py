"""Commits of several answers at once.

Where a commit waits for the disk of a server, answers that arrive during one commit go into the
next. The model works on meanwhile, and no answer waits for another to arrive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Grouped(Generic[T]):
    """Writes items in their order with `write`; gives back those that are written.

    With `beside` a thread writes, whatever has arrived by then in one call; without it each item is
    written at once. Leaving the `with` block, also by an error, writes what has arrived.
    """

    def __init__(self, write: Callable[[list[T]], None], *, beside: bool) -> None:
        self._write = write
        self._pool = ThreadPoolExecutor(1, "commits") if beside else None
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._written: list[T] = []
        self._busy = False
        self._error: BaseException | None = None

    def __enter__(self) -> Grouped[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)

    def add(self, item: T) -> list[T]:
        """Items that are written by now and were not given back before.

        Raises: what `write` raised.
        """
        if self._pool is None:
            self._write([item])
            return [item]
        with self._changed:
            self._waiting.append(item)
            if not self._busy:
                self._busy = True
                self._pool.submit(self._work)
            return self._taken()

    def rest(self) -> list[T]:
        """All other items, once they are written. Raises: what `write` raised."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
            return self._taken()

    def _taken(self) -> list[T]:
        if self._error is not None:
            raise self._error
        written, self._written = self._written, []
        return written

    def _work(self) -> None:
        while True:
            with self._changed:
                some, self._waiting = self._waiting, []
                if not some or self._error is not None:
                    self._busy = False
                    self._changed.notify_all()
                    return
            try:
                self._write(some)
            except BaseException as error:
                with self._changed:
                    self._error = error
            else:
                with self._changed:
                    self._written += some
