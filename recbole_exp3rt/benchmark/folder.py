"""The folder of a benchmark belongs to one grid: another one would put its report over the first.

`grid.json` in the folder says whose it is: one of ours by its name, a file by its path from the
folder, so both can move together, one made in Python by its title. What a grid holds is not in it:
a grid that grows goes on. A folder for a report is marked in the same way.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from recbole_exp3rt.benchmark.grid import Grid
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import write_atomic

OWNER = "grid.json"


def check_folder(folder: Path, grid: Grid) -> None:
    """Raises: UsageError if the folder is a file, or that of a grid read elsewhere.

    A folder whose grid's file is there no more belongs to whoever comes next.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output={folder} is a file; name a folder")
    owner = _owner(folder)
    if owner is None or owner == _entry(folder, grid):
        return
    file = owner.get("file", "")
    if file and not (folder / file).is_file():
        return
    named = os.path.normpath(folder / file) if file else " ".join(owner.values())
    raise UsageError(
        f"{folder} has the results of another grid, {named}; "
        "name a folder by --output, or give the grid another title"
    )


def is_of(folder: Path, grid: Grid) -> bool:
    """Whether an earlier run of this grid claimed the folder."""
    return _owner(folder) == _entry(folder, grid)


def claim_folder(folder: Path, grid: Grid) -> None:
    """Write down that the folder belongs to the grid."""
    write_atomic(folder / OWNER, json.dumps(_entry(folder, grid)) + "\n")


def _entry(folder: Path, grid: Grid) -> dict[str, str]:
    """What `grid.json` says of a grid."""
    if not os.path.isabs(grid.origin):
        return {"ours": grid.origin} if grid.origin else {"title": grid.title}
    try:
        return {"file": Path(os.path.relpath(grid.origin, folder.resolve())).as_posix()}
    except ValueError:  # on another drive
        return {"file": grid.origin}


def _owner(folder: Path) -> dict[str, str] | None:
    """What the folder's `grid.json` says; None where there is none that can be read."""
    try:
        owner = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in owner.items()}
    except (OSError, ValueError, AttributeError):
        return None
