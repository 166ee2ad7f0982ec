"""Attention over examples that stand one behind the other in one row, each on its own.

The library's own way without flash-attention is one mask over the whole row, which costs the
square of its length. What it does not know: a key/value cache, sliding windows.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "exp3rt_packed"  # no mask is registered for it: none is made


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """[1, heads, tokens, size] -> [1, tokens, heads, size]; examples end at `cu_seq_lens_q`."""
    for name in ("cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx", "position_ids"):
        kwargs.pop(name, None)
    if cu_seq_lens_q is None or len(cu_seq_lens_q) == 2:
        out, _ = sdpa_attention_forward(module, query, key, value, None, is_causal=True, **kwargs)
        return out, None
    kind = query.dtype
    if query.device.type == "cpu":  # on bfloat16 it takes twice as long there
        query, key, value = query.float(), key.float(), value.float()
    sizes = cu_seq_lens_q.diff().tolist()
    rows = (torch.split(states, sizes, dim=2) for states in (query, key, value))
    parts = [
        sdpa_attention_forward(module, q, k, v, None, is_causal=True, **kwargs)[0]
        for q, k, v in zip(*rows, strict=True)
    ]
    return torch.cat(parts, dim=1).to(kind), None


AttentionInterface.register(NAME, attend)
