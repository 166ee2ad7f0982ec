"""Wide & Deep as a regression of ratings. RecBole's WideDeep is a classifier, with outputs 0-1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.model.context_aware_recommender.widedeep import WideDeep
from torch import nn

from recbole_exp3rt.model.scale import clip_to, rating_range


class WDL(WideDeep):  # type: ignore[misc]
    """RecBole's WideDeep (Cheng et al. 2016) with squared loss around the mean train rating.

    It uses user, item and all other token fields that are loaded.
    """

    mean: torch.Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        """As RecBole's; the mean rating of `dataset` is the starting point of predictions."""
        super().__init__(config, dataset)
        ratings = dataset.inter_feat[config["RATING_FIELD"]].numpy().astype(np.float64)
        self.range = rating_range(config, ratings)
        self.register_buffer("mean", torch.tensor(float(ratings.mean())))
        self.loss = nn.MSELoss()

    def forward(self, interaction: Any) -> torch.Tensor:
        """Ratings before clipping: [batch]."""
        ratings: torch.Tensor = self.mean + super().forward(interaction)
        return ratings

    def predict(self, interaction: Any) -> torch.Tensor:
        """Ratings in rating units: [batch]."""
        return clip_to(self.range, self.forward(interaction))
