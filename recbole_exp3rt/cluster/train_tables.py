"""The train part of a data set as parquet, for the bulk flow: reviews, items, pairs.

Ids and numbers of the rows are in memory, as RecBole has them; texts go from file to file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recbole_exp3rt.cluster import rows
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.review_file import review_file_of
from recbole_exp3rt.data.review_table import NO_TEXT, ReviewTable
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.data.texts import Pair, Text
from recbole_exp3rt.data.train_corpus import read_descriptions, review_table_of
from recbole_exp3rt.errors import UsageError

GROUP = 20_000  # rows that are written at once
FILE = 500_000  # rows of a file


def sidecar_of(train: Any, settings: Settings) -> Path:
    """The review file of a data set. Raises: UsageError if it is not there."""
    folder, name = Path(train.dataset_path), train.dataset_name
    path = review_file_of(folder, name, settings.review_file)
    if not path.is_file():
        raise UsageError(f"no reviews at {path}: convert the data, or give review_file=PATH")
    return path


def write_reviews(train: Any, settings: Settings, folder: Path) -> int:
    """Write the rows of `train`, a RecBole data set, with their texts: how many have one.

    Of several rows of a (user, item) pair the latest counts, as in a `Corpus`.
    Raises: UsageError if the review file is missing or has no text for any row.
    """
    table = review_table_of(train, settings.review_file)
    order = np.argsort(table.positions, kind="stable")  # of the texts in the file
    write_rows(_review_rows(table, order), rows.REVIEWS, folder)
    return int((table.positions != NO_TEXT).sum())


def _review_rows(table: ReviewTable, order: NDArray[np.int64]) -> Iterator[rows.Row]:
    """The rows in this order, with their texts; of these no more than GROUP are held."""
    users, items = table.tokens
    for start in range(0, len(order), GROUP):
        some = order[start : start + GROUP]
        there = some[table.positions[some] != NO_TEXT]
        texts: dict[int, Text] = {}
        if table.file is not None:
            found = table.file.texts(table.positions[there].tolist())
            texts = dict(zip(there.tolist(), found, strict=True))
        for row in some.tolist():
            title, text = texts.get(row, ("", ""))
            yield {
                "user_id": users[table.users[row]],
                "item_id": items[table.items[row]],
                "rating": float(table.ratings[row]),
                "title": title,
                "text": text,
                "timestamp": float(table.times[row]),
                "helpful": int(table.votes[row]),
            }


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
