"""The review file beside the atomic files: JSON lines or parquet, read in blocks.

A first reading finds where the texts of the wanted pairs are, without keeping a text. Texts are
read later, for the rows that are needed.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recbole_exp3rt.data.texts import Pair, Text, TimedText
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.text import without_surrogates

IDS = ("user_id", "item_id")  # the field names that the converters write
BLOCK = 1 << 24  # bytes of JSON lines that are read at once
BATCH = 65_536  # rows of parquet that are read at once
KEPT = 256 << 20  # bytes of texts out of parquet that are kept for the next question
ENDINGS = ("jsonl", "parquet")


class Names(NamedTuple):
    """The names of the fields of a review file. `ids` are tried first, then IDS."""

    ids: tuple[str, str] = IDS
    time: str = "timestamp"
    title: str = "title"
    text: str = "text"


class Keys(NamedTuple):
    """Some rows of a review file: user and item ids, times (NaN: none), positions: [n_rows]."""

    users: Sequence[str] | pa.DictionaryArray
    items: Sequence[str] | pa.DictionaryArray
    times: NDArray[np.float64]
    positions: NDArray[np.int64]


def review_file_of(folder: Path, name: str, given: str | None = None) -> Path:
    """The path of a data set's review file: `given`, `<name>.reviews.jsonl` or `.parquet`.

    Raises: UsageError if both are there.
    """
    if given:
        return Path(given)
    lines, columns = (folder / f"{name}.reviews.{ending}" for ending in ENDINGS)
    if lines.is_file() and columns.is_file():
        raise UsageError(
            f"{lines} and {columns.name} are both there; remove the old one, or name one "
            "(review_file=PATH)"
        )
    return columns if columns.is_file() else lines


def open_reviews(path: Path, names: Names) -> JsonLines | Parquet:
    """The review file at `path`; what ends in `.parquet` is parquet, all else JSON lines."""
    return Parquet(path, names) if path.suffix == ".parquet" else JsonLines(path, names)


class _File:
    """A review file that must not change between its readings."""

    def __init__(self, path: Path, names: Names) -> None:
        self.path = path
        self.names = names
        self._state = self._now()

    def _now(self) -> tuple[int, int]:
        stat = self.path.stat()
        return stat.st_size, stat.st_mtime_ns

    def _check(self) -> None:
        if self._now() != self._state:
            raise UsageError(f"{self.path} has changed since the run began; start it again")

    def _no_ids(self, what: str) -> UsageError:
        user, item = self.names.ids
        return UsageError(
            f"{self.path} {what}: no {user} and {item}; run the converter again, or set "
            "USER_ID_FIELD and ITEM_ID_FIELD"
        )


class JsonLines(_File):
    """One review a line; a position is the byte where the line begins.

    Blocks are read by pyarrow. A block that it reads in another way than Python (numbers as ids,
    halves of characters, …), or not at all, is read line by line.
    """

    def blocks(self) -> Iterator[Keys]:
        """All rows, in the order of the file, in blocks.

        Raises: UsageError with the line that cannot be read or has no user and item.
        """
        start, number = 0, 1
        with self.path.open("rb") as file:
            while lines := file.readlines(BLOCK):
                begins = start + np.cumsum([0, *map(len, lines)])
                block = self._columns(lines, begins[:-1])
                yield block or self._rows(lines, begins[:-1], number)
                start, number = int(begins[-1]), number + len(lines)

    def texts(self, positions: Iterable[int]) -> Iterator[Text]:
        """Title and text of each position."""
        self._check()
        with self.path.open("rb") as file:
            for position in positions:
                file.seek(position)
                yield self._text(_value(file.readline(), first=position == 0))

    def _text(self, row: Mapping[str, Any]) -> Text:
        fields = (self.names.title, self.names.text)
        title, text = (without_surrogates(str(row.get(field) or "")) for field in fields)
        return title, text

    def _columns(self, lines: list[bytes], begins: NDArray[np.int64]) -> Keys | None:
        """The rows of a block by pyarrow; None where Python has to read them."""
        ids, time = self.names.ids, self.names.time
        fields = {**dict.fromkeys((*ids, *IDS), pa.string()), time: pa.float64()}
        if time != "timestamp":
            fields["timestamp"] = pa.float64()
        block = b"".join(lines)
        try:
            block.decode()
            table = pa.json.read_json(
                io.BytesIO(block),
                read_options=pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
                parse_options=pa.json.ParseOptions(
                    explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore"
                ),
            )
        except (UnicodeDecodeError, pa.ArrowInvalid):  # a byte order mark too
            return None
        if len(table) != len(lines) or any(table[name].null_count for name in ids):
            return None  # empty lines, or other names of the ids
        if (
            time != "timestamp"
            and table[time].null_count
            and (table["timestamp"].null_count < len(table))
        ):
            return None  # some lines name their time otherwise
        users, items = (table[name].combine_chunks().dictionary_encode() for name in ids)
        times = table[time].cast(pa.float64()).to_numpy()
        return Keys(users, items, times, begins)

    def _rows(self, lines: list[bytes], begins: NDArray[np.int64], number: int) -> Keys:
        """The rows of a block line by line. `number` is that of its first line."""
        users, items, times, positions = [], [], [], []
        for k, (line, begin) in enumerate(zip(lines, begins.tolist(), strict=True), number):
            if not line.strip():
                continue
            try:
                row = _value(line, first=k == 1)
            except (ValueError, RecursionError) as error:
                form = "UTF-8" if isinstance(error, UnicodeDecodeError) else "JSON"
                raise UsageError(
                    f"{self.path} line {k} is not {form}; run the converter again"
                ) from None
            named = (self.names.ids, IDS)
            ids = next((n for n in named if isinstance(row, dict) and row.keys() >= set(n)), None)
            if ids is None:
                raise self._no_ids(f"line {k}")
            users.append(str(row[ids[0]]))
            items.append(str(row[ids[1]]))
            times.append(_time(row.get(self.names.time, row.get("timestamp"))))
            positions.append(begin)
        return Keys(users, items, np.array(times, float), np.array(positions, np.int64))


def _value(line: bytes, *, first: bool) -> Any:
    return json.loads(line.decode("utf-8-sig" if first else "utf-8"))


def _time(value: Any) -> float:
    """A time as a number; NaN if it is not one."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


class Parquet(_File):
    """The columns user_id, item_id, title, text, and timestamp if there is one.

    A position is the number of a row. Row groups whose texts were read last are kept, up to KEPT
    bytes.
    """

    def __init__(self, path: Path, names: Names) -> None:
        super().__init__(path, names)
        try:
            with pq.ParquetFile(path) as file:
                groups = [file.metadata.row_group(k) for k in range(file.num_row_groups)]
                self._ends = np.cumsum([group.num_rows for group in groups])
                self._columns = file.schema_arrow.names
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error
        self._kept: dict[int, pa.Table] = {}

    def _unreadable(self, error: Exception) -> UsageError:
        reason = " ".join(str(error).split())
        return UsageError(f"{self.path} is not parquet: {reason}; run the converter again")

    def blocks(self) -> Iterator[Keys]:
        """All rows, in the order of the file, in blocks.

        Raises: UsageError if it cannot be read or has rows without user and item.
        """
        ids = next((n for n in (self.names.ids, IDS) if set(n) <= set(self._columns)), None)
        if ids is None:
            raise self._no_ids("")
        time = next((n for n in (self.names.time, "timestamp") if n in self._columns), None)
        columns, start = [*ids, *([time] if time else [])], 0
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(BATCH, columns=columns, use_threads=False):
                    users, items = (batch[name].cast(pa.string()) for name in ids)
                    if users.null_count or items.null_count:
                        raise self._no_ids(f"rows {start + 1:,} to {start + len(batch):,}")
                    times = np.full(len(batch), math.nan)
                    if time:
                        times = np.asarray(batch[time].cast(pa.float64()).to_numpy(False))
                    yield Keys(
                        users.dictionary_encode(),
                        items.dictionary_encode(),
                        times,
                        np.arange(start, start + len(batch)),
                    )
                    start += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def texts(self, positions: Iterable[int]) -> Iterator[Text]:
        """Title and text of each position; each row group is read once if they rise."""
        self._check()
        wanted = np.fromiter(positions, dtype=np.int64)
        groups = np.searchsorted(self._ends, wanted, side="right")
        bounds = np.flatnonzero(np.diff(groups, prepend=-1, append=-1))
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            group = int(groups[begin])
            first = int(self._ends[group - 1]) if group else 0
            rows = self._group(group).take(pa.array(wanted[begin:end] - first))
            for title, text in zip(*(column.to_pylist() for column in rows.columns), strict=True):
                yield without_surrogates(title or ""), without_surrogates(text or "")

    def _group(self, number: int) -> pa.Table:
        """Title and text of a row group."""
        if (known := self._kept.get(number)) is not None:
            return known
        fields = (self.names.title, self.names.text)
        there = [name for name in dict.fromkeys(fields) if name in self._columns]
        try:
            with pq.ParquetFile(self.path) as file:
                table = file.read_row_group(number, columns=there, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error
        empty = pa.nulls(len(table), pa.string())
        columns = [
            pc.cast(table[name], pa.large_string()) if name in there else empty for name in fields
        ]
        made = pa.table(columns, names=["title", "text"])
        kept = dict(self._kept)
        while kept and made.nbytes + sum(table.nbytes for table in kept.values()) > KEPT:
            del kept[next(iter(kept))]
        self._kept = {**kept, number: made}  # at once: threads may share
        return made


class PairIndex:
    """Numbers of wanted (user, item) pairs. `codes` has one for each different pair, rising."""

    def __init__(
        self, users: Mapping[str, int], items: Mapping[str, int], rows: tuple[Any, Any]
    ) -> None:
        """`users` and `items` number the ids; `rows` are the numbers of both: [n_rows]."""
        self.users = users
        self.items = items
        self.codes = np.unique(self._code(*rows))

    def _code(self, users: NDArray[Any], items: NDArray[Any]) -> NDArray[np.int64]:
        codes: NDArray[np.int64] = users.astype(np.int64) * (len(self.items) + 1) + items
        return codes

    def of_rows(self, users: NDArray[Any], items: NDArray[Any]) -> NDArray[np.int64]:
        """The number of the pair of each row, which must be wanted: [n_rows]."""
        return np.searchsorted(self.codes, self._code(users, items))

    def of_ids(self, users: Any, items: Any) -> NDArray[np.int64]:
        """The number of the pair of raw ids of each row; -1 if it is not wanted: [n_rows]."""
        of_user, of_item = _numbers(users, self.users), _numbers(items, self.items)
        codes = self._code(of_user, of_item)
        if not len(self.codes):
            return np.full(len(codes), -1)
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        known = (of_user >= 0) & (of_item >= 0) & (self.codes[at] == codes)
        return np.where(known, at, -1)


def _numbers(ids: Any, numbers: Mapping[str, int]) -> NDArray[np.int64]:
    if isinstance(ids, pa.DictionaryArray):
        own = [numbers.get(one, -1) for one in ids.dictionary.to_pylist()]
        taken: NDArray[np.int64] = np.array(own, dtype=np.int64)[ids.indices.to_numpy(False)]
        return taken
    return np.array([numbers.get(one, -1) for one in ids], dtype=np.int64)


class Places(NamedTuple):
    """The wanted rows of a review file, in its order: pair, time, position: [n_found]."""

    pairs: NDArray[np.int64]
    times: NDArray[np.float64]
    positions: NDArray[np.int64]


def find(file: JsonLines | Parquet, wanted: PairIndex) -> Places:
    """Where the texts of wanted pairs are. Raises: UsageError, see `blocks`."""
    parts = [Places(np.zeros(0, np.int64), np.zeros(0, np.float64), np.zeros(0, np.int64))]
    for block in file.blocks():
        pairs = wanted.of_ids(block.users, block.items)
        own = np.flatnonzero(pairs >= 0)
        parts.append(Places(pairs[own], block.times[own], block.positions[own]))
    return Places(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def read_sidecar(
    path: Path,
    wanted: set[Pair],
    time_field: str = "timestamp",
    ids: tuple[str, str] = IDS,
    fields: Mapping[str, str] | None = None,
) -> dict[Pair, list[TimedText]]:
    """Titles and texts of the wanted (user, item) pairs, each with its time: for few pairs.

    The time of a row is in its field `time_field` or `timestamp`, NaN if it has neither. `ids`
    names the fields of user and item; user_id and item_id are tried if a row does not have both.
    `fields` maps `title` and `text` to the names of their fields.

    Raises: UsageError with the line that cannot be read or has no user and item.
    """
    file = open_reviews(path, Names(ids, time_field, **(fields or {})))
    pairs = sorted(wanted)
    users = {user: k for k, user in enumerate(dict.fromkeys(user for user, _ in pairs))}
    items = {item: k for k, item in enumerate(dict.fromkeys(item for _, item in pairs))}
    rows = (np.array([users[u] for u, _ in pairs]), np.array([items[i] for _, i in pairs]))
    index = PairIndex(users, items, rows)
    by_number = dict(zip(index.of_rows(*rows).tolist(), pairs, strict=True)) if pairs else {}
    places = find(file, index)
    found: dict[Pair, list[TimedText]] = {}
    texts = file.texts(places.positions.tolist())
    for pair, time, text in zip(places.pairs.tolist(), places.times.tolist(), texts, strict=True):
        found.setdefault(by_number[pair], []).append((time, text))
    return found
