"""BPR-MF with the L2 term of its paper, which RecBole's BPR does not have."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.general_recommender.bpr import BPR as RecBoleBPR
from recbole.model.loss import EmbLoss


class BPR(RecBoleBPR):  # type: ignore[misc]
    """RecBole's BPR plus reg_weight * L2 of the embeddings of a batch (Rendle et al. 2009)."""

    def __init__(self, config: Any, dataset: Any) -> None:
        """As RecBole's; `reg_weight` is the weight of the L2 term."""
        super().__init__(config, dataset)
        self.reg_weight = float(config["reg_weight"] or 0)  # not set in RecBole's checkpoints
        self.reg_loss = EmbLoss()

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """BPR loss of (user, item, sampled item) triples plus regularisation: []."""
        user, item = self.forward(interaction[self.USER_ID], interaction[self.ITEM_ID])
        other = self.get_item_embedding(interaction[self.NEG_ITEM_ID])  # [batch, dimension]
        loss: torch.Tensor = self.loss((user * item).sum(dim=1), (user * other).sum(dim=1))
        loss += self.reg_weight * self.reg_loss(user, item, other, require_pow=True).squeeze()
        return loss
