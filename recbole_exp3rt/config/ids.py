"""Whether a data set has a user and an item, looked up in its files in a moment: without torch.

A row that may hold the id counts as one that does: what is refused here is nowhere in the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from recbole_exp3rt.errors import UsageError, nearest

MOST_BYTES = 200_000_000  # a larger file takes seconds to read
MOST_COMPARED = 20_000  # ids that an unknown one is compared with


def check_ids(settings: Mapping[str, Any], user: str, item: str) -> None:
    """Raises: UsageError for a user or an item that occurs nowhere in the data set's files."""
    name, folder = settings["dataset"], Path(settings["data_path"])
    parts = settings["benchmark_filename"]
    rated = [folder / f"{name}.{part}.inter" for part in parts or ()] or [folder / f"{name}.inter"]
    described = [folder / f"{name}.item"]
    for key, subject, one, files, lacks in (
        ("USER_ID_FIELD", "user", user, rated, "has no reviews"),
        ("ITEM_ID_FIELD", "item", item, rated + described, "has neither reviews nor a description"),
    ):
        known: set[str] = set()
        if not any(_may_hold(file, one, settings, str(settings[key]), known) for file in files):
            hint = nearest(one, islice(known, MOST_COMPARED))
            raise UsageError(f"{subject} {one} {lacks} in data set {name}{hint}")


def _may_hold(
    file: Path, token: str, settings: Mapping[str, Any], column: str, known: set[str]
) -> bool:
    """Whether a row may hold the token, or the file cannot be looked through here.

    Ids in the column of that name go into `known`.
    """
    separator, encoding = str(settings["field_separator"]), settings.get("encoding") or "utf-8"
    if len(separator) != 1 or '"' in token:  # a pattern; a quote is written twice
        return True
    try:
        if not file.is_file():
            return False
        if file.stat().st_size > MOST_BYTES:
            return True
        rows = _rows(file, separator, str(encoding))
        names = [name.partition(":")[0] for name in next(rows, [])]
        place = names.index(column) if column in names else -1
        for row in rows:
            if token in row:
                return True
            if 0 <= place < len(row):
                known.add(row[place])
    except (OSError, ValueError, LookupError):  # of an encoding; the run itself says it better
        return True
    return False


def _rows(file: Path, separator: str, encoding: str) -> Iterator[list[str]]:
    with file.open(encoding=encoding) as lines:
        for line in lines:
            yield [value.strip().strip('"') for value in line.split(separator)]
