"""Builds a corpus from a RecBole data set: its rows, joined with the review file by raw tokens.

RecBole gives a model the train part only, so a corpus built from a model's data set contains
train rows only. Of the other rows in the files, only the user, the item and the time are read: a
text of such a row must not be joined with a train row of the same user and item (`texts.py`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recbole_exp3rt.config.atomic_files import read_columns
from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.data.review_file import (
    JsonLines,
    Names,
    PairIndex,
    Parquet,
    Places,
    find,
    open_reviews,
    review_file_of,
)
from recbole_exp3rt.data.review_table import NO_TEXT, ReviewTable
from recbole_exp3rt.data.texts import Pair, Row, own_texts
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Description


def corpus_of(
    dataset: Any,
    description_fields: Mapping[str, str],
    review_file: str | None,
    *,
    texts: bool = True,
) -> Corpus:
    """Build the corpus of all rows of `dataset`, a RecBole data set after its `build()`.

    `description_fields` maps columns of the .item file to labels. `review_file` is the path of
    the review file; None means the one in the data set's folder. Without `texts` it
    is not read: for systems that show titles and ratings alone.

    Warns, with numbers, if pairs occur more than once.
    Raises: UsageError if the review file or the ratings are missing.
    """
    table = review_table_of(dataset, review_file, texts=texts)
    path = Path(dataset.dataset_path) / f"{dataset.dataset_name}.item"
    form = (dataset.config["field_separator"], dataset.config["encoding"])
    return table.corpus(read_descriptions(path, description_fields, dataset.iid_field, *form))


def review_table_of(dataset: Any, review_file: str | None, *, texts: bool = True) -> ReviewTable:
    """The rows of `corpus_of` as columns, and where the review file has their texts."""
    folder, name = Path(dataset.dataset_path), dataset.dataset_name
    sidecar = review_file_of(folder, name, review_file)
    if texts and not sidecar.is_file():
        raise UsageError(
            f"no reviews at {sidecar}: review texts are needed; convert the data with "
            "`python -m dataset_converters` or give review_file=PATH"
        )
    rating_field = dataset.config["RATING_FIELD"]
    if rating_field is None or rating_field not in dataset.inter_feat:
        raise UsageError(
            f"data set {name} has no ratings (RATING_FIELD={rating_field}): "
            "a system that reads train rows needs their ratings; use a data set with ratings"
        )
    ids = (dataset.uid_field, dataset.iid_field)
    of_user, of_item = (list(map(str, dataset.field2id_token[field])) for field in ids)
    users, items = (column(dataset, field).astype(np.int64) for field in ids)
    tokens, ends = (of_user, of_item), (users, items)
    times = column(dataset, dataset.time_field) if dataset.time_field else None
    votes = column(dataset, "helpful")
    zeros = np.zeros(len(users))
    file, positions = None, np.full(len(zeros), NO_TEXT)
    if texts:
        fields = Reader(dataset.config).names("review_fields", "title and text to fields")
        file = open_reviews(sidecar, Names(ids, dataset.time_field or "timestamp", **fields))
        positions = _positions(dataset, file, tokens, ends, times)
    columns = {
        "rating": column(dataset, rating_field),
        "time": zeros if times is None else times,
        "helpful": zeros if votes is None else votes,
        "position": positions,
    }
    return ReviewTable(tokens, ends, columns, file)


def _positions(
    dataset: Any, file: JsonLines | Parquet, tokens: Any, ends: Any, times: Any
) -> NDArray[np.int64]:
    """Where the text of each row is in the review file, or NO_TEXT: [n_rows].

    Raises: UsageError if there is no text for any row.
    """
    users, items = ({token: k for k, token in enumerate(side)} for side in tokens)
    index = PairIndex(users, items, ends)
    places, of_row = find(file, index), index.of_rows(*ends)
    if not any(title or text for title, text in file.texts(places.positions)):
        raise UsageError(
            f"{file.path} has no text for any of the {len(of_row)} train rows: review texts are "
            "needed; run the converter again or give review_file=PATH"
        )
    positions = np.full(len(index.codes), NO_TEXT)
    positions[places.pairs] = places.positions
    repeated = repeated_rows(dataset, times is not None)
    several = np.bincount(places.pairs, minlength=len(positions)) > 1
    again = index.of_ids([row[0] for row in repeated], [row[1] for row in repeated])
    several[again[again >= 0]] = True
    own = positions[of_row]
    rows = np.flatnonzero(several[of_row])  # rows of a pair with several rows or texts
    known = np.full(len(rows), math.nan) if times is None else times[rows]
    keyed = [
        (tokens[0][user], tokens[1][item], time)
        for user, item, time in zip(ends[0][rows], ends[1][rows], known, strict=True)
    ]
    pairs = dict(zip(of_row[rows].tolist(), (row[:2] for row in keyed), strict=True))
    chosen = own_texts(keyed, repeated, _alike(file, places, pairs), NO_TEXT)
    own[rows] = chosen.texts
    if note := chosen.note(file.path.name):
        warnings.warn(note, stacklevel=3)
    return own


def _alike(
    file: JsonLines | Parquet, places: Places, pairs: Mapping[int, Pair]
) -> dict[Pair, list[tuple[float, int]]]:
    """Time and position of each text of these pairs; equal texts have one position."""
    own = np.flatnonzero(np.isin(places.pairs, np.array(list(pairs), dtype=np.int64)))
    positions = places.positions[own].tolist()
    first: dict[bytes, int] = {}
    found: dict[Pair, list[tuple[float, int]]] = {}
    for k, position, text in zip(own.tolist(), positions, file.texts(positions), strict=True):
        content = blake2b(repr(text).encode(), digest_size=16).digest()
        told = (float(places.times[k]), first.setdefault(content, position))
        found.setdefault(pairs[int(places.pairs[k])], []).append(told)
    return found


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
    files = [folder / f"{name}{part}.inter" for part in parts]
    tables = [_tokens(file, fields, config) for file in files if file.is_file()]
    if not tables:
        return []
    table = pa.concat_tables(tables)
    table = table.filter(pc.and_(*(pc.is_valid(table[field]) for field in pair)))
    codes = [table[field].combine_chunks().dictionary_encode() for field in pair]
    users, items = (column.indices.to_numpy(False).astype(np.int64) for column in codes)
    own = users * (len(codes[1].dictionary) + 1) + items
    found, counts = np.unique(own, return_counts=True)
    rows = table.take(pa.array(np.flatnonzero(np.isin(own, found[counts > 1]))))
    ids = [rows[field].to_pylist() for field in pair]
    times = np.full(len(rows), math.nan)
    if timed:
        text = rows[dataset.time_field].to_pandas()
        times = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    return list(zip(*ids, times.tolist(), strict=True))


def _tokens(file: Path, fields: list[str], config: Any) -> pa.Table:
    """Columns of an `.inter` file as strings, null where a value is missing."""
    separator, encoding = config["field_separator"], config["encoding"]
    with file.open(encoding=encoding) as lines:
        names = lines.readline().rstrip("\n").split(separator)
    own = [name for name in names if name.split(":")[0] in fields]
    table = read_columns(file, separator, own, encoding)
    if table is None:
        frame = pd.read_csv(
            file,
            sep=separator,
            dtype=str,
            encoding=encoding,
            usecols=lambda column: column.split(":")[0] in fields,
        )
        schema = pa.schema([(name, pa.string()) for name in frame.columns])
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
    plain = [name.split(":")[0] for name in table.column_names]
    return table.rename_columns(plain).select(fields)


def read_descriptions(
    path: Path,
    fields: Mapping[str, str],
    item_field: str = "item_id",
    separator: str = "\t",
    encoding: str | None = None,
) -> Mapping[str, Description]:
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
    columns = [(label, table[name].to_numpy()) for name, label in fields.items()]
    return _Descriptions(table[item_field].tolist(), columns)


class _Descriptions(Mapping[str, Description]):
    """Item id -> description, made when it is asked for."""

    def __init__(self, ids: list[str], columns: list[tuple[str, NDArray[Any]]]) -> None:
        self._rows = {item: row for row, item in enumerate(ids)}
        self._columns = columns  # label and values: [n_items]

    def __getitem__(self, item: str) -> Description:
        row = self._rows[item]
        values = [(label, str(column[row])) for label, column in self._columns]
        lines = ((label, " ".join(value.split())) for label, value in values if value.strip())
        return Description(item, tuple(lines))

    def __contains__(self, item: object) -> bool:
        return item in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
