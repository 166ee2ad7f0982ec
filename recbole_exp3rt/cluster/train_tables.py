"""The train part of a data set as parquet, for the bulk flow: reviews, items, pairs.

Ids and numbers of the rows are in memory, as RecBole has them; texts go from file to file, but for
those of (user, item) pairs that occur more than once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recbole_exp3rt.cluster import rows
from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.data.texts import Pair, Text, own_texts
from recbole_exp3rt.data.train_corpus import (
    column,
    read_descriptions,
    read_sidecar,
    repeated_rows,
    sidecar_texts,
)
from recbole_exp3rt.errors import UsageError

GROUP = 20_000  # rows that are written at once
FILE = 500_000  # rows of a file


def sidecar_of(train: Any, settings: Settings) -> Path:
    """The review file of a data set. Raises: UsageError if it is not there."""
    folder = Path(train.dataset_path)
    path = Path(settings.review_file or folder / f"{train.dataset_name}.reviews.jsonl")
    if not path.is_file():
        raise UsageError(f"no reviews at {path}: convert the data, or give review_file=PATH")
    return path


def write_reviews(train: Any, settings: Settings, folder: Path) -> int:
    """Write the rows of `train`, a RecBole data set, with their texts: how many have one.

    Of several rows of a (user, item) pair the latest counts, as in a `Corpus`.
    Raises: UsageError if there is no text.
    """
    sidecar = sidecar_of(train, settings)
    users = train.id2token(train.uid_field, column(train, train.uid_field).astype(int))
    items = train.id2token(train.iid_field, column(train, train.iid_field).astype(int))
    pairs = list(zip(map(str, users), map(str, items), strict=True))
    times = column(train, train.time_field) if train.time_field else None
    zeros = np.zeros(len(pairs))
    numbers = (
        column(train, train.config["RATING_FIELD"]),
        zeros if times is None else times,
        zeros if (votes := column(train, "helpful")) is None else votes,
    )
    latest = {pairs[row]: int(row) for row in np.argsort(numbers[1], kind="stable")}
    form = (
        train.time_field or "timestamp",
        (train.uid_field, train.iid_field),
        Reader(train.config).names("review_fields", "title and text to fields"),
    )
    repeated = repeated_rows(train, times is not None)
    several = _with_several_texts(sidecar, latest, form) | {(u, i) for u, i, _ in repeated}
    of_several = [row for row, pair in enumerate(pairs) if pair in several]
    keyed = [(*pairs[row], math.nan if times is None else times[row]) for row in of_several]
    own = own_texts(keyed, repeated, read_sidecar(sidecar, several, *form))
    if note := own.note(sidecar.name):
        warnings.warn(note, stacklevel=2)
    found = zip(of_several, own.texts, strict=True)
    kept = {pairs[row]: text for row, text in found if latest[pairs[row]] == row}
    written = 0

    def all_rows() -> Iterator[rows.Row]:
        nonlocal written
        left = dict.fromkeys(latest)

        def row_of(pair: Pair, text: Text) -> rows.Row:
            rating, time, helpful = (float(values[latest[pair]]) for values in numbers)
            title, body = text
            return {
                **dict(zip(("user_id", "item_id"), pair, strict=True)),
                **{"rating": rating, "title": title, "text": body},
                **{"timestamp": time, "helpful": int(helpful)},
            }

        for pair, (_, text) in sidecar_texts(sidecar, latest, *form):
            if pair not in several:
                written += any(text)
                left.pop(pair, None)
                yield row_of(pair, text)
        for pair in left:
            text = kept.get(pair, ("", ""))
            written += any(text)
            yield row_of(pair, text)

    write_rows(all_rows(), rows.REVIEWS, folder)
    if not written:
        raise UsageError(f"{sidecar} has no text for any of the {len(pairs)} train rows")
    return written


def _with_several_texts(sidecar: Path, wanted: dict[Pair, int], form: Any) -> set[Pair]:
    """The pairs that have more than one line in the review file."""
    seen = np.zeros(1 + max(wanted.values(), default=0), dtype=bool)
    several = set()
    for pair, _ in sidecar_texts(sidecar, wanted, *form):
        if seen[wanted[pair]]:
            several.add(pair)
        seen[wanted[pair]] = True
    return several


def write_items(train: Any, settings: Settings, folder: Path) -> None:
    """Write the descriptions of all items. Raises: UsageError for a wrong file or column."""
    path = Path(train.dataset_path) / f"{train.dataset_name}.item"
    form = (train.config["field_separator"], train.config["encoding"])
    found = read_descriptions(path, settings.description_fields, train.iid_field, *form)
    described = (
        {
            "item_id": one.item,
            "labels": [label for label, _ in one.lines],
            "values": [value for _, value in one.lines],
        }
        for one in found.values()
    )
    write_rows(described, rows.ITEMS, folder)


def write_test_pairs(split: Split, folder: Path) -> None:
    """Write the test part: pairs with their ratings."""
    rated = split.ratings("test") if split.has_ratings else [None] * split.size("test")
    test = zip(split.pairs("test"), rated, strict=True)
    distinct = {pair: None if rating is None else float(rating) for pair, rating in test}
    write_rows(_pair_rows(distinct.items()), rows.PAIRS, folder)


def write_pairs_of(file: Path, folder: Path) -> None:
    """Write the pairs of a parquet, CSV or tab-separated file with user_id and item_id.

    A column `rating` is passed on. Raises: UsageError if the file is none of these.
    """
    import pandas as pd

    try:
        if file.is_dir() or file.suffix == ".parquet":
            given = pq.read_table(file).to_pandas()
        else:
            separator = "," if file.suffix == ".csv" else "\t"
            given = pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"--pairs {file} cannot be read as a table: {reason}") from error
    given.columns = [str(name).split(":")[0] for name in given.columns]  # RecBole's types
    if missing := {"user_id", "item_id"} - set(given.columns):
        raise UsageError(
            f"--pairs {file} has no column {min(missing)}; it has {list(given.columns)}"
        )
    pairs = zip(given["user_id"].astype(str), given["item_id"].astype(str), strict=True)
    rated: Sequence[Any] = [None] * len(given)
    if "rating" in given.columns:
        values = pd.to_numeric(given["rating"], errors="coerce")
        rated = [None if math.isnan(value) else float(value) for value in values]
    write_rows(_pair_rows(dict(zip(pairs, rated, strict=True)).items()), rows.PAIRS, folder)


def _pair_rows(pairs: Iterable[tuple[Pair, float | None]]) -> Iterator[rows.Row]:
    for (user, item), rating in pairs:
        yield {"user_id": user, "item_id": item, "rating": rating}


def write_rows(given: Iterable[rows.Row], schema: pa.Schema, folder: Path) -> None:
    """Write rows as parquet files of a new folder, some at a time."""
    folder.mkdir(parents=True)
    source = iter(given)
    number, more = 0, True
    while more:
        with pq.ParquetWriter(folder / f"part-{number:05}.parquet", schema) as file:
            room, more = FILE, False
            while room and (some := list(islice(source, min(GROUP, room)))):
                file.write_table(rows.table(some, schema))
                room, more = room - len(some), True
        number += 1
        more = more and room == 0
