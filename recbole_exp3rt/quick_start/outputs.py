"""Where a run writes: checked before any work, written after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from recbole_exp3rt.config.settings import RunSettings
from recbole_exp3rt.evaluator.exports import (
    PROFILES,
    ratings_table,
    topk_table,
    write_profiles,
    write_table,
)
from recbole_exp3rt.paths import check_new, check_writable
from recbole_exp3rt.quick_start.context import Context
from recbole_exp3rt.quick_start.explaining import Explained
from recbole_exp3rt.quick_start.rating_task import RatingTask
from recbole_exp3rt.quick_start.reranking_task import RerankingTask
from recbole_exp3rt.report.writing import check_report
from recbole_exp3rt.rerank.evaluation import relevant_rows

Task = RatingTask | RerankingTask
TABLES = {"rating": "ratings", "rerank": "topk"}  # task -> name of its exported table
EXPLANATIONS = "explanations"
UNSEEN = "unseen"


def check_places(run: RunSettings, tasks: Sequence[str], checkpoint_dir: str) -> None:
    """Check that all files of a run can be written, and that none of them is there already.

    Raises: UsageError with the file and the remedy. Makes nothing.
    """
    files = {"result_file": [Path(run.result_file)] if run.result_file else []}
    if run.export_dir:
        folder = Path(run.export_dir)
        tables = [folder / f"{TABLES[task]}.{run.export_format}" for task in tasks]
        files["export_dir"] = [*tables, folder / PROFILES]
        if run.unseen_rows or run.unseen_balanced:
            files["export_dir"].append(folder / f"{UNSEEN}.{run.export_format}")
        if run.explainers:
            files["export_dir"].append(folder / f"{EXPLANATIONS}.{run.export_format}")
    for setting, paths in files.items():
        for path in paths:
            check_new(setting, path, overwrite=run.overwrite)
    if run.report:
        check_report(run.report, overwrite=run.overwrite)
    check_writable(Path(checkpoint_dir) / "model.pth")


def write_exports(context: Context, tasks: Sequence[Task], explained: Explained) -> list[Path]:
    """Ratings, top-k lists, explanations and profiles as tables in `export_dir`: the files.

    Raises: UsageError if one cannot be written.
    """
    split, run, rater = context.split, context.run, context.rater
    folder = Path(run.export_dir or "")
    said = rater.pipeline.predictions if rater else {}
    pairs = split.pairs("test")
    tables: dict[str, pd.DataFrame] = {}
    for task in tasks:
        if isinstance(task, RatingTask):
            truth = split.ratings("test")[task.test_rows]
            table = ratings_table(task.pairs, truth, task.predicted, said, run.scale)
        else:
            relevant = {pairs[row] for row in relevant_rows(split, None, run.relevant_from)}
            table = topk_table(task.lists, relevant, said, run.scale)
        if task.rows:
            tables[TABLES[task.name]] = table
        if isinstance(task, RatingTask) and task.unseen and task.unseen.predicted:
            tables[UNSEEN] = task.unseen.table
    if explained.texts:
        tables[EXPLANATIONS] = explained.table
    written = [
        write_table(table, folder, name, run.export_format, safe_cells=run.export_safe_cells)
        for name, table in tables.items()
    ]
    if rater:
        pipeline = rater.pipeline
        written.append(write_profiles(pipeline.made_profiles, pipeline.corpus, folder))
    return written
