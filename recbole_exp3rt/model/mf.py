"""Biased matrix factorisation for ratings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import nn

from recbole_exp3rt.config.systems import MFSettings
from recbole_exp3rt.model.scale import clip_to, rating_range


class MF(GeneralRecommender):  # type: ignore[misc]
    """mu + b_u + b_i + p_u · q_i with squared loss and L2 (Koren et al. 2009).

    The L2 penalty counts each parameter once, not once for each of its ratings. With embeddings
    of zero, this model is `Bias` with `reg_weight` = `reg_bias`.
    """

    input_type = InputType.POINTWISE
    mean: torch.Tensor
    user_share: torch.Tensor
    item_share: torch.Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        """Create the parameters. Biases start at 0, embeddings at random values.

        Raises: UsageError for settings out of range.
        """
        super().__init__(config, dataset)
        rows = dataset.inter_feat
        ratings = rows[config["RATING_FIELD"]].numpy().astype(np.float64)
        self.LABEL = config["LABEL_FIELD"]
        self.range = rating_range(config, ratings)
        self.settings = settings = MFSettings.from_config(config)
        size = settings.embedding_size
        self.register_buffer("mean", torch.tensor(float(ratings.mean())))
        self.register_buffer("user_share", _share(rows[self.USER_ID], self.n_users))
        self.register_buffer("item_share", _share(rows[self.ITEM_ID], self.n_items))
        self.user_embedding = nn.Embedding(self.n_users, size)
        self.item_embedding = nn.Embedding(self.n_items, size)
        self.user_bias = nn.Embedding(self.n_users, 1)
        self.item_bias = nn.Embedding(self.n_items, 1)
        for table in (self.user_embedding, self.item_embedding):
            nn.init.normal_(table.weight, std=settings.init_std)
        for table in (self.user_bias, self.item_bias):  # stay 0 for a user or item without a row
            nn.init.zeros_(table.weight)

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Ratings before clipping: [batch], [batch] -> [batch]."""
        biases = self.user_bias(user) + self.item_bias(item)  # [batch, 1]
        match = (self.user_embedding(user) * self.item_embedding(item)).sum(dim=1)
        ratings: torch.Tensor = self.mean + biases.squeeze(1) + match
        return ratings

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Mean over the batch of the squared error plus each row's share of the penalty: []."""
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        error = self.forward(user, item) - interaction[self.LABEL]
        loss: torch.Tensor = (
            error.square()
            + self.user_share[user] * self._penalty(self.user_bias, self.user_embedding, user)
            + self.item_share[item] * self._penalty(self.item_bias, self.item_embedding, item)
        ).mean()
        return loss

    def _penalty(self, bias: nn.Embedding, factors: nn.Embedding, ids: torch.Tensor) -> Any:
        """reg_bias * b^2 + reg_weight * |p|^2: [batch]."""
        weighted = self.settings.reg_weight * factors(ids).square().sum(dim=1)
        return weighted + self.settings.reg_bias * bias(ids).square().squeeze(1)

    def predict(self, interaction: Any) -> torch.Tensor:
        """Ratings in rating units: [batch]."""
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        return clip_to(self.range, self.forward(user, item))


def _share(ids: torch.Tensor, n: int) -> torch.Tensor:
    """1 / number of rows of each id: [n]. So the penalty of an id sums up to 1 over its rows."""
    return 1.0 / torch.bincount(ids, minlength=n).clamp(min=1)
