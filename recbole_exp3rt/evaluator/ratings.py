"""Rating metrics of chosen test rows, through RecBole's own evaluation.

A missing prediction counts as the farthest level of the scale: a failure never improves a metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.reader import read_scale
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.trainer.fitting import Fitted
from recbole_exp3rt.trainer.trainer import filled


def rating_metrics(
    config: Config, split: Split, predictions: NDArray[Any], rows: NDArray[Any]
) -> dict[str, float]:
    """RMSE and MAE of `predictions`: [n_rows], for the test rows `rows`: [n_rows]; and coverage.

    NaN is a missing prediction. `coverage` is the share of rows with one; the metrics are over
    all rows. Names are RecBole's, in lower case; all are in rating units but the coverage.
    """
    return metrics_of(config, split.ratings("test")[rows], predictions)


def metrics_of(
    config: Config, ratings: NDArray[Any], predictions: NDArray[Any]
) -> dict[str, float]:
    """As `rating_metrics`, of any rows: [n_rows], [n_rows]."""
    if predictions.shape != ratings.shape or not len(ratings):
        raise ValueError(f"{predictions.shape} predictions for {ratings.shape} rows")
    answered = ~np.isnan(predictions)
    counted = filled(predictions, ratings, read_scale(config))
    measured = config if config.kind == "rating" else config.for_model("Bias")
    data = DataStruct()
    times = 2 if len(ratings) == 1 else 1  # RecBole squeezes a single row into no row
    data.set("rec.score", torch.from_numpy(counted.repeat(times)))
    data.set("data.label", torch.from_numpy(ratings.repeat(times)))
    metrics: Mapping[str, float] = Evaluator(measured).evaluate(data)
    return {name: float(value) for name, value in metrics.items()} | {
        "coverage": float(answered.mean())
    }


def predict_ratings(fitted: Fitted, split: Split, rows: NDArray[Any]) -> NDArray[Any]:
    """Predictions of a model for the test rows `rows`, in rating units: [n_rows]."""
    model, device = fitted.model.eval(), fitted.config["device"]
    step = int(fitted.config["eval_batch_size"])
    predictions: list[NDArray[Any]] = []
    with torch.no_grad():
        for start in range(0, len(rows), step):
            part = split.rows("test", rows[start : start + step])
            batch = part[list(range(len(part)))].to(device)  # joined with item and user columns
            predictions.append(model.predict(batch).cpu().numpy().astype(np.float64).reshape(-1))
    return np.concatenate(predictions) if predictions else np.zeros(0)


def constant_ratings(split: Split, rows: NDArray[Any]) -> NDArray[Any]:
    """The mean train rating for every row: [n_rows]. What a model has to beat at least."""
    return np.full(len(rows), split.ratings("train").mean())


def rate_pairs(fitted: Fitted, split: Split, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Ratings that a fitted model predicts for any pairs of raw tokens: [n_pairs]."""
    if not pairs:
        return []
    ids = Interaction(
        {
            split.dataset.uid_field: torch.tensor([split.user_ids[user] for user, _ in pairs]),
            split.dataset.iid_field: torch.tensor([split.item_ids[item] for _, item in pairs]),
        }
    )
    with torch.no_grad():
        batch = split.dataset.join(ids).to(fitted.config["device"])
        ratings: list[float] = fitted.model.eval().predict(batch).tolist()
    return ratings
