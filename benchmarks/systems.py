"""The paper's other systems beside Bias, MF and EXP3RT: one run a data set, a system and a seed.

    python benchmarks/systems.py rating --data dataset/ --sets sample,musical --systems RGCL,TextKNN
        [--seeds 1,2,3] [--work saved/systems] [--out docs/results] [--key=value of a run …]
    python benchmarks/systems.py rerank --data dataset/ --sets sample --systems ZSRanker,TALLRec
        --generator LightGCN --rerank_users 30 …

`--data` holds converted data sets. Every run is by `recbole_exp3rt.run`: the same split, hyper-
parameters and epochs chosen on validation, test rows read once. Its result file and predictions
stay in `--work`; a run that stands there is not made again. Differences to Bias are of RMSE on
the same test rows, users drawn with replacement (95 %); a pair that a system cannot rate counts
with the largest possible error, and beside it the rows that every system rated.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from recbole_exp3rt import run
from recbole_exp3rt.config.layers import read_value
from recbole_exp3rt.evaluator.significance import rmse_difference
from recbole_exp3rt.scale import RatingScale

Rows = list[dict[str, Any]]


def made(
    options: argparse.Namespace, name: str, system: str, seed: int, extra: dict[str, Any]
) -> Path:
    """The folder of a run, which is made if it does not stand there."""
    folder = Path(options.work) / options.task / name / f"{system}-{seed}"
    result = folder / "result.json"
    if not result.is_file():
        values = {
            "data_path": str(options.data),
            "seed": seed,
            "task": options.task,
            "result_file": str(result),
            "export_dir": str(folder),
            "overwrite": True,
            "use_gpu": False,
            "explanations": 0,
            **extra,
        }
        if options.task == "rating":
            run(system, name, config_dict=values, console=Console())
        else:
            values |= {"reranker": None if system == "generator" else [system]}
            run(options.generator, name, config_dict=values, console=Console())
    return folder


def rows_of(folder: Path) -> tuple[Rows, dict[str, Any]]:
    """The rows of a result file, and the file."""
    whole = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return whole["rows"], whole


def rating_section(options: argparse.Namespace, name: str, extra: dict[str, Any]) -> str:
    """The table of one data set."""
    errors: dict[str, list[np.ndarray]] = {}
    figures: dict[str, list[dict[str, Any]]] = {}
    users: Sequence[str] = ()
    for system in options.systems:
        for seed in options.seeds:
            folder = made(options, name, system, seed, extra)
            rows, whole = rows_of(folder)
            table = pd.read_parquet(folder / "ratings.parquet")
            scale = RatingScale.between(*whole["effective_settings"]["rating_scale"])
            users, truth = table["user_id"].tolist(), table["rating"].to_numpy(float)
            worst = np.array([scale.farthest(rating) for rating in truth])
            for row in (row for row in rows if row["slice"] == "all"):
                own = row["name"].partition(" (")[0] == system
                if not own and (row["name"] in figures and len(figures[row["name"]]) > 0):
                    continue  # constant and Bias are the same in every run
                predicted = table[row["name"]].to_numpy(float)
                error = np.where(np.isnan(predicted), worst, predicted) - truth
                errors.setdefault(row["name"], []).append(error)
                figures.setdefault(row["name"], []).append(row | {"known": ~np.isnan(predicted)})
    common = np.all([one["known"] for some in figures.values() for one in some], axis=0)
    lines = [
        f"## {name}",
        "",
        f"{len(users):,} test rows, {len(set(users)):,} users; rows that every system rated: "
        f"{int(common.sum()):,}. Seeds {', '.join(map(str, options.seeds))}.",
        "",
        "| system | RMSE (lowest–highest) | MAE | coverage | − Bias (95 %) | RMSE, common rows "
        "| calls | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for system, some in figures.items():
        found = np.stack(errors[system])
        rmse = np.sqrt((found**2).mean(axis=1))
        spread = f" ({rmse.min():.4f}–{rmse.max():.4f})" if len(rmse) > 1 else ""
        shared = np.sqrt((found[:, common] ** 2).mean(axis=1)).mean() if common.any() else np.nan
        less = "" if system == "Bias" else str(rmse_difference(found, errors["Bias"][0], users))
        lines.append(
            f"| {system} | {rmse.mean():.4f}{spread} | {np.abs(found).mean():.4f} "
            f"| {statistics.mean(one['coverage'] for one in some):.3f} | {less} | {shared:.4f} "
            f"| {statistics.mean(one['calls'] for one in some):,.0f} "
            f"| {statistics.mean(one['seconds'] for one in some):,.1f} |"
        )
    return "\n".join(lines)


def ranking_section(options: argparse.Namespace, name: str, extra: dict[str, Any]) -> str:
    """The table of one data set, a row for the generator, + Bias, and + each reranker."""
    figures: dict[str, list[dict[str, Any]]] = {}
    for system in options.systems:
        for seed in options.seeds:
            rows, _ = rows_of(made(options, name, system, seed, extra))
            for row in rows:
                own = row["name"].endswith(f"+ {system}")
                if own or len(figures.get(row["name"], ())) < len(options.seeds):
                    figures.setdefault(row["name"], []).append(row)
    first = next(iter(figures.values()))[0]
    metrics = list(first["metrics"])
    lines = [
        f"## {name}",
        "",
        f"{first['n']:,} users, seeds {', '.join(map(str, options.seeds))}.",
        "",
        f"| system | {' | '.join(metrics)} | coverage | calls | seconds |",
        "|---" * (len(metrics) + 4) + "|",
    ]
    for system, some in figures.items():
        means = [f"{statistics.mean(one['metrics'][m] for one in some):.4f}" for m in metrics]
        lines.append(
            f"| {system} | {' | '.join(means)} "
            f"| {statistics.mean(one['coverage'] for one in some):.3f} "
            f"| {statistics.mean(one['calls'] for one in some):,.0f} "
            f"| {statistics.mean(one['seconds'] for one in some):,.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Make the runs that are missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("rating", "rerank"))
    parser.add_argument("--data", type=Path, default=Path("dataset"))
    parser.add_argument("--sets", type=lambda text: text.split(","), default=["sample"])
    parser.add_argument("--systems", type=lambda text: text.split(","), default=["RGCL", "TextKNN"])
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[1])
    parser.add_argument("--generator", default="LightGCN")
    parser.add_argument("--work", type=Path, default=Path("saved/systems"))
    parser.add_argument("--out", type=Path)
    options, rest = parser.parse_known_args()
    extra = {}
    for word in rest:
        key, _, value = word.removeprefix("--").partition("=")
        extra[key] = read_value(value)
    section = rating_section if options.task == "rating" else ranking_section
    text = "\n\n".join(section(options, name, extra) for name in options.sets)
    print(text)
    if options.out:
        command = " ".join([f"--{key}={value}" for key, value in extra.items()])
        head = (
            f"# Systems, {options.task}\n\nSettings beside the defaults: {command or 'none'}.\n\n"
        )
        path = options.out / f"systems-{options.task}.md"
        path.write_text(head + text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
