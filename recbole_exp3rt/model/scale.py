"""The range that predicted ratings are kept in."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

Range = tuple[float, float]


def rating_range(config: Any, ratings: NDArray[Any]) -> Range:
    """`rating_scale` of the data set; where it says none, lowest and highest train rating."""
    lowest, highest = config["rating_scale"] or (ratings.min(), ratings.max())
    return float(lowest), float(highest)


def clip_to(limits: Range, ratings: torch.Tensor) -> torch.Tensor:
    """No prediction outside of what can be given: [batch] -> [batch]."""
    return ratings.clamp(*limits)
