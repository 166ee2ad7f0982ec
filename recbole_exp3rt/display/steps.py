"""The steps of a run: each says on the console and in a log file that it begins and ends.

The log file is plain text, one line an event: date, time, process, what happened.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from recbole_exp3rt.display.terminal import escape, label, plain
from recbole_exp3rt.llm.server.urls import masked

LOG = logging.getLogger("recbole_exp3rt.steps")
LOG.propagate = False
LOG.setLevel(logging.INFO)
LOG.addHandler(logging.NullHandler())  # no log file: nothing is printed instead
FORM = "%(asctime)s %(process)d %(message)s"


def log(text: str) -> None:
    """Write one line to the log file, if there is one; without passwords of URLs."""
    LOG.info("%s", " ".join(plain(masked(text)).split()))


@contextmanager
def logged(path: str | Path | None, console: Console) -> Iterator[None]:
    """Append what happens inside `with` to the log file `path`; None: there is no log file.

    A file that cannot be written is a note on the console, not an error.
    """
    handler: logging.Handler = logging.NullHandler()
    if path is not None:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(path, encoding="utf-8", errors="replace")
        except OSError as error:
            console.print(escape(f"note: no log file {path}: {error.strerror or error}"))
    handler.setFormatter(logging.Formatter(FORM))
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk
    LOG.addHandler(handler)
    try:
        yield
    except BaseException as error:
        log(f"stopped: {type(error).__name__}: {error}")
        raise
    finally:
        LOG.removeHandler(handler)
        handler.close()


def say(console: Console, text: str) -> None:
    """Print a line and log it."""
    console.print(escape(text), soft_wrap=True)
    log(text)


@contextmanager
def step(console: Console, title: str) -> Iterator[None]:
    """A step that takes a while: a moving sign on a terminal, a line elsewhere."""
    log(f"{title} …")
    if console.is_terminal and not console.is_dumb_terminal:
        with console.status(label(title)):
            yield
    else:
        console.print(escape(f"{title} …"))
        yield
