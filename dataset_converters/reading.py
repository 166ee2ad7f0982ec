"""The two readings of a source: its rows without texts, then the texts of the rows that stay.

A source with a `Form` is read in blocks of lines by the engine, and only what the engine does not
understand goes through Python. Any other source yields its rows one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from dataset_converters import forms
from dataset_converters.blocks import Block, Places, Progress, blocks
from dataset_converters.cleaning import Dropped, plain_text, plain_title, usable
from dataset_converters.engine import Engine
from dataset_converters.read import parsed
from recbole_exp3rt.records import Review

TEXTS = pa.schema(
    {
        "place": pa.int64(),
        "user_id": pa.string(),
        "item_id": pa.string(),
        "title": pa.string(),
        "text": pa.string(),
    }
)
_BATCH = 10_000  # rows with texts that Python holds


class Source(Protocol):
    """Reviews and item metadata of one data set. Each method can be called several times."""

    def reviews(self) -> Iterator[Review | Dropped]:
        """Yield every row of the input, in the same order each time."""
        ...

    def items(self, wanted: AbstractSet[str]) -> Iterator[tuple[str, Mapping[str, str]] | Dropped]:
        """Yield (item id, column -> value) for items in `wanted`; an item's first row counts."""
        ...


@runtime_checkable
class PlacedSource(Source, Protocol):
    """A source that knows where its rows stand: places as in `blocks.py`, of the files `files`."""

    files: list[Path]

    def placed(self) -> Iterator[tuple[int, Review | Dropped]]:
        """Yield every row of the input with its place; places rise."""
        ...


@runtime_checkable
class FormSource(Source, Protocol):
    """A source of JSON lines that the engine reads."""

    def form(self) -> forms.Form:
        """How the lines become reviews."""
        ...


@runtime_checkable
class ItemFormSource(Source, Protocol):
    """A source whose metadata are JSON lines of which the engine finds those that are wanted."""

    def item_form(self) -> forms.ItemForm:
        """Which lines are about an item, and how they are read."""
        ...


@runtime_checkable
class ReaderSource(Source, Protocol):
    """A source with a reader of its own."""

    def reader(self, engine: Engine, progress: Progress) -> Reader | None:
        """The reader, or None where the rows are read one by one."""
        ...


class Reader(Protocol):
    """A source that is read into an engine."""

    files: list[Path]  # a place names one of them by its number

    def collect(self) -> Counter[str]:
        """Fill `found` and `rejects`; return notes of what was changed."""
        ...

    def texts(self, wanted: Places) -> Iterator[pa.Table]:
        """Yield TEXTS of the rows at the places `wanted`, which rise, in their order."""
        ...


def reader_of(source: Source, engine: Engine, progress: Progress) -> Reader:
    """The reader of a source."""
    if isinstance(source, FormSource):
        return LineReader(source.form(), engine, progress)
    if isinstance(source, ReaderSource) and (reader := source.reader(engine, progress)):
        return reader
    return RowReader(source, engine)


class RowReader:
    """Reads a source row by row in Python."""

    def __init__(self, source: Source, engine: Engine) -> None:
        self.source, self.engine = source, engine
        self.files: list[Path] = []

    def _rows(self) -> Iterator[tuple[int, Review | Dropped]]:
        if isinstance(self.source, PlacedSource):
            self.files = list(self.source.files)
            return self.source.placed()
        return enumerate(self.source.reviews(), start=1)

    def collect(self) -> Counter[str]:
        """See `Reader`."""
        notes: Counter[str] = Counter()
        batch = Batch(self.engine)
        for place, review in self._rows():
            batch.add(place, review, notes)
        batch.flush()
        return notes

    def texts(self, wanted: Places) -> Iterator[pa.Table]:
        """See `Reader`."""
        rows: list[tuple[int, str, str, str, str]] = []
        left = iter(wanted.tolist())
        next_one = next(left, None)
        for place, found in self._rows():
            if place != next_one:
                continue
            next_one = next(left, None)
            review = usable(found)[0] if isinstance(found, Review) else found
            assert isinstance(review, Review)  # it was one when the rows were collected
            rows.append((place, review.user, review.item, review.title, review.text))
            if len(rows) == _BATCH:
                yield _table(rows)
                rows = []
        yield _table(rows)


class LineReader:
    """Reads JSON lines through the engine, by a form."""

    def __init__(self, form: forms.Form, engine: Engine, progress: Progress) -> None:
        self.form, self.engine, self.progress = form, engine, progress
        self.files = list(form.files)
        forms.prepare(engine)

    def collect(self) -> Counter[str]:
        """See `Reader`."""
        notes: Counter[str] = Counter()
        batch = Batch(self.engine)
        query = self.form.query()
        for block in blocks(self.files, self.progress):
            rows = self.engine.table(query, block=block.table())
            self.engine.sql(
                'INSERT INTO found SELECT place, "user", item, rating, "time", helpful '
                "FROM rows_read WHERE odd IS NULL",
                rows_read=rows,
            )
            for place, line in _odd(rows):
                if not line.isspace():
                    batch.add(place, self.form.review(parsed(line)), notes)
            batch.flush()
        return notes

    def texts(self, wanted: Places) -> Iterator[pa.Table]:
        """See `Reader`."""
        query = self.form.text_query()
        for block in blocks(self.files, self.progress):
            kept = block.only(wanted)
            if len(kept.places):
                yield self._texts(kept, query)

    def _texts(self, block: Block, query: str) -> pa.Table:
        """TEXTS of a block: titles and texts that the engine calls clean, others through Python."""
        rows = self.engine.table(query, block=block.table())
        columns = {name: rows[name].combine_chunks() for name in TEXTS.names}
        changed = pc.or_(pc.invert(rows["clean"]), pc.is_valid(rows["odd"])).combine_chunks()
        if pc.any(changed).as_py():
            some = rows.filter(changed).select([*TEXTS.names, "named", "odd"])
            new = [self._row(*row) for row in zip(*some.to_pydict().values(), strict=True)]
            for name, values in zip(TEXTS.names[1:], zip(*new, strict=True), strict=True):
                columns[name] = pc.replace_with_mask(
                    columns[name], changed, pa.array(values, pa.string())
                )
        return pa.table(columns, schema=TEXTS)

    def _row(
        self, place: int, user: str, item: str, title: str, text: str, named: bool, odd: str | None
    ) -> tuple[str, str, str, str]:
        if odd is None:
            return user, item, title if named else plain_title(title), plain_text(text)
        review = self.form.review(parsed(odd))
        review = usable(review)[0] if isinstance(review, Review) else review
        assert isinstance(review, Review)  # it was one when the rows were collected
        return review.user, review.item, review.title, review.text


class Batch:
    """Rows from Python on their way into the engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rows: list[tuple[int, Review]] = []
        self.rejects: list[tuple[int, str]] = []

    def add(self, place: int, review: Review | Dropped, notes: Counter[str]) -> None:
        """Add one row; count in `notes` what was changed of it."""
        if isinstance(review, Review):
            review, changes = usable(review)
            notes.update(changes)
        if isinstance(review, Review):
            self.rows.append((place, review))
        else:
            self.rejects.append((place, review.reason))
        if len(self.rows) + len(self.rejects) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Put all into the engine."""
        self.engine.add(self.rows, self.rejects)
        self.rows, self.rejects = [], []


def _odd(rows: pa.Table) -> Iterator[tuple[int, str]]:
    """The places and lines that go to Python."""
    odd = rows.filter(pc.is_valid(rows["odd"]))
    yield from zip(odd["place"].to_pylist(), odd["odd"].to_pylist(), strict=True)


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ([] for _ in TEXTS.names)
    return pa.table(dict(zip(TEXTS.names, map(list, columns), strict=True)), schema=TEXTS)


def items_of(
    source: Source, engine: Engine, wanted: AbstractSet[str], progress: Progress
) -> Iterator[tuple[str, Mapping[str, str]] | Dropped]:
    """What `source.items(wanted)` yields; the engine looks for the lines where it can."""
    if not isinstance(source, ItemFormSource):
        yield from source.items(wanted)
        return
    form = source.item_form()
    forms.prepare(engine)
    engine.sql(
        "CREATE TABLE wanted AS FROM names", names=pa.table({"item": pa.array(wanted, pa.string())})
    )
    for block in blocks(form.files, progress):
        lines = engine.table(form.query(), block=block.table())["line"].to_pylist()
        for line in (line for line in lines if not line.isspace()):
            found = form.describe(parsed(line))
            if isinstance(found, Dropped) or found[0] in wanted:
                yield found
