"""Results of cells as results of a grid: each system under the name of its row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recbole_exp3rt.benchmark.cells import Cell
from recbole_exp3rt.evaluator.comparison import BIAS, CONSTANT
from recbole_exp3rt.evaluator.results import Results


def rows_of(cells: Sequence[tuple[Cell, Path]]) -> list[Results]:
    """The results in the files of `cells`, with the grid's names of systems and data sets.

    Constant and Bias are in every run; those of the row Bias stay, where it has a result.
    """
    own = {(c.dataset.label, c.seed) for c, _ in cells if c.system.name == BIAS}
    found = []
    for cell, file in cells:
        results = Results.read(file)
        if cell.system.name != BIAS and (cell.dataset.label, cell.seed) in own:
            results = without_bias(results)
        results = results.renamed({cell.system.system: cell.system.name})
        results.dataset, results.source = cell.dataset.label, cell.system.name
        found.append(results)
    return found


def without_bias(results: Results) -> Results:
    """The results without the rows of constant and Bias, and of Bias as a reranker."""

    def stays(name: str) -> bool:
        return name.rpartition(" + ")[2] not in (BIAS, CONSTANT)

    rated, ranked = results.rated, results.ranked
    if rated:
        rated = replace(rated, predicted={k: v for k, v in rated.predicted.items() if stays(k)})
    if ranked:
        ranked = replace(ranked, lists={k: v for k, v in ranked.lists.items() if stays(k)})
    rows = [row for row in results.rows if stays(row.name)]
    return replace(results, rows=rows, rated=rated, ranked=ranked)
