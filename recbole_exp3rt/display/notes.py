"""Warnings of a run: those for the user become notes, those of libraries are left out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from recbole_exp3rt.display.steps import say


@contextmanager
def noting(console: Console, notes: list[str] | None = None) -> Iterator[None]:
    """Print each warning of the work inside `with` once, as a note; add it to `notes`."""
    known = [] if notes is None else notes
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        yield
    texts = [str(one.message) for one in said if issubclass(one.category, UserWarning)]
    for text in dict.fromkeys(texts):
        if text in known:
            continue
        known.append(text)
        say(console, f"note: {text}")


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out deprecations and messages that a user can do nothing about."""
    logging.getLogger().setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
