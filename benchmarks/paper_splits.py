"""The baselines on the splits that the paper's authors released, chosen on validation alone.

    python benchmarks/paper_splits.py --data DIR [--seeds 1 2 3] [--out FILE]

DIR holds `imdb-aligned/` and `exp3rt-imdb/topk/`. Each model's settings and epochs are chosen on
validation rows taken from train, it is trained again on train + validation, and meets the test
rows once. Exits with 1 where a check fails. Takes about five minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataset_converters.__main__ import main as convert
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import Split, load_split
from recbole_exp3rt.evaluator.ratings import constant_ratings, predict_ratings, rating_metrics
from recbole_exp3rt.rerank.evaluation import evaluate_ranking
from recbole_exp3rt.trainer.fitting import fit

RATING = ("Bias", "MF", "WDL")
RANKING = ("Pop", "BPR", "LightGCN")
Figure = dict[str, Any]


def prepare(data: Path, folder: Path) -> None:
    """Convert both parts below `folder`."""
    for part, source in (("aligned", "imdb-aligned"), ("topk", "exp3rt-imdb/topk")):
        arguments = ["exp3rt", "--part", part, "--input_path", str(data / source)]
        if convert([*arguments, "--output_path", str(folder / f"imdb-{part}"), "--overwrite"]):
            sys.exit(2)


def load(name: str, model: str, folder: Path, seed: int) -> Split:
    return load_split(Config(model, name, config_dict={"data_path": str(folder), "seed": seed}))


def measure(folder: Path, seed: int) -> list[Figure]:
    """All figures of one seed, test rows of models that were refitted."""
    figures: list[Figure] = []
    aligned = load("imdb-aligned", "Bias", folder, seed)
    rows = np.arange(aligned.size("test"))
    constant = constant_ratings(aligned.merged(), rows)
    figures.append({"model": "constant", **rating_metrics(aligned.config, aligned, constant, rows)})
    for name in RATING:
        fitted, seconds = timed(name, aligned)
        predictions = predict_ratings(fitted, aligned, rows)
        metrics = rating_metrics(aligned.config, aligned, predictions, rows)
        figures.append(describe(fitted, seconds) | metrics)
    topk = load("imdb-topk", "BPR", folder, seed)
    for name in RANKING:
        fitted, seconds = timed(name, topk)
        figures.append(
            describe(fitted, seconds) | dict(evaluate_ranking(topk.config, topk, fitted).metrics)
        )
    return [{"seed": seed} | figure for figure in figures]


def timed(name: str, split: Split) -> tuple[Any, float]:
    start = time.perf_counter()
    return fit(name, split.config, split, refit=True), time.perf_counter() - start


def describe(fitted: Any, seconds: float) -> Figure:
    """Which settings were chosen, and how they did on validation."""
    metric = fitted.config["valid_metric"].lower()
    return {
        "model": fitted.name,
        "chosen": fitted.chosen,
        "epochs": fitted.epochs,
        f"valid {metric}": fitted.valid_result[metric],
        "seconds": round(seconds, 1),
    }


def over_seeds(figures: list[Figure], model: str, metric: str) -> list[float]:
    return [figure[metric] for figure in figures if figure["model"] == model]


def checks(figures: list[Figure]) -> list[tuple[str, bool]]:
    """What must hold for every seed."""

    def all_of(model: str, metric: str) -> np.ndarray:
        return np.array(over_seeds(figures, model, metric))

    bias, mf = all_of("Bias", "rmse"), all_of("MF", "rmse")
    return [
        ("imdb-aligned: Bias RMSE 1.82 ± 0.03", bool((abs(bias - 1.82) <= 0.03).all())),
        ("imdb-aligned: MF within 0.03 of Bias", bool((abs(mf - bias) <= 0.03).all())),
        ("imdb-topk: BPR Recall@20 >= 0.072", bool((all_of("BPR", "recall@20") >= 0.072).all())),
        (
            "imdb-topk: LightGCN Recall@20 >= 0.088",
            bool((all_of("LightGCN", "recall@20") >= 0.088).all()),
        ),
    ]


def report(figures: list[Figure]) -> None:
    """Mean and spread over the seeds, then the checks."""
    for models, metrics in (
        (("constant", *RATING), ("rmse", "mae")),
        (RANKING, ("recall@5", "recall@20", "ndcg@5", "ndcg@20")),
    ):
        print(f"\n{'model':10s}" + "".join(f"{metric:>20s}" for metric in metrics))
        for model in models:
            cells = []
            for metric in metrics:
                values = over_seeds(figures, model, metric)
                cells.append(f"{statistics.mean(values):.4f} ± {statistics.pstdev(values):.4f}")
            print(f"{model:10s}" + "".join(f"{cell:>20s}" for cell in cells))
    print()
    for what, holds in checks(figures):
        print(f"{'ok' if holds else 'FAILED':8s}{what}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("EXP3RT_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default, help="folder with the released data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, help="figures of each seed as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)  # matrices this small are no faster with more
    figures: list[Figure] = []
    data = options.data.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(data, folder / "dataset")
        here = Path.cwd()
        os.chdir(folder)  # RecBole leaves an empty folder where it runs
        try:
            for seed in options.seeds:
                found = measure(folder / "dataset", seed)
                figures += found
                for figure in found:
                    print(json.dumps(figure), flush=True)
        finally:
            os.chdir(here)
    report(figures)
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if all(holds for _, holds in checks(figures)) else 1


if __name__ == "__main__":
    sys.exit(main())
