"""Errors that the user can correct: a message of one line, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class UsageError(ValueError):
    """A wrong input. The message names the thing, the value and the remedy in one line."""


class NotHere(UsageError):
    """Something that a run needs is not on this machine: a data set, a package, a key."""


def first_difference(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """The first setting whose found value is not the wanted one, as `rank=8, not 16`.

    Only the settings of `wanted` that `found` has are compared. None: there is no difference.
    """
    for key, value in wanted.items():
        if key in found and found[key] != value:
            return f"{key}={found[key]!r}, not {value!r}"
    return None


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' with the most similar known name; '' if none is similar."""
    by_lower: dict[str, str] = {}
    for candidate in known:
        by_lower.setdefault(candidate.lower(), candidate)
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return f" (did you mean {by_lower[found[0]]}?)" if found else ""
