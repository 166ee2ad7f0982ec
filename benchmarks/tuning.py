"""What the winners of `exp3rt tune` are worth on the test rows, beside the usual settings.

    python benchmarks/tuning.py DATASET --models MF,BPR --config_files FILE [--data_path DIR]

Each model is fitted twice for each seed: as it comes, with its own short `search`, and with the
settings of FILE. Both choose their epochs on validation, are trained again on train + validation,
and meet the test rows once. `--only tuned` leaves the usual settings out.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import numpy as np
import torch

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.display.notes import quiet
from recbole_exp3rt.evaluator.ratings import predict_ratings, rating_metrics
from recbole_exp3rt.rerank.evaluation import evaluate_ranking
from recbole_exp3rt.trainer.fitting import fit

SHOWN = ("rmse", "mae", "recall@5", "recall@20", "ndcg@5", "ndcg@20")


def measure(model: str, dataset: str, files: list[str], data_path: str, seed: int) -> Any:
    """The figures of one model on the test rows, and how it was fitted."""
    given = {"data_path": data_path, "seed": seed, "eval_batch_size": 2**22}
    config = Config(model, dataset, files, given)
    split = load_split(config)
    fitted = fit(model, config, split, refit=True)
    if config.kind == "rating":
        rows = np.arange(split.size("test"))
        metrics = rating_metrics(config, split, predict_ratings(fitted, split, rows), rows)
    else:
        metrics = dict(evaluate_ranking(config, split, fitted).metrics)
    return {
        "model": model,
        "settings": "tuned" if files else "usual",
        "seed": seed,
        "epochs": fitted.epochs,
        "validation": fitted.valid_result[config["valid_metric"].lower()],
        **{key: metrics[key] for key in SHOWN if key in metrics},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--models", default="MF,WDL,BPR,LightGCN")
    parser.add_argument("--config_files", nargs="+", required=True, help="the winners")
    parser.add_argument("--data_path", default="dataset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", choices=["usual", "tuned"])
    options = parser.parse_args()
    torch.set_num_threads(1)  # matrices this small are no faster with more
    for model in options.models.split(","):
        for settings in [options.only] if options.only else ["usual", "tuned"]:
            files = options.config_files if settings == "tuned" else []
            figures = []
            for seed in options.seeds:
                with quiet():
                    found = measure(model, options.dataset, files, options.data_path, seed)
                figures.append(found)
                print(json.dumps(found), flush=True)
            cells = []
            for metric in SHOWN:
                if values := [figure[metric] for figure in figures if metric in figure]:
                    spread = statistics.pstdev(values)
                    cells.append(f"{metric} {statistics.mean(values):.4f} ± {spread:.4f}")
            print(f"{model:10s}{settings:7s}" + "   ".join(cells), flush=True)


if __name__ == "__main__":
    main()
