"""What all commands share: exit codes, standard streams, signals."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console

from recbole_exp3rt.display.terminal import plain, standard
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.server.urls import masked
from recbole_exp3rt.paths import FULL

# Of an OSError: what is no fault of the program
MACHINE = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENOMEM)


def exit_code(work: Callable[[], None]) -> int:
    """Do `work` for the command line: 0, or what went wrong in one line, and its code.

    2: what was given cannot be; 3: the budget is spent; 130, 143: stopped by Ctrl-C, by a signal.
    Work goes on to its end where nobody reads what it prints.
    """
    open_streams()
    out, err = Steady(sys.stdout), Steady(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        with _signals():
            code = _coded(work)
        out.flush()
        if code == 0 and out.error and not isinstance(out.error, BrokenPipeError):
            reason = out.error.strerror or out.error
            print(f"error: standard output cannot be written: {reason}", file=err)
            code = 2
        return code
    finally:
        sys.stdout, sys.stderr = out.leave(), err.leave()


def _coded(work: Callable[[], None]) -> int:
    try:
        work()
    except KeyboardInterrupt as stop:
        print("stopped; the same command goes on with the answers so far", file=sys.stderr)
        return 128 + getattr(stop, "signal", signal.SIGINT)
    except Exception as error:
        code, line = _said(error)
        if not code:
            raise
        print(plain(line), file=sys.stderr)
        return code
    return 0


def _said(error: Exception) -> tuple[int, str]:
    """The exit code and the line of what is no fault of the program; 0 for anything else.

    Their classes are imported here: an error is rare, and the imports take as long as a help.
    """
    from recbole_exp3rt.llm.base import LLMError
    from recbole_exp3rt.llm.cost.budget import BudgetReached
    from recbole_exp3rt.stages.counts import NothingRated

    text = " ".join(str(error).split())
    if isinstance(error, BudgetReached):
        return 3, f"stopped: {error}"
    if isinstance(error, NothingRated):
        return 4, masked(f"stopped: {text}")
    if isinstance(error, (UsageError, LLMError)):
        return 2, masked(f"error: {text}")
    if isinstance(error, OSError) and error.errno in MACHINE:
        where = f" ({error.filename})" if error.filename else ""
        return 2, f"error: {error.strerror}{where}"
    if isinstance(error, MemoryError):
        return 2, f"error: out of memory ({error}); free some, or give less data"
    return 0, ""


def make_console() -> Console:
    """The console of a command: as wide as its terminal, 110 columns where there is none."""
    open_streams()
    return standard()


def open_streams() -> None:
    """Give a process that was started without its standard streams the null device: a file that
    takes the free number would be printed into."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


class Steady:
    """A standard stream that never ends the work: what it cannot encode becomes a question mark,
    and it falls silent at the first error, which is kept."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write `text`, or nothing after the first error."""
        if self.error is None:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                code = self.stream.encoding
                self.stream.write(text.encode(code, "replace").decode(code))
            except OSError as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        """Flush the stream, or do nothing after the first error."""
        if self.error is None:
            try:
                self.stream.flush()
            except OSError as error:
                self.error = error

    def leave(self) -> Any:
        """The stream itself; what it still holds goes nowhere if it is broken."""
        self.flush()
        if self.error is not None:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
        return self.stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Stopped(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C's."""

    def __init__(self, number: int) -> None:
        self.signal = number


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the work as Ctrl-C does; a second one ends the process at once."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []

    def stop(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    # one that is ignored stays so: nohup
    numbers = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
