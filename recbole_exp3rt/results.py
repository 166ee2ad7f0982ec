"""Rows of a run: kept, written as JSON, shown as tables. Nothing is computed here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

SMOKE = 100  # fewer pairs or users than this show that a run works, not how well


@dataclass(frozen=True)
class Row:
    """One system on one part of the data. `n` counts pairs (rating) or users (rerank)."""

    name: str
    task: str
    metrics: Mapping[str, float]
    n: int
    split: str = "test"
    slice: str = "all"
    coverage: float = 1.0
    calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    note: str = ""


@dataclass
class Results:
    """All rows of a run and where they come from."""

    dataset: str
    split_digest: str
    seed: int
    rows: list[Row] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def write(self, path: str | Path) -> None:
        """Write the result file at once or not at all."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        body = {
            "rows": [asdict(row) for row in self.rows],
            "dataset": self.dataset,
            "split_digest": self.split_digest,
            "seed": self.seed,
            **self.about,
        }
        part = target.with_name(f".{target.name}.part")
        part.write_text(json.dumps(body, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(part, target)


def smoke(rows: Sequence[Row]) -> str:
    return " — smoke run" if rows and min(row.n for row in rows) < SMOKE else ""


def show_ratings(console: Console, rows: Sequence[Row], total: int) -> None:
    """RMSE and MAE of all test rows that were looked at, with the slices beside."""
    overall = [row for row in rows if row.slice == "all"]
    slices = list(dict.fromkeys(row.slice for row in rows if row.slice != "all"))
    first = overall[0]
    table = _table(f"Rating prediction: {first.n:,} of {total:,} test pairs{smoke(overall)}")
    for name in ("model", "RMSE", "MAE"):
        table.add_column(name, justify="left" if name == "model" else "right")
    of = {(row.name, row.slice): row for row in rows}
    for part in slices:
        n = next(row.n for row in rows if row.slice == part)
        table.add_column(f"RMSE {part}\n({n:,} pairs)", justify="right")
    for name in ("coverage", "calls", "tokens"):
        table.add_column(name, justify="right")
    for row in overall:
        parts = [of[(row.name, part)].metrics["rmse"] for part in slices]
        values = [row.metrics["rmse"], row.metrics["mae"], *parts]
        table.add_row(
            row.name,
            *(f"{value:.4f}" for value in values),
            f"{row.coverage:.3f}",
            f"{row.calls:,}",
            f"{row.tokens:,}",
        )
    console.print(table)


def show_ranking(console: Console, rows: Sequence[Row], topk: Sequence[int], total: int) -> None:
    """Recall and NDCG of generators and rerankers, side by side."""
    title = f"Top-k recommendation: {rows[0].n:,} of {total:,} test users{smoke(rows)}"
    table = _table(title)
    table.add_column("model", no_wrap=True)
    names = [f"{metric}@{k}" for metric in ("recall", "ndcg") for k in topk]
    for name in names:
        metric, k = name.split("@")
        table.add_column(
            f"{metric.upper() if metric == 'ndcg' else 'Recall'}\n@{k}", justify="right"
        )
    table.add_column("coverage", justify="right")
    table.add_column("calls", justify="right")
    for row in rows:
        values = (f"{row.metrics[name]:.4f}" for name in names)
        table.add_row(row.name, *values, f"{row.coverage:.3f}", f"{row.calls:,}")
    console.print(table)


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
