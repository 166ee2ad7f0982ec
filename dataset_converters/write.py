"""Writes the atomic files, the review file and the settings of a data set: all or none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from dataset_converters.scale import with_scale
from dataset_converters.unseen import Unseen
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import properties_dir
from recbole_exp3rt.records import Review
from recbole_exp3rt.text import without_surrogates

Sidecar = Iterable[Review]

PARTS = ("train", "valid", "test")
UNSEEN = ("unseen.inter", "unseen.item", "unseen.reviews.jsonl")
WRITTEN = ("inter", *(f"{part}.inter" for part in PARTS), "item", "reviews.jsonl", *UNSEEN)
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
    named = [f"{name}.{ending}" for ending in (*WRITTEN, "yaml")]
    return [file for file in named if (output_path / file).exists()]


def write_dataset(
    output_path: Path,
    parts: Mapping[str, pd.DataFrame],
    items: pd.DataFrame | None,
    reviews: Sidecar | None,
    properties: Mapping[str, Any],
    unseen: Unseen | None = None,
) -> None:
    """Write `<name>[.part].inter`, `.item`, `.reviews.jsonl` and `.yaml` into `output_path`.

    Of `unseen` users, the same beside them as `<name>.unseen.*`, after `reviews` were read.

    The files are first written into a temporary folder beside it, so after an error `output_path`
    is unchanged.

    Raises: UsageError if a file cannot be written.
    """
    name = data_set_name(output_path)
    output_path = output_path.resolve()
    partial = output_path.parent / f".{name}.{os.getpid()}.partial"
    try:
        partial.mkdir(parents=True)
        for part, rows in parts.items():
            _write_table(rows, partial / (f"{name}.{part}.inter" if part else f"{name}.inter"))
        if items is not None:
            _write_table(items, partial / f"{name}.item")
        if reviews is not None:
            _write_sidecar(reviews, partial / f"{name}.reviews.jsonl")
        if unseen is not None:
            _write_table(unseen.rows, partial / f"{name}.unseen.inter")
            _write_table(unseen.items, partial / f"{name}.unseen.item")
            _write_sidecar(unseen.reviews, partial / f"{name}.unseen.reviews.jsonl")
        (partial / f"{name}.yaml").write_text(
            "# Written by dataset_converters; read as a layer of the configuration.\n"
            + yaml.safe_dump(dict(properties), sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )
        _put_in_place(partial, output_path, name)
    except OSError as error:
        raise UsageError(
            f"output_path={output_path}: {error.strerror}; name a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_table(table: pd.DataFrame, path: Path) -> None:
    """Write an atomic file."""
    header = {column: f"{column}:{TYPES.get(column, 'token')}" for column in table}
    # pandas writes and reads it, so quotation marks and tabs are quoted and stay the same.
    table.rename(columns=header).to_csv(path, sep="\t", index=False, lineterminator="\n")


def _write_sidecar(reviews: Sidecar, path: Path) -> None:
    """Write the review file: one JSON object a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for review in reviews:
            entry = {
                "user_id": review.user,
                "item_id": review.item,
                "title": review.title,
                "text": review.text,
            }
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")


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
