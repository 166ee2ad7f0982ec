"""Writes the atomic files, the review file and the settings of a data set: all or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import yaml

from dataset_converters.manifest import NAME, Manifest
from dataset_converters.rejects import Rejects
from dataset_converters.scale import with_scale
from dataset_converters.sidecar import Sidecar
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import properties_dir
from recbole_exp3rt.text import without_surrogates

# An atomic file: a data frame, or the lines after its header, many in one text.
Lines: TypeAlias = tuple[Sequence[str], Iterable[str]]  # columns, texts
Frames: TypeAlias = Iterable[pd.DataFrame]  # parts of one table
Table: TypeAlias = pd.DataFrame | Lines | Frames

PARTS = ("train", "valid", "test")
REVIEWS = ("reviews.jsonl", "reviews.parquet")
WRITTEN = ("inter", *(f"{part}.inter" for part in PARTS), "item", *REVIEWS)
WRITTEN += tuple(f"unseen.{ending}" for ending in ("inter", "item", *REVIEWS))
TYPES = {"rating": "float", "timestamp": "float", "helpful": "float"}  # others: token


def load_properties(
    name: str, item_word: str | None = None, rating_scale: Sequence[float] | None = None
) -> dict[str, Any]:
    """Read `properties/dataset/<name>.yaml`; `item_word` and `rating_scale` replace its values.

    `rating_scale` is LOWEST HIGHEST [STEP].

    Raises: UsageError if it is not a scale.
    """
    text = (properties_dir() / "dataset" / f"{name}.yaml").read_text(encoding="utf-8")
    properties: dict[str, Any] = yaml.safe_load(text)
    if item_word:
        properties["item_word"] = without_surrogates(item_word)
    return with_scale(properties, rating_scale) if rating_scale else properties


def data_set_name(output_path: Path) -> str:
    """The name of the data set: that of its folder. Raises: UsageError if it is a file."""
    if output_path.exists() and not output_path.is_dir():
        raise UsageError(f"output_path={output_path} is a file; name a folder")
    name = output_path.resolve().name
    if not name:
        raise UsageError(f"output_path={output_path} has no name; name a folder for the data set")
    return name


def data_set_files(output_path: Path) -> list[str]:
    """The files of a data set that `output_path` holds already, by name."""
    name = output_path.resolve().name
    named = [*(f"{name}.{ending}" for ending in (*WRITTEN, "yaml")), NAME]
    return [file for file in named if (output_path / file).exists()]


def write_dataset(
    output_path: Path,
    tables: Mapping[str, Table],
    reviews: Sidecar | None,
    properties: Mapping[str, Any],
    rejects: Rejects | None = None,
    manifest: Manifest | None = None,
) -> None:
    """Write `<name>.<ending>` for each ending in `tables`, the review files and `<name>.yaml`.

    `dataset.json` tells about them what `manifest` holds.

    The files are first written into a temporary folder beside `output_path`, so after an error
    `output_path` is unchanged. `rejects` are written at the same time.

    Raises: UsageError if a file cannot be written.
    """
    name = data_set_name(output_path)
    output_path = output_path.resolve()
    partial = output_path.parent / f".{name}.{os.getpid()}.partial"
    try:
        partial.mkdir(parents=True)
        for ending, table in tables.items():
            _write_table(table, partial / f"{name}.{ending}")
        if reviews is not None:
            _write_sidecar(reviews, partial / name)
        (partial / f"{name}.yaml").write_text(
            "# Written by dataset_converters; read as a layer of the configuration.\n"
            + yaml.safe_dump(dict(properties), sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )
        (manifest or Manifest()).write(partial, name)
        if rejects is not None:
            rejects.write()
        _put_in_place(partial, output_path, name)
        if rejects is not None:
            rejects.put_in_place()
    except OSError as error:
        raise UsageError(
            f"output_path={output_path}: {error.strerror}; name a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if rejects is not None:
            rejects.remove_partial()


def _write_table(table: Table, path: Path) -> None:
    """Write an atomic file."""
    if isinstance(table, tuple):
        columns, texts = table
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.write("\t".join(map(_typed, columns)) + "\n")
            file.writelines(texts)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        for number, part in enumerate([table] if isinstance(table, pd.DataFrame) else table):
            # pandas writes and reads it, so quotation marks and tabs are quoted and stay the same.
            named = part.rename(columns={column: _typed(column) for column in part})
            named.to_csv(file, sep="\t", index=False, lineterminator="\n", header=number == 0)


def _typed(column: str) -> str:
    """The name of a column with its type, as RecBole's header has it."""
    return f"{column}:{TYPES.get(column, 'token')}"


def _write_sidecar(reviews: Sidecar, stem: Path) -> None:
    """Write the review files `<stem>.reviews.*`."""
    reviews.write(stem)


def _put_in_place(partial: Path, output_path: Path, name: str) -> None:
    """Move the files into `output_path`, and remove old files that have no new version."""
    if not output_path.exists():
        partial.rename(output_path)
        return
    for ending in WRITTEN:  # files of an earlier conversion, perhaps with another split
        stale = output_path / f"{name}.{ending}"
        if stale.is_file() and not (partial / stale.name).exists():
            stale.unlink()
    for file in partial.iterdir():
        os.replace(file, output_path / file.name)
