"""Tables of several runs on a console: means over seeds, spread, intervals, stars, costs.

Nothing is computed here; `evaluator/comparison.py` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from recbole_exp3rt.display.tables import display
from recbole_exp3rt.display.terminal import escape
from recbole_exp3rt.evaluator.comparison import (
    Column,
    ComparisonTable,
    Figure,
    Line,
    verdict,
)

# Data set -> system -> "rmse", "rmse warm", "recall@5" … -> a printed figure
Printed = Mapping[str, Mapping[str, Mapping[str, float]]]
TITLES = {"rating": "Rating prediction", "rerank": "Top-k recommendation"}
VIEWS = {
    "all": "",
    "common": ", on the rows that every system answered",
    "filled": ", with Bias where a system has no answer",
}
LEGEND = (
    "±: half of the range over seeds. [low, high]: 95 of 100 draws of users and seeds. "
    "*: better than {reference}, !: worse (p < 0.05, by user, corrected for the table)."
)
MARKS = {"better": "*", "worse": "!", "": ""}


def show_comparison(
    console: Console,
    tables: Sequence[ComparisonTable],
    slices: Sequence[str] = (),
    printed: Printed | None = None,
    source: str = "",
) -> None:
    """Print each table; of a rating table the columns of these `slices`, none: all.

    Below a system stand its `printed` figures, from `source`. Printed figures of a data set
    without a table stand alone.
    """
    printed = printed or {}
    shown: set[str] = set()
    for table in tables:
        columns = [
            place
            for place, column in enumerate(table.columns)
            if not slices or column.slice in slices or column.slice == "all"
        ]
        own = printed.get(table.dataset, {}) if table.view == "all" else {}
        _show(console, table, columns, own)
        shown.add(table.dataset)
    for dataset, systems in printed.items():
        if dataset not in shown:
            _show_printed(console, dataset, systems)
    if printed and source:
        console.print(escape(f"paper: {source}"))


def _show(
    console: Console,
    table: ComparisonTable,
    places: Sequence[int],
    printed: Mapping[str, Mapping[str, float]],
) -> None:
    title = f"{table.dataset}: {TITLES[table.task]}{VIEWS[table.view]}"
    console.print(f"\n[bold]{escape(title)}[/bold]")
    names = [line.system for line in table.lines]
    printed = {name: own for name, own in printed.items() if any(_printed(own, table.columns))}
    labels = [_label(line) for line in table.lines]
    alone = [name for name in printed if name not in names]
    widest = max(map(len, [*labels, *alone]), default=5)
    for part in _side_by_side(len(places), console.width - min(widest, 34) - 4):
        shown = [places[position] for position in part]
        columns = [table.columns[place] for place in shown]
        rich = _table([_head(column) for column in columns])
        for line, label in zip(table.lines, labels, strict=True):
            cells = [(line.figures[place], table.columns[place].metric) for place in shown]
            rich.add_row(escape(label), *(_said(*one) for one in cells))
            below = _printed(printed.get(line.system, {}), columns)
            if any(below):
                rich.add_row("  paper", *below, style="dim")
        for name in alone:
            if any(figures := _printed(printed[name], columns)):
                rich.add_row(escape(f"{name} (paper)"), *figures, style="dim")
        console.print(rich)
    for line in table.lines:
        if line.calls or line.coverage < 1 or line.readout:
            console.print(escape(_cost(line)), soft_wrap=True)
    for note in table.notes:
        console.print(escape(f"note: {note}"), soft_wrap=True)
    console.print(escape(LEGEND.format(reference=table.reference)), style="dim")


def _show_printed(
    console: Console, dataset: str, systems: Mapping[str, Mapping[str, float]]
) -> None:
    console.print(f"\n[bold]{escape(dataset)}: the paper alone; ours n/a[/bold]")
    metrics = list(dict.fromkeys(metric for own in systems.values() for metric in own))
    for part in _side_by_side(len(metrics), console.width - max(map(len, systems)) - 4, 8):
        shown = [metrics[position] for position in part]
        rich = _table([_title(metric) for metric in shown])
        for name, own in systems.items():
            values = (f"{own[m]:.4f}" if m in own else "-" for m in shown)
            rich.add_row(escape(name), *values)
        console.print(rich)


def _side_by_side(number: int, room: int, width: int = 19) -> list[range]:
    """Places of columns that stand in one table; the others go into a next one."""
    fit = max(1, room // width)
    return [range(start, min(start + fit, number)) for start in range(0, number, fit)]


def _table(heads: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("system", overflow="fold")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _head(column: Column) -> str:
    part = "" if column.slice == "all" else f" {column.slice}"
    return f"{_title(column.metric)}{part}\nn={column.rows:,}, {column.users:,} users"


def _title(metric: str) -> str:
    name, space, part = metric.partition(" ")
    plain, at, k = name.partition("@")
    return f"{display(plain)}{at}{k}{space}{part}"


def _label(line: Line) -> str:
    return f"{line.system} ({line.seeds} seeds)" if line.seeds > 1 else line.system


def _said(figure: Figure | None, metric: str) -> str:
    """`1.8312 ±0.0040*` and below it its interval; `-` where there is none."""
    if figure is None:
        return "-"
    half = (figure.highest - figure.lowest) / 2
    spread = f" ±{half:.4f}" if half else ""
    star = MARKS[verdict(figure.against, metric)]
    interval = escape(f"[{figure.interval.low:.3f}, {figure.interval.high:.3f}]")
    return f"{figure.value:.4f}{spread}{star}\n{interval}"


def _printed(figures: Mapping[str, float], columns: Sequence[Column]) -> list[str]:
    """The printed figures of these columns; a whole test set has no slice in its name."""
    keys = [c.metric if c.slice == "all" else f"{c.metric} {c.slice}" for c in columns]
    return [f"{figures[key]:.4f}" if key in figures else "" for key in keys]


def _cost(line: Line) -> str:
    paid = f", ${line.dollars:,.4f}" if line.dollars else ""
    stored = f", {line.hits:,.0f} from the store" if line.hits else ""
    readout = f", readout {line.readout}" if line.readout else ""
    return (
        f"{line.system}: coverage {line.coverage:.3f}, {line.calls:,.0f} calls{stored}, "
        f"{line.tokens:,.0f} tokens{paid}, {line.seconds:,.0f} s{readout}"
    )
