"""Builds a corpus from a RecBole data set: its rows, joined with the review file by raw tokens.

RecBole gives a model the train part only, so a corpus built from a model's data set contains
train rows only. Of the other rows in the files, only the user, the item and the time are read: a
text of such a row must not be joined with a train row of the same user and item (`texts.py`).
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.data.texts import Pair, Row, TimedText, own_texts
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Description, Review
from recbole_exp3rt.text import without_surrogates

IDS = ("user_id", "item_id")  # the field names that the converters write


def corpus_of(
    dataset: Any,
    description_fields: Mapping[str, str],
    review_file: str | None,
    *,
    texts: bool = True,
) -> Corpus:
    """Build the corpus of all rows of `dataset`, a RecBole data set after its `build()`.

    `description_fields` maps columns of the .item file to labels. `review_file` is the path of
    the review file; None means `<name>.reviews.jsonl` in the data set's folder. Without `texts` it
    is not read: for systems that show titles and ratings alone.

    Warns, with numbers, if pairs occur more than once.
    Raises: UsageError if the review file or the ratings are missing.
    """
    folder = Path(dataset.dataset_path)
    sidecar = Path(review_file) if review_file else folder / f"{dataset.dataset_name}.reviews.jsonl"
    if texts and not sidecar.is_file():
        raise UsageError(
            f"no reviews at {sidecar}: review texts are needed; convert the data with "
            "`python -m dataset_converters` or give review_file=PATH"
        )
    rating_field = dataset.config["RATING_FIELD"]
    if rating_field is None or rating_field not in dataset.inter_feat:
        raise UsageError(
            f"data set {dataset.dataset_name} has no ratings (RATING_FIELD={rating_field}): "
            "a system that reads train rows needs their ratings; use a data set with ratings"
        )
    users = dataset.id2token(dataset.uid_field, column(dataset, dataset.uid_field).astype(int))
    items = dataset.id2token(dataset.iid_field, column(dataset, dataset.iid_field).astype(int))
    pairs = list(zip(map(str, users), map(str, items), strict=True))
    zeros = np.zeros(len(pairs))
    times = column(dataset, dataset.time_field) if dataset.time_field else None
    votes = column(dataset, "helpful")
    found = _texts(dataset, sidecar, pairs, times) if texts else [("", "")] * len(pairs)
    rows = zip(
        pairs,
        column(dataset, rating_field).tolist(),
        (zeros if times is None else times).tolist(),
        (zeros if votes is None else votes).tolist(),
        found,
        strict=True,
    )
    reviews = [
        Review(user, item, rating, text, title, time, int(helpful))
        for (user, item), rating, time, helpful, (title, text) in rows
    ]
    item_file = folder / f"{dataset.dataset_name}.item"
    form = (dataset.config["field_separator"], dataset.config["encoding"])
    descriptions = read_descriptions(item_file, description_fields, dataset.iid_field, *form)
    return Corpus(reviews, descriptions)


def _texts(dataset: Any, sidecar: Path, pairs: list[Pair], times: Any) -> list[tuple[str, str]]:
    """Title and text of each row out of the review file. Raises: UsageError if there is no text."""
    ids = (dataset.uid_field, dataset.iid_field)
    fields = Reader(dataset.config).names("review_fields", "title and text to fields")
    written = read_sidecar(sidecar, set(pairs), dataset.time_field or "timestamp", ids, fields)
    if not any(title or text for found in written.values() for _, (title, text) in found):
        raise UsageError(
            f"{sidecar} has no text for any of the {len(pairs)} train rows: review texts are "
            "needed; run the converter again or give review_file=PATH"
        )
    known = np.full(len(pairs), math.nan) if times is None else times
    keyed = [(user, item, time) for (user, item), time in zip(pairs, known, strict=True)]
    own = own_texts(keyed, repeated_rows(dataset, times is not None), written)
    if note := own.note(sidecar.name):
        warnings.warn(note, stacklevel=3)
    return list(own.texts)


def column(dataset: Any, field: str | None) -> Any:
    """A column of the interactions as an array: [n_rows]; None if it is not loaded."""
    if field is None or field not in dataset.inter_feat:
        return None
    return np.asarray(dataset.inter_feat[field])


def repeated_rows(dataset: Any, timed: bool) -> list[Row]:
    """Read the rows whose (user, item) pair occurs more than once in a data set's files.

    All parts of the data set count. Times are only read if `timed`; else they are NaN.
    """
    config, folder, name = dataset.config, Path(dataset.dataset_path), dataset.dataset_name
    parts = [f".{part}" for part in config["benchmark_filename"] or ()] or [""]
    pair = [dataset.uid_field, dataset.iid_field]
    fields = [*pair, dataset.time_field] if timed else pair
    tables = []
    for file in (folder / f"{name}{part}.inter" for part in parts):
        if file.is_file():
            table = pd.read_csv(
                file,
                sep=config["field_separator"],
                dtype=str,
                encoding=config["encoding"],
                usecols=lambda column: column.split(":")[0] in fields,
            )
            tables.append(table.rename(columns=lambda column: column.split(":")[0]))
    if not tables:
        return []
    rows = pd.concat(tables).dropna(subset=pair)
    rows = rows[rows.duplicated(pair, keep=False)]
    times = pd.to_numeric(rows[dataset.time_field], errors="coerce") if timed else math.nan
    return list(rows[pair].assign(time=times).itertuples(index=False, name=None))


def read_sidecar(
    path: Path,
    wanted: set[Pair],
    time_field: str = "timestamp",
    ids: tuple[str, str] = IDS,
    fields: Mapping[str, str] | None = None,
) -> dict[Pair, list[TimedText]]:
    """Read titles and texts of the wanted (user, item) pairs, each with its time.

    Other pairs are not kept. The time of a line is in its field `time_field` or `timestamp`, NaN
    if it has neither. `ids` names the fields of user and item; user_id and item_id are tried if a
    line does not have both. `fields` maps `title` and `text` to the names of their fields.

    Raises: UsageError with the line that cannot be read or has no user and item.
    """
    found: dict[Pair, list[TimedText]] = {}
    for key, timed in sidecar_texts(path, wanted, time_field, ids, fields):
        found.setdefault(key, []).append(timed)
    return found


def sidecar_texts(
    path: Path,
    wanted: Container[Pair],
    time_field: str = "timestamp",
    ids: tuple[str, str] = IDS,
    fields: Mapping[str, str] | None = None,
) -> Iterator[tuple[Pair, TimedText]]:
    """The lines that `read_sidecar` keeps, one after the other."""
    named = {"title": "title", "text": "text", **(fields or {})}
    for number, row in _json_lines(path):
        names = next(
            (n for n in (ids, IDS) if isinstance(row, dict) and row.keys() >= set(n)), None
        )
        if names is None:
            raise UsageError(
                f"{path} line {number}: no {ids[0]} and {ids[1]}; run the converter again, or set "
                "USER_ID_FIELD and ITEM_ID_FIELD"
            )
        key = (str(row[names[0]]), str(row[names[1]]))
        if key in wanted:
            title, text = (
                without_surrogates(str(row.get(named[name]) or "")) for name in ("title", "text")
            )
            time = _time(row.get(time_field, row.get("timestamp")))
            yield key, (time, (title, text))


def _time(value: Any) -> float:
    """A time as a number; NaN if it is not one."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number, from 1, and value of each line that is not empty."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield number, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except (ValueError, RecursionError) as error:
                    form = "UTF-8" if isinstance(error, UnicodeDecodeError) else "JSON"
                    raise UsageError(
                        f"{path} line {number} is not {form}; run the converter again"
                    ) from None


def read_descriptions(
    path: Path,
    fields: Mapping[str, str],
    item_field: str = "item_id",
    separator: str = "\t",
    encoding: str | None = None,
) -> dict[str, Description]:
    """Read item descriptions from the `.item` file: item id -> labelled lines.

    `fields` maps columns to labels; the lines have its order. `separator` and `encoding` are
    RecBole's settings (None: UTF-8, with or without a byte order mark). The first line of an item
    counts, as in RecBole. Empty values are left out. If the file is missing, there are no
    descriptions.

    Raises: UsageError for a file that is not a table, or a missing column.
    """
    if not path.exists():
        return {}
    try:
        table = pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding=encoding or "utf-8-sig",
            engine="c" if len(separator) == 1 else "python",  # "c" takes one character
        )
        if not isinstance(table.index, pd.RangeIndex):  # pandas used the first column as an index
            raise ValueError("its lines have more fields than its header")
    except (ValueError, OSError, LookupError) as error:  # of pandas, of an encoding, of a folder
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} is not a table: {reason}; run the converter again") from error
    table.columns = [str(name).split(":")[0] for name in table.columns]
    if item_field not in table.columns:
        raise UsageError(
            f"{path} has no column {item_field}; it has {list(table.columns)}; "
            "run the converter again"
        )
    if absent := [name for name in fields if name not in table.columns]:
        raise UsageError(
            f"description_fields: {path} has no column {absent[0]}; it has {list(table.columns)}"
        )
    table = table.drop_duplicates(item_field)
    columns = list(fields.items())
    keys = table[item_field].tolist()
    return {
        key: Description(key, _lines(zip(columns, values, strict=True)))
        for key, *values in zip(keys, *(table[name] for name, _ in columns), strict=True)
    }


def _lines(values: Iterable[tuple[tuple[str, str], str]]) -> tuple[tuple[str, str], ...]:
    return tuple((label, " ".join(value.split())) for (_, label), value in values if value.strip())
