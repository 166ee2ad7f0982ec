"""What a report holds, before it is written in any form: tables, charts, case studies, origins.

Every form (HTML, Markdown, LaTeX, CSV, JSON) is made of these records, so all say the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from recbole_exp3rt.evaluator.results import Case
from recbole_exp3rt.report.explained import HOW_TO_READ

NONE = "n/a"
MARKS = {"better": "★", "worse": "☆"}  # of a difference that holds
Value = float | int | str | None


@dataclass(frozen=True)
class Heading:
    """The head of a column. `key` names it in files; `note` stands below the title."""

    key: str
    title: str
    note: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """One value and how it reads. `low` and `high` are its 95 % interval, if it has one.

    star: `better` or `worse` than the reference, where the difference holds.
    """

    value: Value
    text: str
    low: float | None = None
    high: float | None = None
    interval: str = ""
    star: str = ""
    best: bool = False

    @property
    def mark(self) -> str:
        """The star of the cell; nothing where it has none."""
        return MARKS.get(self.star, "")

    @property
    def words(self) -> str:
        """All of the cell in one line."""
        said = f"{self.text} {self.mark}" if self.star else self.text
        return f"{said} ({self.interval})" if self.interval else said


@dataclass(frozen=True)
class Table:
    """A table with a file name of its own (`name`), a title, and a sentence on how to read it."""

    name: str
    title: str
    lead: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """The full values, for CSV: intervals and stars in columns of their own."""
        columns: dict[str, list[Value]] = {}
        for at, heading in enumerate(self.headings):
            cells = [row[at] for row in self.rows]
            key = f"{heading.key} ({at})" if heading.key in columns else heading.key
            columns[key] = [cell.value for cell in cells]
            if any(cell.interval for cell in cells):
                columns[f"{key} low"] = [cell.low for cell in cells]
                columns[f"{key} high"] = [cell.high for cell in cells]
            if any(cell.star for cell in cells):
                columns[f"{key} star"] = [cell.star for cell in cells]
        return pd.DataFrame(columns)

    def as_json(self) -> dict[str, Any]:
        """Plain values; a number that is none is null."""
        return {
            "name": self.name,
            "title": self.title,
            "lead": self.lead,
            "columns": [vars(heading) for heading in self.headings],
            "rows": [[vars(cell) for cell in row] for row in self.rows],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Chart:
    """A picture of a table. `figure` has the `data` and `layout` of plotly; the page colours it.

    `points` are the values drawn, where they are more than the table says.
    """

    table: Table
    figure: Mapping[str, Any]
    points: pd.DataFrame | None = None


@dataclass(frozen=True)
class Part:
    """One task on one data set: its findings in sentences, its tables and charts."""

    name: str
    title: str
    findings: tuple[str, ...]
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True)
class Report:
    """A whole report."""

    title: str
    version: str
    date: str  # of this report, ISO 8601
    parts: tuple[Part, ...]
    cases: tuple[tuple[str, Case], ...]  # where a case is from, and the case
    runs: Table  # one row a run: where it comes from
    shared: Mapping[str, Any]  # settings that all runs were given
    effective: Mapping[str, Any] = field(default_factory=dict)  # those that all runs had
    others: tuple[Mapping[str, Any], ...] = ()  # of each run, those that not all had
    how_to_read: tuple[str, ...] = HOW_TO_READ
    kicker: str = "recbole-exp3rt report"
    counted: str = "run"  # what a row of `runs` is

    @property
    def tables(self) -> list[Table]:
        """All tables, in the order of the page."""
        found = []
        for part in self.parts:
            found += [*part.tables, *(chart.table for chart in part.charts)]
        return [*found, self.runs]


def text_cell(text: str | None) -> Cell:
    """A cell with words."""
    return Cell(text or "", text or "")


def number_cell(value: float | None, form: str = ".4f") -> Cell:
    """A cell with a number; None and NaN are n/a."""
    if value is None or math.isnan(value):
        return Cell(None, NONE)
    return Cell(value, signed(format(value, form)))


def signed(text: str) -> str:
    """Numbers with a minus sign instead of a hyphen."""
    return text.replace("-", "−")


def interval_text(low: float, high: float, form: str = ".4f") -> str:
    """`low to high`, which reads well with negative numbers too."""
    return signed(f"{low:{form}} to {high:{form}}")


def rows_of(cells: Sequence[Sequence[Cell]]) -> tuple[tuple[Cell, ...], ...]:
    """Rows as a table keeps them."""
    return tuple(tuple(row) for row in cells)
