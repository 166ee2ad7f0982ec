"""Rows of a run: kept, written as JSON, shown as tables. Nothing is computed here."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from recbole_exp3rt.display.terminal import escape
from recbole_exp3rt.errors import UsageError

ACRONYMS = ("rmse", "mae", "ndcg", "mrr", "map", "auc", "gauc")
SMOKE = 100  # fewer pairs or users than this show that a run works, not how well


@dataclass(frozen=True)
class Row:
    """One system on one part of the data. `n` counts pairs (rating) or users (rerank)."""

    name: str
    task: str
    metrics: Mapping[str, float]
    n: int
    split: str = "test"
    slice: str = "all"
    coverage: float = 1.0
    calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    readout: str = ""  # how a language model's labels were read: exact, top, parsed
    missing_labels: int = 0  # of those read by top or parsed: bounded, not known


@dataclass
class Results:
    """All rows of a run and where they come from."""

    dataset: str
    split_digest: str
    seed: int
    rows: list[Row] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def write(self, path: str | Path) -> None:
        """Write the result file at once or not at all."""
        body = {
            "rows": [asdict(row) for row in self.rows],
            "dataset": self.dataset,
            "split_digest": self.split_digest,
            "seed": self.seed,
            **self.about,
        }
        write_whole(path, json.dumps(body, indent=1, ensure_ascii=False, default=str))


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A file beside `path` to write; it takes its place at the end, or nothing is changed.

    Raises: UsageError if it cannot be written.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, target)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: str | Path, text: str) -> None:
    """Write a file at once or not at all. Raises: UsageError if it cannot be written."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def check_writable(path: str | Path) -> None:
    """Find out before the work; make nothing. Raises: UsageError if `path` cannot be written."""
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    try:
        there = next(folder for folder in target.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def smoke(rows: Sequence[Row]) -> str:
    return " — smoke run" if rows and min(row.n for row in rows) < SMOKE else ""


def show_ratings(console: Console, rows: Sequence[Row], total: int) -> None:
    """The metrics of the test rows that were looked at, the first of them by slice beside."""
    overall = [row for row in rows if row.slice == "all"]
    sizes = {row.slice: row.n for row in rows}
    of = {(row.name, row.slice): row.metrics for row in rows}
    _title(console, f"Rating prediction: {sizes['all']:,} of {total:,} test pairs", overall)
    table = _table()
    names = list(overall[0].metrics)
    heads = [display(name) for name in names] + [
        f"{display(names[0])} {part}\nn={n:,}" for part, n in sizes.items() if part != "all"
    ]
    for head in heads:
        table.add_column(head, justify="right")
    for row in overall:
        parts = [of[row.name, part][names[0]] for part in sizes if part != "all"]
        values = [*(row.metrics[name] for name in names), *parts]
        table.add_row(escape(row.name), *(f"{value:.4f}" for value in values))
    console.print(table)
    _costs(console, overall)


def show_ranking(console: Console, rows: Sequence[Row], total: int) -> None:
    """The ranking metrics of generators and rerankers, side by side."""
    _title(console, f"Top-k recommendation: {rows[0].n:,} of {total:,} test users", rows)
    heads = {
        name: f"{display(metric)}\n{at}{k}"
        for name in rows[0].metrics
        for metric, at, k in [name.partition("@")]
    }
    room = console.width - max(len(row.name) for row in rows) - 4
    for names in _side_by_side(heads, room):
        table = _table()
        for name in names:
            table.add_column(heads[name], justify="right")
        for row in rows:
            table.add_row(escape(row.name), *(f"{row.metrics[name]:.4f}" for name in names))
        console.print(table)
    _costs(console, rows)


def _side_by_side(heads: Mapping[str, str], room: int) -> list[list[str]]:
    """Columns that stand in one table of `room` characters; the others go into a next one."""
    tables: list[list[str]] = []
    left = 0
    for name, head in heads.items():
        width = max(*map(len, head.split("\n")), len("0.0000")) + 2
        if not tables or width > left:
            tables.append([])
            left = room
        tables[-1].append(name)
        left -= width
    return tables


def display(metric: str) -> str:
    """`rmse` as RMSE, `recall` as Recall: RecBole's results are in lower case."""
    return metric.upper() if metric in ACRONYMS else metric.title()


def _title(console: Console, text: str, rows: Sequence[Row]) -> None:
    console.print(f"\n[bold]{escape(text)}{smoke(rows)}[/bold]")


def _table() -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    return table


def _costs(console: Console, rows: Sequence[Row]) -> None:
    """What the rows that asked a language model took and how much of it could be read."""
    for row in rows:
        if row.calls or row.coverage < 1 or row.readout:
            missing = f" ({row.missing_labels:,} labels missing)" if row.missing_labels else ""
            readout = f", readout {row.readout}{missing}" if row.readout else ""
            console.print(
                f"{escape(row.name)}: coverage {row.coverage:.3f}, {row.calls:,} calls, "
                f"{row.tokens:,} tokens, {row.seconds:,.0f} s{readout}"
            )
