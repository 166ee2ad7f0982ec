"""The prior of a rating: what is known of a pair without its texts anchors the readout.

    log p(label) = w * (s(label) - m(label)) + log N(label; Bias, sigma), normalised over the labels

s: log-probability of the label by the language model; m: logarithm of its mean label distribution
over some train pairs, so that s - m is what the texts of this pair say; N: a normal discretised on
the levels whose mean is Bias's prediction; sigma: spread of Bias's errors on validation. With
w = 0 the expected rating is Bias's. Pure functions of arrays; `anchoring.py` takes the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_exp3rt.records import RatingPrediction
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.bias import Array

EDGE = 0.02  # of a step: no prior has its mean nearer to an end of the scale
LEAST_SIGMA = 0.1  # of a step
REG_WEIGHT = 5.0  # Bias's own default
WEIGHTS = np.linspace(0.0, 2.0, 201)  # among which w is chosen
_TINY = 1e-300
_HALVINGS = 100  # of the interval in which a normal's centre is looked for


def log_normal(means: NDArray[Any], sigma: float, scale: RatingScale) -> Array:
    """Normals discretised on the levels, with these means: [n] -> [n, n_labels], in nats.

    p(level) is proportional to exp(-(level - c)^2 / (2 sigma^2)). c is the mean in the middle of
    the scale; near its ends c lies further out, so that the mean is kept although the levels end
    there. Means nearer than EDGE to an end, and sigmas below LEAST_SIGMA, count as these.
    """
    levels = np.array(scale.levels, dtype=np.float64)
    sigma = max(float(sigma), LEAST_SIGMA * scale.step)
    edge = EDGE * scale.step
    wanted = np.clip(np.asarray(means, dtype=np.float64), levels[0] + edge, levels[-1] - edge)
    reach = levels[-1] - levels[0] + 10.0 * sigma**2 / scale.step
    low, high = np.full(wanted.shape, levels[0] - reach), np.full(wanted.shape, levels[-1] + reach)
    for _ in range(_HALVINGS):  # the mean grows with the centre
        middle = (low + high) / 2
        below = np.exp(_log_shares(levels, middle, sigma)) @ levels < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return _log_shares(levels, (low + high) / 2, sigma)


def _log_shares(levels: Array, centres: Array, sigma: float) -> Array:
    return _normalised(-((levels[None, :] - centres[:, None]) ** 2) / (2.0 * sigma**2))


def _normalised(logs: NDArray[Any]) -> Array:
    """Log-probabilities that sum to 1 in each row: [n, n_labels]."""
    top = logs.max(axis=1, keepdims=True)
    normal: Array = logs - top - np.log(np.exp(logs - top).sum(axis=1, keepdims=True))
    return normal


def log_mean(said: Sequence[RatingPrediction], scale: RatingScale) -> tuple[float, ...]:
    """m: the logarithm of the mean label distribution, one for each label."""
    means = np.exp(label_logs(said, scale)).mean(axis=0)
    return tuple(np.log(np.maximum(means, _TINY)).tolist())


def label_logs(said: Sequence[RatingPrediction], scale: RatingScale) -> Array:
    """s: the logarithms of the label probabilities of predictions: [n, n_labels]."""
    found = [[p.probabilities[label] for label in scale.labels] for p in said]
    logs: Array = np.log(np.maximum(np.array(found, dtype=np.float64), _TINY))
    return logs


def anchored_logs(said: Array, base: Sequence[float], prior: Array, weight: float) -> Array:
    """weight * (said - base) + prior, normalised: [n, n_labels], [n_labels], [n, n_labels]."""
    return _normalised(weight * (said - np.array(base)[None, :]) + prior)


def fit_weight(
    said: Array, base: Sequence[float], prior: Array, truth: NDArray[Any], scale: RatingScale
) -> float:
    """The w of WEIGHTS with the least squared error of the expected rating; the smallest of equals.

    truth: [n] in rating units; the others as in `anchored_logs`.
    """
    levels = np.array(scale.levels, dtype=np.float64)
    errors = [
        np.square(np.exp(anchored_logs(said, base, prior, w)) @ levels - truth).mean()
        for w in WEIGHTS
    ]
    return round(float(WEIGHTS[int(np.argmin(errors))]), 2)


@dataclass(frozen=True)
class Prior:
    """The numbers that anchor the readout of a model; taken once.

    base: m, one number for each label; sigma in rating units; reg_weight: ridge of Bias.
    `base_pairs` readable train pairs are behind m; `pairs` were asked on validation and `answered`
    of them read, for the weight. `note` says why the weight was not fitted.
    """

    sigma: float
    base: tuple[float, ...]
    weight: float = 1.0
    reg_weight: float = REG_WEIGHT
    base_pairs: int = 0
    pairs: int = 0
    answered: int = 0
    note: str = ""

    def apply(
        self, said: Sequence[RatingPrediction], bias: NDArray[Any], scale: RatingScale
    ) -> list[RatingPrediction]:
        """The predictions with anchored probabilities and ratings; `bias`: [n_predictions]."""
        if not said:
            return []
        prior = log_normal(bias, self.sigma, scale)
        shares = np.exp(anchored_logs(label_logs(said, scale), self.base, prior, self.weight))
        levels = np.array(scale.levels, dtype=np.float64)
        return [
            replace(
                one,
                expected=float(row @ levels),
                modal=scale.levels[int(row.argmax())],
                probabilities=dict(zip(scale.labels, row.tolist(), strict=True)),
            )
            for one, row in zip(said, shares, strict=True)
        ]

    def __str__(self) -> str:
        spread = f"weight {self.weight:.2f}, sigma {self.sigma:.3f}"
        if self.note:
            return f"{spread}; weight not fitted, {self.note}"
        return f"{spread} ({self.answered:,} of {self.pairs:,} validation pairs)"
