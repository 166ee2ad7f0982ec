"""Results of cells as results of a grid: each system under the name of its row."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from recbole_exp3rt.benchmark.cells import Cell
from recbole_exp3rt.evaluator.results import Results

SAMPLES = ("eval_pairs", "rerank_users")  # settings by which a seed draws rows of its own


def rows_of(cells: Iterable[tuple[Cell, Path]]) -> list[Results]:
    """The results in the files of `cells`, with the grid's names of systems and data sets.

    Constant, Bias and the generators are in every run; a comparison puts equal ones together. It
    takes the rows that all files of a split share, so each seed's sample of rows is a split here.
    """
    found = []
    for cell, file in cells:
        results = Results.read(file).renamed({cell.system.system: cell.system.name})
        results.dataset, results.source = cell.dataset.label, cell.system.name
        if any(cell.settings.get(key) is not None for key in SAMPLES):
            results.split_digest += f" sample {cell.seed}"
        found.append(results)
    return found
