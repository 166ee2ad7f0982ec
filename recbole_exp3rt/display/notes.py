"""What is printed of warnings: those for the user as notes, those of libraries not at all."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from recbole_exp3rt.display.terminal import escape


@contextmanager
def noting(console: Console, notes: list[str] | None = None) -> Iterator[None]:
    """Prints what is warned of meanwhile as notes, but for those in `notes`, which it joins."""
    known = [] if notes is None else notes
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        yield
    texts = [str(one.message) for one in said if issubclass(one.category, UserWarning)]
    for text in dict.fromkeys(texts):
        if text in known:
            continue
        known.append(text)
        console.print(f"note: {escape(text)}", soft_wrap=True)


@contextmanager
def quiet() -> Iterator[None]:
    """No deprecations and chatter that RecBole's user can do nothing about."""
    logging.getLogger().setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
