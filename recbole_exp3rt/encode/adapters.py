"""Adapters: small modules that turn vectors of another model into embeddings of a language model.

An adapter is kept as a safetensors file with a JSON card beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import atomic, write_atomic

WEIGHTS, CARD = "adapter.safetensors", "card.json"


class MixtureOfExperts(nn.Module):
    """All experts at once, weighted by a soft gate: [batch, inside] -> [batch, outside].

    expert_k(x) = dropout(x - b_k) W_k; gate = softmax(x G + noise * softplus(x N)), with normal
    noise in training only. G and N start at 0, so that all experts have the same share.
    Source: Ma et al., XRec, arXiv 2406.02377.
    """

    def __init__(self, inside: int, outside: int, experts: int = 8, dropout: float = 0.2) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(experts, inside, outside) * 0.02)
        self.bias = nn.Parameter(torch.zeros(experts, inside))
        self.gate = nn.Parameter(torch.zeros(inside, experts))
        self.noise = nn.Parameter(torch.zeros(inside, experts))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, inside] -> [batch, outside]."""
        scores = x @ self.gate  # [batch, experts]
        if self.training:
            scores = scores + torch.randn_like(scores) * functional.softplus(x @ self.noise)
        shares = scores.softmax(dim=-1)
        centred = self.dropout(x)[:, None] - self.bias  # [batch, experts, inside]
        return torch.einsum("be,bei,eio->bo", shares, centred, self.weight)


def save_adapter(folder: Path, module: nn.Module, card: Mapping[str, Any]) -> None:
    """Write weights, then the card: a folder with a card is whole. Raises: UsageError."""
    tensors = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
    with atomic(folder / WEIGHTS) as part:
        try:
            save_file(tensors, part)
        except SafetensorError as error:
            raise OSError(str(error)) from error
    write_atomic(folder / CARD, json.dumps(card, indent=1, ensure_ascii=False))


def load_adapter(folder: Path, module: nn.Module) -> bool:
    """Read the weights of a whole folder into `module`; False: there is none yet.

    Raises: UsageError for weights that cannot be read or do not fit.
    """
    if not (folder / CARD).is_file():
        return False
    try:
        module.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{folder / WEIGHTS} cannot be read ({reason}); delete {folder}, and it is trained "
            "again"
        ) from error
    return True
