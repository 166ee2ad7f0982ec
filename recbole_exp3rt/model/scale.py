"""The range that predicted ratings are kept in."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from recbole_exp3rt.config.settings import read_scale

Range = tuple[float, float]


def rating_range(config: Any, ratings: NDArray[Any]) -> Range:
    """`rating_scale` of the data set; where it says none, lowest and highest train rating."""
    if config["rating_scale"] is None:
        return float(ratings.min()), float(ratings.max())
    scale = read_scale(config)
    return float(scale.lowest), float(scale.highest)


def clip_to(limits: Range, ratings: torch.Tensor) -> torch.Tensor:
    """No prediction outside of what can be given: [batch] -> [batch]."""
    return ratings.clamp(*limits)
