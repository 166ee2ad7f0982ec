"""Popularity: the number of train rows of each item."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.general_recommender.pop import Pop as RecBolePop


class Pop(RecBolePop):  # type: ignore[misc]
    """RecBole's Pop, with the rows counted when the model is created.

    RecBole counts during training. It also counts sampled negatives, and counts an item only once
    in a batch.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        """Count the rows of each item in `dataset`."""
        super().__init__(config, dataset)
        counts = torch.bincount(dataset.inter_feat[self.ITEM_ID], minlength=self.n_items)
        self.item_cnt = counts.unsqueeze(1).to(self.device)  # [n_items, 1]
        self.max_cnt = self.item_cnt.max(dim=0)[0]

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Return 0: there is nothing to train."""
        loss: torch.Tensor = self.fake_loss.sum() * 0.0
        return loss
