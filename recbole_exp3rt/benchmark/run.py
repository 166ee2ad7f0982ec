"""Runs the cells of a grid that have no result yet, and makes tables and a report of all of them.

A cell's result file is written at once or not at all, so a grid that is stopped anywhere goes on.
What cannot be run is a note beside the tables; the other cells go on.
"""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from recbole_exp3rt.benchmark.cells import Cell, Identity, cells_of, changed, identify, slug
from recbole_exp3rt.benchmark.folder import check_folder, claim_folder, is_of
from recbole_exp3rt.benchmark.grid import Grid, check_settings, read_grid
from recbole_exp3rt.benchmark.plan import plan_cell, show_plan
from recbole_exp3rt.config.checks import MissingDataset
from recbole_exp3rt.display.grid import CellProgress
from recbole_exp3rt.display.tables import display
from recbole_exp3rt.display.terminal import escape
from recbole_exp3rt.errors import NotHere, UsageError
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.cost.budget import BudgetReached
from recbole_exp3rt.llm.server.urls import masked
from recbole_exp3rt.stages.counts import NothingRated

if TYPE_CHECKING:
    from recbole_exp3rt.evaluator.comparison import ComparisonTable
    from recbole_exp3rt.evaluator.results import Results

FOLDER = Path("saved") / "benchmark"
LOG = "benchmark.log"  # one line a cell
STEPS = "run.log"  # the steps of all cells
ERRORS = "errors.log"  # where an error that nobody foresaw came from


@dataclass(frozen=True)
class Note:
    """Why a cell has no figures. `absent`: something it needs is not on this machine."""

    cell: str
    text: str
    absent: bool = False
    budget: bool = False

    def __str__(self) -> str:
        return f"{self.cell}: {self.text}"


@dataclass
class Benchmark:
    """What a grid has so far: results of its cells, tables of them, notes on the others."""

    folder: Path
    results: list[Results] = field(default_factory=list)
    tables: list[ComparisonTable] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)  # the cells that were run now

    @property
    def code(self) -> int:
        """The exit code: 0 where each cell has a result or needs what is not on this machine;
        3: the budget is reached; 2: a cell failed."""
        failed = [note for note in self.notes if not note.absent]
        if any(note.budget for note in failed):
            return 3
        return 2 if failed else 0


def benchmark(
    grid: Grid | str | Path,
    *,
    systems: Sequence[str] = (),
    datasets: Sequence[str] = (),
    seeds: int | Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    report: str | Path | None = None,
    untrained: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
) -> Benchmark:
    """Run a grid, a yaml file or one of ours by name, and return what it has.

    `systems`, `datasets`, `seeds` choose from the grid, see `Grid.chosen`. `settings` go to every
    cell whose system knows them. Results go to `output` (saved/benchmark/<title>), the report to
    `report` (`output`/report), where it replaces an earlier one of this grid. `untrained`: rows
    that train a student ask that of `settings`, see `Grid.untrained`. `overwrite` runs finished
    cells again; `dry_run` prints the plan alone.
    Raises: UsageError for what is wrong with the grid as a whole, before any work.
    """
    console = console or Console(quiet=True)
    grid = grid if isinstance(grid, Grid) else read_grid(grid)
    grid = grid.untrained() if untrained else grid
    ready = Ready.make(grid, systems, datasets, seeds, settings, output, console)
    found = Benchmark(ready.folder, notes=list(ready.notes))
    place = Path(report) if report else ready.folder / "report"
    if report and not dry_run and not is_of(place, ready.grid):
        from recbole_exp3rt.report import check_report

        check_report(place, overwrite=overwrite)
    finished = {} if overwrite else ready.finished()
    for cell, identity in ready.cells.items():
        if cell not in finished and (why := _why_again(cell, identity)):
            console.print(escape(f"{cell.name} is run again: {why}"), soft_wrap=True)
    todo = [cell for cell in ready.cells if cell not in finished]
    if dry_run:
        show_plan(console, len(finished), [plan_cell(cell, ready.cells[cell]) for cell in todo])
        _show_notes(console, _merged(found.notes))
        return found
    claim_folder(ready.folder, ready.grid)
    known: dict[str, list[float]] = {}
    for cell, seconds in finished.items():
        known.setdefault(cell.system.name, []).append(seconds)
    if finished:
        console.print(f"{len(finished)} of {len(ready.cells)} cells are finished already")
    log = ready.folder / LOG
    with CellProgress(console, log, [cell.system.name for cell in todo], known) as progress:
        for cell in todo:
            progress.begin(cell.name)
            start = time.monotonic()
            said = _run(cell, ready.cells[cell], ready.folder)
            failed = isinstance(said, Note)
            progress.end(cell.name, time.monotonic() - start, _said(cell, said), failed=failed)
            if isinstance(said, Note):
                found.notes.append(said)
            else:
                found.ran.append(cell.name)
    found.results = ready.results()
    _tables(found, ready.grid, place, console)
    if report and found.files:
        claim_folder(place, ready.grid)
    return found


@dataclass
class Ready:
    """A grid whose cells are checked: those that can run with their identities, notes on others."""

    grid: Grid
    folder: Path
    cells: dict[Cell, Identity]
    notes: list[Note]

    @classmethod
    def make(
        cls,
        grid: Grid,
        systems: Sequence[str],
        datasets: Sequence[str],
        seeds: int | Sequence[int] | None,
        settings: Mapping[str, Any] | None,
        output: str | Path | None,
        console: Console,
    ) -> Ready:
        """Choose, check. Raises: UsageError for what is wrong with the grid as a whole."""
        settings = settings or {}
        check_settings(settings, "settings")
        grid = grid.chosen(systems, datasets, seeds)
        folder = Path(output) if output else FOLDER / slug(grid.title)
        check_folder(folder, grid)
        notes = [Note(one.name, one.absent, absent=True) for one in grid.systems if one.absent]
        cells: dict[Cell, Identity] = {}
        missing: set[str] = set()  # data sets
        for cell in cells_of(grid, folder, settings):
            if cell.dataset.label in missing:
                continue
            try:
                cells[cell] = identify(cell, console)
            except MissingDataset as error:
                missing.add(cell.dataset.label)
                notes.append(Note(cell.dataset.label, _line(error), absent=True))
            except UsageError as error:
                notes.append(Note(cell.name, _line(error), absent=isinstance(error, NotHere)))
        return cls(grid, folder, cells, notes)

    def finished(self) -> dict[Cell, float]:
        """The cells that have a result of their digest, and the seconds that each took."""
        found = {}
        for cell, identity in self.cells.items():
            about = _about(identity.file(cell))
            if about.get("digest") == identity.digest:
                found[cell] = float(about.get("seconds", 0.0))
        return found

    def results(self) -> list[Results]:
        """The results of the finished cells, each with its row's name: see `rows_of`."""
        from recbole_exp3rt.benchmark.rows import rows_of

        done = self.finished()
        files = [(cell, identity.file(cell)) for cell, identity in self.cells.items()]
        return rows_of([(cell, file) for cell, file in files if cell in done])


def _run(cell: Cell, identity: Identity, folder: Path) -> Note | Results:
    """Run a cell and write its result file; a note where it cannot be."""
    from recbole_exp3rt.quick_start.quick_start import run

    own = {"log_file": str(folder / STEPS), **identity.training(cell)}
    if (other := cell.teacher_of) and not Path(own["student"]).is_dir():
        return Note(cell.name, f"the student of {other.system.name} is not there: run that row")
    start = time.monotonic()
    try:
        results = run(
            cell.system.model,
            cell.dataset.name,
            config_files=cell.config_files,
            config_dict={**cell.settings, **own},
        )
    except BudgetReached as error:
        return Note(cell.name, _line(error), budget=True)
    except (UsageError, LLMError, NothingRated) as error:
        return Note(cell.name, _line(error), absent=isinstance(error, NotHere))
    except Exception as error:  # of a library, or ours: the other cells go on
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ERRORS, "a", encoding="utf-8", errors="replace") as file:
            file.write(f"{cell.name}\n{masked(traceback.format_exc())}\n")
        said = f"{type(error).__name__}: {_line(error)} (see {folder / ERRORS})"
        return Note(cell.name, said)
    finally:
        gc.collect()  # the models of this cell go before the next one loads its own
    results.about["cell"] = {
        "grid": cell.grid.title,
        "dataset": cell.dataset.label,
        "system": cell.system.name,
        "digest": identity.digest,
        "parts": identity.parts,
        "seconds": round(time.monotonic() - start, 1),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    results.write(identity.file(cell))
    return results


def _why_again(cell: Cell, identity: Identity) -> str:
    """What changed since the last result of a cell; "": it has none."""
    before = [about for path in cell.earlier if (about := _about(path)).get("parts")]
    if not before or before[-1]["digest"] == identity.digest:
        return ""
    return changed(before[-1]["parts"], identity.parts)


def _about(path: Path) -> dict[str, Any]:
    """What a result file says of its cell; nothing where there is none."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))["cell"]
        return about if isinstance(about, dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _tables(found: Benchmark, grid: Grid, place: Path, console: Console) -> None:
    """Print the tables of the results, write them and the report."""
    from recbole_exp3rt.display.comparison import show_comparison
    from recbole_exp3rt.evaluator.comparison import compare
    from recbole_exp3rt.report import write_report

    figures = grid.paper.get("figures", {})
    printed = {one.label: figures[one.paper] for one in grid.datasets if one.paper in figures}
    source = str(grid.paper.get("source", ""))
    if found.results:
        found.tables = compare(found.results)
    show_comparison(console, found.tables, grid.slices, printed, source)
    found.notes = _merged(found.notes)
    _show_notes(console, found.notes)
    for line in grid.remarks():
        console.print(escape(line), soft_wrap=True)
    if found.results:
        paper = {
            (dataset, system, column): value
            for dataset, systems in printed.items()
            for system, figures in systems.items()
            for column, value in figures.items()
        }
        found.files = write_report(
            found.results,
            place,
            title=grid.title,
            paper=paper or None,
            tables=found.tables,
            notes=[*(f"note: {note}" for note in found.notes), *grid.remarks()],
            overwrite=True,
        )
        console.print(escape(f"Report: {found.files[0]}"), soft_wrap=True)


def _show_notes(console: Console, notes: Sequence[Note]) -> None:
    for note in notes:
        console.print(escape(f"note: {note}"), soft_wrap=True)


def _merged(notes: Sequence[Note]) -> list[Note]:
    """Notes with the same reason as one."""
    by_text: dict[str, dict[str, Note]] = {}
    for note in notes:
        by_text.setdefault(note.text, {})[note.cell] = note
    merged = []
    for same in by_text.values():
        first, more = next(iter(same.values())), len(same) - 1
        merged.append(replace(first, cell=f"{first.cell} and {more:,} more") if more else first)
    return merged


def _said(cell: Cell, done: Note | Results) -> str:
    """Of a cell that ended: why it has no figures, or the first one of its system."""
    if isinstance(done, Note):
        return f"note: {done.text}"
    for row in done.rows:
        if row.slice == "all" and row.name.rpartition(" + ")[2] == cell.system.system:
            metric, value = next(iter(row.metrics.items()))
            return f"{display(metric)} {value:.4f}"
    return "done"


def _line(error: BaseException) -> str:
    return str(masked(" ".join(str(error).split()))) or type(error).__name__
