"""What goes wrong because of what the user gave us: one line, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class UsageError(ValueError):
    """Names the thing, the value and the remedy, in one line. The command line exits with 2."""


def changed(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """The first setting that stands there otherwise, as `rank=8, not 16`; None: it is none."""
    for key, value in ours.items():
        if key in theirs and theirs[key] != value:
            return f"{key}={theirs[key]!r}, not {value!r}"
    return None


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)', or nothing where no known name is near."""
    by_lower: dict[str, str] = {}
    for one in known:
        by_lower.setdefault(one.lower(), one)
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return f" (did you mean {by_lower[found[0]]}?)" if found else ""
