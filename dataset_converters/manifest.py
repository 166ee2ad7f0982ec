"""`dataset.json`: what a data set was made of, with which options, and what its files are.

It holds names of files and no folders, so it says nothing about the machine or who used it. The
same command on the same files writes the same text.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

NAME = "dataset.json"
_PIECE = 2**20  # bytes that are read at a time
PACKAGES = ("recbole-exp3rt", "duckdb", "pyarrow", "pandas", "numpy")


@dataclass
class Manifest:
    """What is known of a data set beside its files; `counts` is filled while it is made.

    `options` may hold paths: of those only the names of files are written.
    """

    source: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Path] = ()
    counts: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path, name: str) -> None:
        """Write `dataset.json` about the other files in `folder`. Raises: OSError."""
        files = sorted(path for path in folder.iterdir() if path.name != NAME)
        said = {
            "name": name,
            "source": self.source,
            "options": {key: _plain(value) for key, value in self.options.items()},
            "counts": self.counts,
            "inputs": described(self.inputs),
            "files": described(files),
            "versions": versions(),
        }
        text = json.dumps(said, indent=1, ensure_ascii=False) + "\n"
        (folder / NAME).write_text(text, encoding="utf-8", newline="\n")


def described(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Name, size in bytes and sha256 of each file that is there, in their order."""
    found = []
    for path in files:
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.sha256()
                while piece := file.read(_PIECE):
                    digest.update(piece)
            size = path.stat().st_size
            found.append({"name": path.name, "size": size, "sha256": digest.hexdigest()})
    return found


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide what is written."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _plain(value: object) -> Any:
    """A value for JSON; of a path its last name if it is a file, else `folder`."""
    if isinstance(value, Path):
        return value.name if value.is_file() else "(folder)"
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
