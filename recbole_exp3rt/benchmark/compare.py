"""Result files side by side, whoever made them: tables, and a report if it is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from recbole_exp3rt.display.comparison import show_comparison
from recbole_exp3rt.display.terminal import escape
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.comparison import BIAS, CONSTANT, ComparisonTable, compare
from recbole_exp3rt.evaluator.results import Results


def compare_files(
    files: Sequence[str],
    *,
    report: str | Path | None = None,
    title: str = "Comparison",
    overwrite: bool = False,
    console: Console | None = None,
) -> list[ComparisonTable]:
    """Print and return the tables of result files, and write the report to the folder `report`.

    `NAME=FILE` gives the model of a file another name, for two runs of one model.
    Raises: UsageError for a file that is no result, and for files that cannot be compared.
    """
    console = console or Console(quiet=True)
    if report:
        from recbole_exp3rt.report import check_report

        check_report(report, overwrite=overwrite)
    results = [_read(file) for file in files]
    tables = compare(results)
    show_comparison(console, tables)
    if report:
        from recbole_exp3rt.report import write_report

        written = write_report(results, report, title=title, tables=tables, overwrite=overwrite)
        console.print(escape(f"Report: {written[0]}"), soft_wrap=True)
    return tables


def _read(file: str) -> Results:
    """The results of `FILE` or `NAME=FILE`."""
    name, equals, path = file.partition("=")
    if not equals or Path(file).is_file():
        return Results.read(file)
    results = Results.read(path)
    model = results.about.get("model") or _only_system(results, path)
    return results.renamed({model: name})


def _only_system(results: Results, path: str) -> str:
    """The system of a file that does not say its model. Raises: UsageError if it has several."""
    rated = results.rated.predicted if results.rated else {}
    names = [name for name in rated if name not in (BIAS, CONSTANT)]
    if len(names) != 1:
        raise UsageError(
            f"{path} has {len(names)} systems ({', '.join(names)}), so one name does not say which "
            "is meant; leave NAME= out"
        )
    return names[0]
