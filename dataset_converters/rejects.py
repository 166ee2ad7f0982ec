"""The file of rejected rows: file, line and reason of each."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from dataset_converters.blocks import file_and_line
from dataset_converters.engine import Engine
from recbole_exp3rt.errors import UsageError


class Rejects:
    """A CSV file with the columns file, line, reason, in the order of the input.

    `files` are the files that places name. A row's line is the first one of it; in a JSON array it
    is the number of the element.
    Raises: UsageError if `path` is a folder or has none.
    """

    def __init__(self, path: Path, engine: Engine, files: Sequence[Path]) -> None:
        self.path, self.engine, self.files = path.resolve(), engine, files
        self.partial = self.path.with_name(f".{path.name}.{os.getpid()}.partial")
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise UsageError(f"rejects={path} is no file in a folder that is there; name one")

    def write(self) -> None:
        """Write the file beside its place. Raises: OSError."""
        with self.partial.open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(["file", "line", "reason"])
            for batch in self.engine.stream("SELECT place, reason FROM rejects ORDER BY place"):
                for place, reason in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                    number, line = file_and_line(place)
                    lines.writerow([self.files[number] if self.files else "", line, reason])

    def put_in_place(self) -> None:
        """Let the file stand under its name."""
        os.replace(self.partial, self.path)

    def remove_partial(self) -> None:
        """Remove what is not in place."""
        self.partial.unlink(missing_ok=True)
