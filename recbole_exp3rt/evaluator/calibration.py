"""Calibration: ratings corrected on validation, by a line or by a mix with Bias.

`fit_calibration` is least squares on plain arrays; `calibrate` asks the models about validation
pairs and fits on their answers. Test ratings are never used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import MIN_ANSWERS, CalibrationKind, Settings
from recbole_exp3rt.data.slices import sample_rows
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.evaluator.ratings import rate_pairs
from recbole_exp3rt.model.rater import Rater
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.trainer.fitting import Fitted, fit

Array = NDArray[np.float64]
SPREAD = 1e-9  # a standard deviation below it is none


@dataclass(frozen=True)
class Calibration:
    """slope * rating + bias_weight * (rating of Bias) + intercept, clipped to the scale.

    `affine` has no bias_weight, `blend` no intercept and weights that sum to 1. `pairs` were
    asked on validation, `answered` of them could be read; `note` says why nothing was fitted.
    """

    kind: CalibrationKind
    slope: float = 1.0
    intercept: float = 0.0
    bias_weight: float = 0.0
    pairs: int = 0
    answered: int = 0
    note: str = ""

    def apply(self, ratings: NDArray[Any], bias: NDArray[Any], scale: RatingScale) -> Array:
        """Calibrated ratings: [n]. A missing one (NaN) stays missing."""
        mixed = self.slope * ratings + self.bias_weight * bias + self.intercept
        return np.clip(mixed, scale.lowest, scale.highest).astype(np.float64)

    def __str__(self) -> str:
        fitted = f"{self.answered:,} of {self.pairs:,} validation pairs"
        if self.note:
            return f"not calibrated, {self.note}"
        if self.kind == "blend":
            return f"weight {self.slope:.3f}, of Bias {self.bias_weight:.3f} ({fitted})"
        return f"slope {self.slope:.3f}, intercept {self.intercept:.3f} ({fitted})"


def fit_calibration(
    kind: CalibrationKind, ratings: NDArray[Any], bias: NDArray[Any], truth: NDArray[Any]
) -> Calibration:
    """Fit on validation: predictions (NaN: no answer), those of Bias and true ratings, all [n].

    Pairs without an answer are left out of the fit and counted. Too few answers, or answers that
    say nothing apart, leave the ratings as they are, and `note` says so.
    """
    there = ~np.isnan(ratings)
    ratings, bias, truth = (np.asarray(a, dtype=np.float64)[there] for a in (ratings, bias, truth))
    raw = Calibration(kind, pairs=len(there), answered=len(ratings))
    if len(ratings) < MIN_ANSWERS:
        return replace(raw, note=f"{len(ratings)} validation answers, fewer than {MIN_ANSWERS}")
    if kind == "affine":
        if ratings.std() < SPREAD:
            return replace(raw, note="all validation answers are the same")
        slope, intercept = fit_affine(ratings, truth)
        return replace(raw, slope=slope, intercept=intercept)
    if kind == "blend":
        if np.abs(ratings - bias).max() < SPREAD:
            return replace(raw, note="all validation answers are those of Bias")
        weight = fit_blend(ratings, bias, truth)
        return replace(raw, slope=weight, bias_weight=1.0 - weight)
    return raw


def fit_affine(ratings: Array, truth: Array) -> tuple[float, float]:
    """Slope and intercept of least squares: min sum (truth - slope * rating - intercept)^2."""
    middle, offsets = ratings.mean(), ratings - ratings.mean()
    slope = float(offsets @ (truth - truth.mean()) / (offsets @ offsets))
    return slope, float(truth.mean() - slope * middle)


def fit_blend(ratings: Array, bias: Array, truth: Array) -> float:
    """w in [0, 1] with least sum (truth - w * rating - (1 - w) * bias)^2.

    A parabola in w: its lowest point, or the end of [0, 1] nearest to it.
    """
    gain = ratings - bias
    return float(np.clip(gain @ (truth - bias) / (gain @ gain), 0.0, 1.0))


def calibrate(
    config: Config,
    settings: Settings,
    split: Split,
    rater: Rater,
    bias: Fitted,
    *,
    refit: bool,
    seed: int,
) -> Calibration:
    """Fitted on random validation pairs that are rated out of the train part alone.

    With `refit` the run's `rater` and `bias` have read the validation rows; fitted on what those
    say of them, a calibration would trust them too much. So others are asked: the same models on
    a corpus of the train part, a Bias of the train part.
    """
    if refit:
        corpus = corpus_of(split.train, settings.description_fields, settings.review_file)
        rater, bias = rater.over(corpus), fit("Bias", config, split, refit=False)
    rows = sample_rows(split.size("valid"), settings.calibration_pairs, seed)
    pairs = [split.pairs("valid")[row] for row in rows]
    return fit_calibration(
        settings.calibration,
        np.array([p.expected if p else np.nan for p in rater.rate(pairs)]),
        np.array(rate_pairs(bias, split, pairs) if pairs else []),
        split.ratings("valid")[rows],
    )
