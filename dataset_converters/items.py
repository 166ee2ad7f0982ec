"""The descriptions of the items that stay: one row an item, each value on one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pandas as pd
import pyarrow as pa

from dataset_converters.blocks import Progress
from dataset_converters.cleaning import HALF_CHARACTER, Dropped, one_line
from dataset_converters.engine import Engine
from dataset_converters.reading import Source, items_of
from recbole_exp3rt.text import without_surrogates

_BATCH = 10_000  # items that Python holds


def read_items(
    engine: Engine, source: Source, columns: Sequence[str], progress: Progress
) -> Counter[str]:
    """Make the table `described` of the items of `core` and `unseen`; return notes.

    An item's first row counts. `cells` are its values, on one line each.
    """
    query = (
        "SELECT item FROM items SEMI JOIN (SELECT i FROM core UNION SELECT i FROM unseen) USING (i)"
    )
    wanted = {item for batch in engine.stream(query) for item in batch.column(0).to_pylist()}
    engine.sql("CREATE TABLE described (item VARCHAR, cells VARCHAR[])")
    notes: Counter[str] = Counter()
    seen: set[str] = set()
    rows: list[tuple[str, list[str]]] = []
    for found in items_of(source, engine, wanted, progress):
        if isinstance(found, Dropped):
            notes[f"metadata row left out: {found.reason}"] += 1
        elif found[0] not in seen:
            item, described = found
            seen.add(item)
            values = [described.get(column, "") for column in columns]
            notes[HALF_CHARACTER] += any(without_surrogates(value) != value for value in values)
            rows.append((item, [one_line(value) for value in values]))
            if len(rows) == _BATCH:
                _add(engine, rows)
                rows = []
    _add(engine, rows)
    return notes


def _add(engine: Engine, rows: Sequence[tuple[str, list[str]]]) -> None:
    if rows:
        items, cells = zip(*rows, strict=True)
        table = pa.table({"item": list(items), "cells": pa.array(cells, pa.list_(pa.string()))})
        engine.sql("INSERT INTO described FROM added", added=table)


def item_frames(engine: Engine, columns: Sequence[str], of: str) -> Iterator[pd.DataFrame]:
    """The rows of an `.item` file, by item: those of the table `of`, or what `unseen` has alone.

    If an item has no metadata, or a title that RecBole would read as missing, its id is its title.
    """
    others = "ANTI JOIN core USING (i)" if of != "core" else ""
    query = (
        f"SELECT item, cells FROM (SELECT DISTINCT i FROM {of} {others}) JOIN items USING (i) "
        "LEFT JOIN described USING (item) ORDER BY i"
    )
    names = ["item_id", *columns]
    yield pd.DataFrame([], columns=names)  # the header
    for batch in engine.stream(query):
        lines = []
        for item, cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            first, *rest = cells or [""] * len(columns)
            lines.append([item, first or item, *rest])
        yield pd.DataFrame(lines, columns=names)
