"""Text of others on a terminal: names, titles, models, what servers say.

A terminal obeys control characters, and rich reads `[bold]` and `:smile:`. What somebody else
wrote goes through `plain` (for print) or `escape` (for a rich console), and consoles come from
`console`.
"""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.markup import escape as _escape
from rich.text import Text

from recbole_exp3rt.text import without_surrogates

# Controls but tab and line feed, and what turns the direction of writing: a terminal obeys them.
_OBEYED = dict.fromkeys(
    [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)],
    "\ufffd",
)
WIDTH = 110  # where there is no terminal


def plain(text: object) -> str:
    """`text` without anything that a terminal obeys."""
    return without_surrogates(str(text)).replace("\r\n", "\n").translate(_OBEYED)


def say(text: object) -> None:
    """Print `text`."""
    print(plain(text))


def label(text: object) -> Text:
    """`text` for what reads markup and emoji codes whatever the console says: a status."""
    return Text(plain(text))


def escape(text: object) -> str:
    """`text` for a rich console: what it says, neither markup nor controls."""
    return _escape(plain(text))


def console(**options: Any) -> Console:
    """A console for what we print: no highlighting, and `:m:` in a name stays as it is."""
    return Console(highlight=False, emoji=False, **options)


def standard() -> Console:
    """The console of a command."""
    return console(width=None if sys.stdout.isatty() else WIDTH)
