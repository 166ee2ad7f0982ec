"""Grounding on a console: how good the grounder is, then figures and differences."""

from __future__ import annotations

from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from recbole_exp3rt.display.terminal import escape
from recbole_exp3rt.explain.grounding_run import GroundingReport
from recbole_exp3rt.explain.grounding_tables import tables_of
from recbole_exp3rt.report.content import Cell, Table


def show_grounding(console: Console, report: GroundingReport) -> None:
    """Print all tables, what could not be read, and the warnings."""
    for table in tables_of(report):
        show_table(console, table)
    for step, said in report.unreadable.items():
        console.print(escape(f"{step}: {said}"))
    for warning in report.warnings:
        console.print(f"[bold]Warning:[/bold] {escape(warning)}.")


def show_table(console: Console, table: Table) -> None:
    """Print a table of a report: its title and its sentence above, its notes below."""
    console.print(f"[bold]{escape(table.title)}[/bold]")
    console.print(escape(table.lead))
    shown = RichTable(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for heading in table.headings:
        side: Literal["left", "right"] = "right" if heading.numeric else "left"
        shown.add_column(escape(heading.title), justify=side, overflow="fold")
    for row in table.rows:
        shown.add_row(*map(_cell, row))
    console.print(shown)
    for note in table.notes:
        console.print(escape(note))


def _cell(cell: Cell) -> str:
    """A value with its star, and its interval below."""
    lines = [f"{cell.text} {cell.mark}".strip(), *cell.interval.split("; ")]
    return escape("\n".join(filter(None, lines)))
