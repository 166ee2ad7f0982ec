"""The steps of every conversion: read, keep rated rows, take the k-core, write.

The input is read twice: first for ids, ratings and times, then for the texts of the rows that are
kept. So the texts are never all in memory. This module does not know the format of a source, nor
how its rows get into the engine (`reading.py`).
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import pyarrow as pa

from dataset_converters.cleaning import (
    HALF_CHARACTER,
    SPACES,
    UNUSABLE_ID,
    Dropped,
    one_line,
    plain_text,
)
from dataset_converters.engine import DUPLICATE, Engine, Limits, core_of
from dataset_converters.halves import Halves
from dataset_converters.items import item_frames, read_items
from dataset_converters.manifest import Manifest
from dataset_converters.reading import Source, reader_of
from dataset_converters.rejects import Rejects
from dataset_converters.scale import Scale
from dataset_converters.sidecar import Sidecar, form_of
from dataset_converters.subsets import Subset
from dataset_converters.unseen import USERS, draw_unseen, unseen_line
from dataset_converters.watch import Watch
from dataset_converters.write import Table, data_set_name, write_dataset
from recbole_exp3rt.errors import UsageError

__all__ = ["UNUSABLE_ID", "Dropped", "How", "convert", "drop_lines", "k_core_of", "one_line"]
__all__ += ["part_lines", "plain_text", "table_2"]

MOST_OUTSIDE = 0.05  # share of rated rows outside the scale; with more, the scale must be wrong
COLUMNS = ["user_id", "item_id", "rating", "timestamp", "helpful"]

Split = Callable[[pd.DataFrame], dict[str, pd.DataFrame]]


@dataclass(frozen=True)
class How:
    """How a data set is made, whatever its source.

    `halves` makes the paper's top-k split. At most `unseen_users` users below the core are kept in
    files beside the data set, see `unseen.py`. `rejects` is a file for the rows that are dropped,
    `sidecar` the form of the review file: jsonl, parquet, or auto by the number of rows. `subset`
    says which rows are wanted. `dry_run` counts and writes nothing. `told` are the source's name
    and the options for `dataset.json`.
    """

    halves: Halves | None = None
    unseen_users: int = USERS
    rejects: Path | None = None
    sidecar: str = "auto"
    limits: Limits = field(default_factory=Limits)
    subset: Subset = field(default_factory=Subset)
    dry_run: bool = False
    told: tuple[str, Mapping[str, Any]] = ("", MappingProxyType({}))


def convert(
    source: Source,
    output_path: Path,
    properties: Mapping[str, Any],
    k_core: int = 5,
    split: Split | None = None,
    *,
    how: How | None = None,
) -> str:
    """Write `source` as a data set into the folder `output_path`; return printable statistics.

    `properties` are the settings of the data set: `rating_scale` is the range of ratings,
    `description_fields` names the item columns. `split` returns the parts of a data set with a
    fixed split; without it RecBole splits.

    Raises: UsageError if no row is readable, if the k-core is empty, or if more than the share
    MOST_OUTSIDE of the ratings is outside the scale.
    Paper: section 4.1.1.
    """
    how = how or How()
    data_set_name(output_path)
    with _engine(output_path, how.limits) as engine, Watch() as watch:
        return _Conversion(engine, watch, source, output_path, properties, how).run(k_core, split)


@contextmanager
def _engine(output_path: Path, limits: Limits) -> Any:
    """An engine whose temporary files stand beside the data set, on the same disk."""
    there = next(folder for folder in output_path.resolve().parents if folder.is_dir())
    folder = there / f".{output_path.name}.{os.getpid()}.engine"
    engine = Engine(folder, limits)
    try:
        yield engine
    finally:
        engine.close()
        shutil.rmtree(folder, ignore_errors=True)


class _Conversion:
    """One conversion: its tables are in the engine, its counts here."""

    def __init__(
        self,
        engine: Engine,
        watch: Watch,
        source: Source,
        output_path: Path,
        properties: Mapping[str, Any],
        how: How,
    ) -> None:
        self.engine, self.source, self.how = engine, source, how
        self.output_path, self.properties = output_path, properties
        self.scale = Scale.read(properties["rating_scale"])
        self.watch = watch
        self.reader = reader_of(source, engine, watch)
        self.noted: Counter[str] = Counter({SPACES: 0, HALF_CHARACTER: 0})

    def run(self, k_core: int, split: Split | None) -> str:
        """Do all steps; return the statistics."""
        engine, name = self.engine, self.output_path.name
        self.watch.stage("reading ids and ratings")
        self.noted.update(self.reader.collect())
        self.watch.stage("duplicates and k-core")
        self._keep_ratings()
        self.how.subset.by_date(engine)
        dropped = engine.reasons()
        if not engine.number("SELECT count(*) FROM found"):
            counts = "; ".join(map(str.strip, drop_lines(dropped))) or "the input is empty"
            raise UsageError(f"{name}: no readable row with a rating ({counts}); check the input")
        engine.code()
        dropped[DUPLICATE] += engine.latest_of_each_pair()
        dropped[f"below the {k_core}-core"] += engine.k_core(k_core)
        if not engine.number("SELECT count(*) FROM core"):
            raise UsageError(f"k_core={k_core} leaves no row of {name}; use a smaller one")
        rejects = self._rejects(k_core)
        dropped.update(self.how.subset.of_core(engine, self.scale, self.how.halves))
        high_only = self.how.halves or self.how.subset.subset
        draw_unseen(engine, 0 if high_only else self.how.unseen_users)
        unseen = [unseen_line(engine)] if engine.number("SELECT count(*) FROM unseen") else []
        tables, parts = self._parts(split)
        (counts,) = engine.sql("SELECT count(DISTINCT u), count(DISTINCT i), count(*) FROM core")
        lines = [table_2(name, *counts), *parts, *drop_lines(dropped), *unseen]

        self.watch.stage("reading the metadata of items")
        columns = list(self.properties["description_fields"])
        self.noted.update(read_items(engine, self.source, columns, self.watch))
        tables["item"] = item_frames(engine, columns, "core")
        texts = {"": "core"}
        if unseen:
            tables["unseen.inter"] = (COLUMNS, engine.lines("unseen"))
            tables["unseen.item"] = item_frames(engine, columns, "unseen")
            texts[".unseen"] = "unseen"
        form = form_of(counts[2], self.how.sidecar)
        sidecar = Sidecar(self.reader, engine, texts, form)
        lines += drop_lines(self.noted, "noted")
        if self.how.dry_run:
            return "\n".join([*lines, "  dry run: nothing was written"])
        self.watch.stage("writing, with texts")
        manifest = self._manifest(counts, dropped)
        write_dataset(self.output_path, tables, sidecar, self.properties, rejects, manifest)
        return "\n".join(lines)

    def _manifest(self, counts: tuple[int, int, int], dropped: Mapping[str, int]) -> Manifest:
        """What `dataset.json` says."""
        said: dict[str, Any] = dict(zip(("users", "items", "interactions"), counts, strict=True))
        said |= {"unseen": self.engine.number("SELECT count(*) FROM unseen")}
        said |= {"dropped": {reason: n for reason, n in dropped.items() if n}}
        said |= {"noted": {reason: n for reason, n in self.noted.items() if n}}
        inputs = getattr(self.source, "inputs", None) or self.reader.files
        return Manifest(*self.how.told, inputs, said)

    def _keep_ratings(self) -> None:
        """Reject the rows of `found` whose ratings are outside the scale."""
        engine, scale = self.engine, self.scale
        found = engine.sql("SELECT rating, count(*) FROM found GROUP BY rating")
        outside = {rating: count for rating, count in found if not scale.has(rating)}
        inside = {rating: count for rating, count in found if scale.has(rating)}
        between = sum(count for rating, count in inside.items() if not scale.is_level(rating))
        self.noted[f"rating between two levels of {scale}, kept as it is"] = between
        if not outside:
            return
        count, of = sum(outside.values()), sum(outside.values()) + sum(inside.values())
        if count > MOST_OUTSIDE * of:
            raise UsageError(
                f"{count:,} of {of:,} ratings ({count / of:.0%}) are outside the scale {scale}, "
                f"from {min([*outside, *inside]):g} to {max([*outside, *inside]):g}; give "
                "--rating_scale LOWEST HIGHEST [STEP]"
            )
        table = pa.table({"rating": pa.array(outside, pa.float64())})
        engine.sql("CREATE TABLE outside AS FROM ratings", ratings=table)
        engine.reject("FROM found SEMI JOIN outside USING (rating)", f"rating outside {scale}")
        engine.sql("DELETE FROM found WHERE rating IN (SELECT rating FROM outside)")

    def _rejects(self, k_core: int) -> Rejects | None:
        """The file of rejected rows, if it is wanted."""
        if self.how.rejects is None:
            return None
        query = "FROM rows ANTI JOIN core USING (place)"
        self.engine.reject(query, f"below the {k_core}-core")
        return Rejects(self.how.rejects, self.engine, self.reader.files)

    def _parts(self, split: Split | None) -> tuple[dict[str, Table], list[str]]:
        """The atomic files of interactions, and a line on each part of a fixed split."""
        engine, halves = self.engine, self.how.halves
        if split is None and halves is None:
            return {"inter": (COLUMNS, engine.lines("core"))}, []
        rows = engine.frame("core")
        if halves:
            parts = halves.split(rows, self.scale)
            self.properties = halves.properties(self.properties)
            for name, part in parts.items():
                if part.empty and name != "valid":
                    raise UsageError(f"the {name} part has no row; name other ratings as kept_from")
            kept = pa.table({"place": pd.concat(parts.values())["row"].to_numpy()})
            engine.sql("CREATE TABLE all_of_core AS FROM core")
            engine.sql(
                "CREATE OR REPLACE TABLE core AS FROM all_of_core SEMI JOIN kept USING (place)",
                kept=kept,
            )
        else:
            assert split is not None
            parts = split(rows)
        return {f"{n}.inter": part[COLUMNS] for n, part in parts.items()}, part_lines(parts)


def k_core_of(rows: pd.DataFrame, k: int, dropped: Counter[str]) -> pd.DataFrame:
    """Keep the largest part where every user and every item has at least k rows; 0 keeps all."""
    kept = core_of(rows["user_id"], rows["item_id"], k)
    dropped[f"below the {k}-core"] += int((~kept).sum())
    return rows[kept]


def table_2(name: str, users: int, items: int, rows: int) -> str:
    """Number of users, items and interactions, and density, as in the paper's Table 2."""
    return (
        f"{name}: {users:,} users, {items:,} items, {rows:,} interactions, "
        f"density {rows / (users * items):.4f}"
    )


def part_lines(parts: Mapping[str, pd.DataFrame]) -> list[str]:
    """One line for each named part: its number of rows."""
    return [f"  {name}: {len(part):,} rows" for name, part in parts.items() if name]


def drop_lines(dropped: Mapping[str, int], word: str = "dropped") -> list[str]:
    """One line for each reason, the most frequent first."""
    ordered: Iterable[tuple[str, int]] = sorted(dropped.items(), key=lambda pair: -pair[1])
    return [f"  {word} {count:,}: {reason}" for reason, count in ordered if count]
