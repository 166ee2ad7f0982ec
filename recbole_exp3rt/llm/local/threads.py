"""How many threads torch uses while other processes work on the same cores.

torch's threads share each operation and wait for the slowest, and that is the one that waits for a
core: with one of two cores taken, one thread is faster than two (benchmarks/busy_machine.py). So
the engine looks every few seconds at how much CPU others take, and leaves them their cores until
they are free again. What it does not know: others in its own container, where that may use fewer
cores than there are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from recbole_exp3rt.llm.local.waiting import cpu_quota, usable_cores

SECONDS = 2.0  # between two looks
STALE = 30.0  # an average over more seconds says little about now
# A thread goes once others take more than half of its core. It comes back once they take less than
# a quarter. Between the two nothing changes: else half a core of work would move it to and fro.
GIVE_UP = 0.5
TAKE_BACK = 0.25


def busy_seconds() -> float:
    """CPU seconds that all processes have had on the cores this one may use; 0: nobody tells."""
    import psutil

    try:
        cores = psutil.cpu_times(percpu=True)
    except OSError:
        return 0.0
    if hasattr(os, "sched_getaffinity"):
        usable = os.sched_getaffinity(0)
        cores = [times for core, times in enumerate(cores) if core in usable]
    # `steal` is what other virtual machines took
    kinds = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(float(getattr(times, kind, 0.0)) for times in cores for kind in kinds)


class Threads:
    """The threads of torch in this process: as many as others leave cores, at most all it had.

    `count` and `set_count` read and set their number. `cores` are those that this process may use,
    `quota` is what its container grants. `busy` tells the CPU seconds of all processes, `own` those
    of this one, `clock` the time in seconds.
    """

    def __init__(
        self,
        count: Callable[[], int],
        set_count: Callable[[int], None],
        *,
        cores: int | None = None,
        quota: int | None = None,
        busy: Callable[[], float] = busy_seconds,
        own: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count = count
        self._set_count = set_count
        self._cores = cores or usable_cores()
        self._quota = quota or cpu_quota() or self._cores
        self._busy = busy
        self._own = own
        self._clock = clock
        self._at_work = 0  # engines
        self._before = 1  # threads before the first of them began
        self._given_up = 0  # threads
        self._seen: tuple[float, float] | None = None  # the last look: time, seconds of others

    @contextmanager
    def shared(self) -> Iterator[Callable[[], None]]:
        """Share the cores with others: `look`, to be called often. Then all threads are back."""
        if not self._at_work:
            self._before = self._count()
        self._at_work += 1
        try:
            self._use(self._most - self._given_up)
            yield self.look
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._use(self._before)

    def look(self) -> None:
        """Set the number of threads by what others took since the last look, if it is time to."""
        now, seen = self._clock(), self._seen
        if seen is not None and now - seen[0] < SECONDS:
            return
        others = self._busy() - self._own()
        self._seen = now, others
        if seen is None or now - seen[0] > STALE:
            return
        free = self._cores - (others - seen[1]) / (now - seen[0])
        threads = max(1, self._most - self._given_up)
        while threads > 1 and free < threads - GIVE_UP:
            threads -= 1
        while threads < self._most and free > threads + 1 - TAKE_BACK:
            threads += 1
        self._given_up = self._most - threads
        self._use(threads)

    @property
    def _most(self) -> int:
        return min(self._before, self._quota)

    def _use(self, threads: int) -> None:
        threads = max(1, threads)
        if threads != self._count():
            self._set_count(threads)
