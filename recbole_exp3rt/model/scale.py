"""The range of predicted ratings."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from recbole_exp3rt.config.reader import read_scale

Range = tuple[float, float]


def rating_range(config: Any, ratings: NDArray[Any]) -> Range:
    """Lowest and highest of `rating_scale`; if it is not set, of the train ratings."""
    if config["rating_scale"] is None:
        return float(ratings.min()), float(ratings.max())
    scale = read_scale(config)
    return float(scale.lowest), float(scale.highest)


def clip_to(limits: Range, ratings: torch.Tensor) -> torch.Tensor:
    """Clip predicted ratings to the range: [batch] -> [batch]."""
    return ratings.clamp(*limits)
