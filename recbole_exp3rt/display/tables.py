"""The rows of a run as tables on a console. Nothing is computed here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from recbole_exp3rt.display.terminal import escape
from recbole_exp3rt.evaluator.results import Row

ACRONYMS = ("rmse", "mae", "ndcg", "mrr", "map", "auc", "gauc")
SMOKE = 100  # fewer pairs or users than this show that a run works, not how well


def smoke(rows: Sequence[Row]) -> str:
    """A mark for tables of fewer than `SMOKE` pairs or users."""
    return " — smoke run" if rows and min(row.n for row in rows) < SMOKE else ""


def show_ratings(console: Console, rows: Sequence[Row], total: int) -> None:
    """The metrics of the test rows that were looked at, the first of them by slice beside.

    Rows of unseen users have a table of their own.
    """
    unseen = [row for row in rows if row.split == "unseen"]
    rows = [row for row in rows if row.split != "unseen"]
    overall = [row for row in rows if row.slice == "all"]
    sizes = {row.slice: row.n for row in rows}
    users = {row.slice: row.users for row in rows}
    of = {(row.name, row.slice): row.metrics for row in rows}
    counted = f", {users['all']:,} users" if users["all"] else ""
    title = f"Rating prediction: {sizes['all']:,} of {total:,} test pairs{counted}"
    _title(console, title, overall)
    table = _table()
    names = list(overall[0].metrics)
    heads = [display(name) for name in names] + [
        f"{display(names[0])} {part}\n{_size(n, users[part])}"
        for part, n in sizes.items()
        if part != "all"
    ]
    for head in heads:
        table.add_column(head, justify="right")
    for row in overall:
        parts = [of[row.name, part][names[0]] for part in sizes if part != "all"]
        values = [*(row.metrics[name] for name in names), *parts]
        table.add_row(escape(row.name), *(f"{value:.4f}" for value in values))
    console.print(table)
    _costs(console, overall)
    if unseen:
        _show_unseen(console, unseen)


def _show_unseen(console: Console, rows: Sequence[Row]) -> None:
    """All metrics of the rows of unseen users, side by side for each draw."""
    parts = {row.slice: (row.n, row.users) for row in rows}
    of = {(row.name, row.slice): row for row in rows}
    _title(console, "Rating prediction for unseen users, by their other reviews", rows)
    table = _table()
    names = list(rows[0].metrics)
    for part, (n, users) in parts.items():
        drawn = part.partition(", ")[2] or "as they are"
        for name in names:
            table.add_column(f"{display(name)} {drawn}\n{_size(n, users)}", justify="right")
    for model in dict.fromkeys(row.name for row in rows):
        values = [of[model, part].metrics[name] for part in parts for name in names]
        table.add_row(escape(model), *map(_number, values))
    console.print(table)
    first = next(iter(parts))
    _costs(console, [row for row in rows if row.slice == first and row.coverage])


def _size(n: int, users: int) -> str:
    """The size of a cell, in pairs and in users."""
    return f"n={n:,}, {users:,} users" if users else f"n={n:,}"


def _number(value: float) -> str:
    """A metric; n/a where the system cannot answer at all."""
    return "n/a" if math.isnan(value) else f"{value:.4f}"


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
            speed = row.pairs_per_second
            rate = "" if speed is None else f", {speed:,.2f} pairs/s"
            console.print(
                f"{escape(row.name)}: coverage {row.coverage:.3f}, {row.calls:,} calls, "
                f"{row.tokens:,} tokens, {row.seconds:,.0f} s{readout}; "
                f"{row.new_tokens:,} new tokens for {row.pairs:,} pairs{rate}"
            )
