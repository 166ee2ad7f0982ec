"""Writes a report into a folder: the HTML page, and Markdown, LaTeX, CSV and JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.comparison import ComparisonTable
from recbole_exp3rt.evaluator.exports import write_table
from recbole_exp3rt.evaluator.results import Results
from recbole_exp3rt.paths import check_new, write_atomic
from recbole_exp3rt.report.composing import compose
from recbole_exp3rt.report.content import Report
from recbole_exp3rt.report.forms import as_json, latex, markdown
from recbole_exp3rt.report.page import html_page
from recbole_exp3rt.report.tables import Paper

FORMS: Mapping[str, Callable[[Report], str]] = {
    "report.html": html_page,
    "report.md": markdown,
    "report.tex": latex,
    "report.json": as_json,
}


def write_report(
    results: Sequence[Results],
    folder: str | Path,
    *,
    title: str,
    paper: Paper | None = None,
    tables: Sequence[ComparisonTable] | None = None,
    notes: Sequence[str] = (),
    overwrite: bool = False,
) -> list[Path]:
    """Write `report.html`, `.md`, `.tex`, `.json` and one CSV a table into `folder`: the files.

    paper: figures to stand beside ours, by (system, column) or (data set, system, column). A
    column is a metric with its slice: `rmse`, `rmse cold`, `ndcg@10`.
    tables: the comparison of these results, if it is made already.
    notes: sentences below the first table of each data set.
    Raises: UsageError if there is nothing to report, a file is there already (and no
    `overwrite`), or cannot be written; nothing is written then.
    """
    place = Path(folder)
    check_report(place, overwrite=overwrite)
    report = compose(results, title=title, paper=paper, tables=tables, notes=notes)
    if not report.parts:
        raise UsageError(f"report: {place} gets nothing, as no system was measured")
    frames = _frames(report)
    texts = {name: make(report) for name, make in FORMS.items()}
    for name in frames:
        check_new("report", place / f"{name}.csv", overwrite=overwrite)
    _remove_old_tables(place, frames)
    written = []
    for name, text in texts.items():
        write_atomic(place / name, text)
        written.append(place / name)
    return written + [write_table(frame, place, name, "csv") for name, frame in frames.items()]


def _remove_old_tables(place: Path, frames: Mapping[str, pd.DataFrame]) -> None:
    """Remove the CSVs of the report that stood here and that the new one does not have."""
    try:
        old = json.loads((place / "report.json").read_text(encoding="utf-8"))
        names = [
            str(table["name"])
            for part in old["parts"]
            for table in [*part["tables"], *(chart["table"] for chart in part["charts"])]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in names:
        for file in (name, f"{name}-points"):
            if file not in frames and Path(file).name == file:
                (place / f"{file}.csv").unlink(missing_ok=True)


def check_report(folder: str | Path, *, overwrite: bool, setting: str = "report") -> None:
    """Check that a report can be written into `folder` and replaces none.

    Raises: UsageError with the file and the remedy. Makes nothing.
    """
    if Path(folder).is_file():
        raise UsageError(f"{setting}: {folder} is a file; name a folder")
    for name in FORMS:
        check_new(setting, Path(folder) / name, overwrite=overwrite)


def _frames(report: Report) -> dict[str, pd.DataFrame]:
    """File name -> what one CSV holds: every table, and the points of charts that have more."""
    frames = {table.name: table.frame() for table in report.tables}
    for part in report.parts:
        for chart in part.charts:
            if chart.points is not None:
                frames[f"{chart.table.name}-points"] = chart.points
    return frames
