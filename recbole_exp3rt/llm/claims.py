"""Claims: of several runs with one store, one asks for an answer and the others wait for it.

The store keeps which owner claims which key (`ClaimStore`). An owner renews its claims by a
heartbeat; without it they lapse, and an owner that was cut off from the store finds that out.
"""

from __future__ import annotations

import os
import platform
import threading
import time
import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from recbole_exp3rt.errors import UsageError

LAPSE_SECONDS = 30.0  # without a heartbeat, and others may ask
BEATS = 4  # heartbeats within that time


class ClaimStore(Protocol):
    """What a store of answers can do for those who share it. All raise UsageError."""

    def claim(self, owner: str, keys: Sequence[str], seconds: float) -> set[str]:
        """Those of `keys` that are now `owner`'s to ask: no answer is there, and no other owner
        has them. They lapse `seconds` after the last claim or renewal of `owner`.
        """
        ...

    def renew(self, owner: str, seconds: float) -> None:
        """All claims of `owner` hold for `seconds` from now."""
        ...

    def release(self, owner: str, keys: Collection[str]) -> None:
        """Others may ask for those of `keys` that are `owner`'s."""
        ...


class Claims:
    """The claims of one list of questions: a heartbeat goes on from the first claim to the end.

    Leaving the `with` block, also by an error, releases them.
    """

    def __init__(self, store: ClaimStore) -> None:
        self.store = store
        self.seconds = LAPSE_SECONDS
        self.owner = this_owner()
        self._held: set[str] = set()
        self._ended = threading.Event()
        self._heart: threading.Thread | None = None
        self._until = 0.0  # when the claims lapse, on this process's clock
        self._lost = False  # a heartbeat came too late

    @property
    def lapsed(self) -> bool:
        """Whether others may have asked for what was taken: then it is to be taken again."""
        return self._lost or time.monotonic() > self._until

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        with suppress(UsageError):  # they lapse
            self.release(list(self._held))

    def take(self, keys: Sequence[str]) -> set[str]:
        """Those of `keys` that are now ours to ask."""
        start = time.monotonic()
        taken = self.store.claim(self.owner, keys, self.seconds)
        self._held |= taken
        if taken:
            self._until, self._lost = start + self.seconds, False
        if taken and self._heart is None:
            self._heart = threading.Thread(target=self._beat, name="claims", daemon=True)
            self._heart.start()
        return taken

    def release(self, keys: Collection[str]) -> None:
        """Others may ask for them now."""
        if keys:
            self._held.difference_update(keys)
            self.store.release(self.owner, keys)

    def _beat(self) -> None:
        while not self._ended.wait(self.seconds / BEATS):
            start = time.monotonic()
            with suppress(UsageError):  # the next beat, or the next answer, finds out
                self.store.renew(self.owner, self.seconds)
                self._lost |= start > self._until
                self._until = max(self._until, start + self.seconds)


_thread = threading.local()


def this_owner() -> str:
    """This thread of this process: it never waits for itself, so one list of questions may be
    asked while another is not yet read to its end.
    """
    if getattr(_thread, "process", None) != os.getpid():  # a fork has its parent's
        _thread.process, _thread.owner = os.getpid(), uuid.uuid4().hex
    return str(_thread.owner)


def this_process() -> str:
    """Tells processes apart, also those of other machines and of containers."""
    machine = [platform.node()]
    with suppress(OSError):
        machine.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        machine.append(os.readlink("/proc/self/ns/pid"))
    return f"{' '.join(machine)}/{os.getpid()}"


def has_ended(process: str) -> bool:
    """Whether `process` of this machine is gone for certain: then its claims need not lapse."""
    space, _, number = process.rpartition("/")
    if os.name != "posix" or space != this_process().rpartition("/")[0]:
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return False
