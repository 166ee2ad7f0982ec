"""Koren's baseline, mu + b_u + b_i, solved exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType, ModelType

from recbole_exp3rt.config.systems import BiasSettings
from recbole_exp3rt.data.unseen import UnseenPair
from recbole_exp3rt.model.scale import clip_to, rating_range
from recbole_exp3rt.stages.bias import solve_biases as solve_biases


class Bias(GeneralRecommender):  # type: ignore[misc]
    """mu + b_u + b_i with ridge-regularised biases (Koren et al. 2009), clipped to the scale.

    It is fitted when it is created, so there is nothing to train. It has one unused parameter,
    because a RecBole trainer needs something to optimise.
    """

    type = ModelType.TRADITIONAL  # one epoch is enough
    input_type = InputType.POINTWISE
    mean: torch.Tensor
    user_bias: torch.Tensor
    item_bias: torch.Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        """Fit the biases to the rows of `dataset`. Raises: UsageError if reg_weight is not > 0."""
        super().__init__(config, dataset)
        self.reg_weight = BiasSettings.from_config(config).reg_weight  # 0: biases are not unique
        rows = dataset.inter_feat
        ratings = rows[config["RATING_FIELD"]].numpy().astype(np.float64)
        mean, user_bias, item_bias = solve_biases(
            rows[self.USER_ID].numpy(),
            rows[self.ITEM_ID].numpy(),
            ratings,
            (self.n_users, self.n_items),
            self.reg_weight,
        )
        self.item_ids: Mapping[str, int] = dataset.field2token_id[self.ITEM_ID]
        self.range = rating_range(config, ratings)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("user_bias", torch.tensor(user_bias, dtype=torch.float32))
        self.register_buffer("item_bias", torch.tensor(item_bias, dtype=torch.float32))
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Return 0: the biases are solved, not trained."""
        return self.unused.sum() * 0.0

    def predict(self, interaction: Any) -> torch.Tensor:
        """Ratings in rating units: [batch]."""
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        return clip_to(self.range, self.mean + self.user_bias[user] + self.item_bias[item])

    def rate_unseen(self, pairs: Sequence[UnseenPair]) -> NDArray[np.float64]:
        """Ratings of pairs whose user train does not have, in rating units: [n_pairs].

        b_u = sum over the user's other ratings of (r - mu - b_i) / (reg_weight + their number):
        what `solve_biases` finds for one more user if b_i stay. An unknown item has b_i = 0.
        """
        mean, item_bias = float(self.mean), self.item_bias.cpu().numpy().astype(np.float64)

        def of_item(item: str) -> float:
            return float(item_bias[self.item_ids[item]]) if item in self.item_ids else 0.0

        found = []
        for pair in pairs:
            left = [other.rating - mean - of_item(other.item) for other in pair.others]
            own = sum(left) / (self.reg_weight + len(left))
            found.append(mean + own + of_item(pair.item))
        return clip_to(self.range, torch.tensor(found, dtype=torch.float64)).numpy()
