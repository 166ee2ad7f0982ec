"""Settings on a command line: `--key=value`, `--key value`, or `--key` alone for a flag.

Needs no RecBole and no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.server.urls import masked


def parse_arguments(arguments: Sequence[str], flags: Collection[str] = ()) -> dict[str, str]:
    """The settings as they are written; `flags` are those that need no value.

    Raises: UsageError for what is no setting, a setting without a value, or one given twice.
    """
    values: dict[str, str] = {}
    left = list(arguments)
    while left:
        word = left.pop(0)
        key, equals, value = word[2:].partition("=")
        key = key.replace("-", "_")  # --dry-run is --dry_run
        if not word.startswith("--") or not key:
            raise UsageError(f"argument {masked(word)!r} is not of the form --key=value")
        if not equals:
            if left and not left[0].startswith("--"):
                value = left.pop(0)
            elif key in flags:
                value = "True"
            else:
                raise UsageError(f"--{key} has no value; give --{key}=VALUE")
        if values.get(key, value) != value:
            raise UsageError(
                f"--{key} is given twice, as {masked(values[key])} and as {masked(value)}; keep one"
            )
        values[key] = value
    return values
