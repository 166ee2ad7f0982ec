"""Results of cells as results of a grid: each system under its row's name, shared rows once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from recbole_exp3rt.benchmark.cells import Cell
from recbole_exp3rt.evaluator.results import Results

SHARED = ("constant", "Bias")  # rows that every run has


def rows_of(cells: Sequence[tuple[Cell, Path]]) -> list[Results]:
    """The results in the files of `cells`, as rows of their grid.

    Constant, Bias and the generators are in every run; they stay where they come first, for a
    data set and a seed.
    """
    seen: dict[tuple[str, int], set[str]] = {}
    found = []
    for cell, file in cells:
        results = renamed(Results.read(file), {cell.system.system: cell.system.name})
        known = seen.setdefault((cell.dataset.label, cell.seed), set())
        results = _without(results, known)
        known |= _names(results)
        results.dataset = cell.dataset.label
        found.append(results)
    return found


def renamed(results: Results, names: Mapping[str, str]) -> Results:
    """The same results with other names of systems, also of `X (reading)` and `LightGCN + X`."""

    def new(name: str) -> str:
        generator, plus, system = name.rpartition(" + ")
        plain, bracket, reading = system.partition(" (")
        return f"{generator}{plus}{names.get(plain, plain)}{bracket}{reading}"

    rated, ranked = results.rated, results.ranked
    if rated:
        rated = replace(rated, predicted={new(k): v for k, v in rated.predicted.items()})
    if ranked:
        ranked = replace(ranked, lists={new(k): v for k, v in ranked.lists.items()})
    rows = [replace(row, name=new(row.name)) for row in results.rows]
    return replace(results, rows=rows, rated=rated, ranked=ranked)


def _without(results: Results, names: set[str]) -> Results:
    """Without these systems."""
    rated, ranked = results.rated, results.ranked
    if rated:
        kept = {k: v for k, v in rated.predicted.items() if k not in names}
        rated = replace(rated, predicted=kept)
    if ranked:
        ranked = replace(ranked, lists={k: v for k, v in ranked.lists.items() if k not in names})
    rows = [row for row in results.rows if row.name not in names]
    return replace(results, rows=rows, rated=rated, ranked=ranked)


def _names(results: Results) -> set[str]:
    """Names of rows that other cells have too: constant, Bias, generators and their Bias."""
    named = {row.name for row in results.rows}
    return {n for n in named if n in SHARED or n.endswith(" + Bias") or _generates(n, named)}


def _generates(name: str, named: set[str]) -> bool:
    return any(other.startswith(f"{name} + ") for other in named)
