"""The fields of records whose names differ between releases of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataset_converters.columns import listed
from dataset_converters.read import beginning
from recbole_exp3rt.errors import UsageError


def given(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first value of `names` that is there. None and '' are missing, 0 is not."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def filled(files: Sequence[Path]) -> None:
    """Raises: UsageError if there is nothing in any of the files."""
    if not any(beginning(path).strip() for path in files):
        raise UsageError(f"{files[0]} is empty; name the file of the reviews")


def require(
    first: Sequence[Mapping[str, Any]], roles: Mapping[str, Sequence[str]], path: Path
) -> None:
    """Check that the first records of a file have a field for each role.

    Raises: UsageError that names the missing roles and the fields that are there; for an empty
    file, one that says so.
    """
    if not first:
        filled([path])
        raise UsageError(
            f"{path} has no JSON object in a line or a list; for another form see "
            "`exp3rt convert table --help`"
        )
    found = list(dict.fromkeys(name for row in first for name in row))
    lacks = [role for role, names in roles.items() if not set(names) & set(found)]
    if lacks:
        wanted = "; ".join(f"{role}: {' or '.join(roles[role])}" for role in lacks)
        raise UsageError(
            f"{path} lacks a field for {wanted}; its fields are {listed(found)}; for other names "
            "see `exp3rt convert table --help`"
        )
