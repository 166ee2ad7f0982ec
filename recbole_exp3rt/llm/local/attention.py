"""Attention over a SharedCache: what rows share is met by all of their queries in one product.

What it does not know: text or requests, or which rows come and go.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from recbole_exp3rt.llm.local.kv_cache import NARROW, LayerView, SharedCache

NAME = "exp3rt_shared"
STRETCH = 64  # queries at once in a prompt, on a CPU
# What scaled_dot_product_attention is there, which keeps the normaliser to itself
_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: LayerView,
    value: LayerView,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over a SharedCache: [rows, heads, width, size] -> [rows, width, heads, size].

    Without such a cache it is the library's own.
    """
    if not isinstance(key, LayerView):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    cache, layer = key.cache, key.layer
    keys, values = (
        kept[layer][:, :, : cache.columns] for kept in (cache.keys, cache.values)
    )  # [rows, kv heads, columns, size]
    if query.shape[2] <= NARROW:
        return _apart(query * scaling, keys, values, cache, layer), None
    if not cache.masks:
        return _wide(query, keys, values, cache, layer, scaling), None
    outputs, first = [], 0
    for number, (segment, mask) in enumerate(zip(cache.segments, cache.masks, strict=True)):
        rows = slice(first, first + segment.rows)
        first += segment.rows
        own_keys, own_values = keys[rows], values[rows]
        if segment.length:  # the start stands before each row for as long as this layer lasts
            own_keys = _behind(cache.start_keys[layer][number, :, : segment.length], own_keys)
            own_values = _behind(cache.start_values[layer][number, :, : segment.length], own_values)
        out, _ = sdpa_attention_forward(
            module, query[rows], own_keys, own_values.contiguous(), mask, scaling=scaling
        )
        outputs.append(out)
    return torch.cat(outputs) if len(outputs) > 1 else outputs[0], None


def _wide(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    cache: SharedCache,
    layer: int,
    scaling: float,
) -> torch.Tensor:
    """Many queries a row, on a CPU: as `_apart`, by the library's kernel. It takes grouped heads
    as they are, but computes what is masked, so that queries are shown only what comes before."""
    rows, heads, width, size = query.shape
    columns, near, values = cache.columns, cache.near.to(query.dtype), values.contiguous()
    out = query.new_empty(rows, width, heads, size)
    lse = torch.empty(rows, width, heads, 1)
    for first in range(0, width, STRETCH):
        last = min(first + STRETCH, width)
        seen = columns - width + last
        met, norm = _FLASH(
            query[:, :, first:last],
            keys[:, :, :seen],
            values[:, :, :seen],
            attn_mask=near[:, :, first:last, :seen],
            scale=scaling,
        )
        out[:, first:last] = met.transpose(1, 2)
        lse[:, first:last, :, 0] = norm.transpose(1, 2)
    first, groups = 0, keys.shape[1]
    for number, segment in enumerate(cache.segments):
        some = slice(first, first + segment.rows)
        first += segment.rows
        if not segment.length:
            continue
        asked = query[some].reshape(segment.rows, groups, -1, width, size).permute(1, 2, 0, 3, 4)
        start = (
            kept[layer][number : number + 1, :, : segment.length].contiguous()
            for kept in (cache.start_keys, cache.start_values)
        )
        met, norm = _FLASH(asked.reshape(1, groups, -1, size), *start, scale=scaling)
        # all as [rows, width, kv heads, group, size]
        met = met.reshape(asked.shape).permute(2, 3, 0, 1, 4)
        norm = norm.reshape(*asked.shape[:-1], 1).permute(2, 3, 0, 1, 4)
        own, own_norm = (
            t[some].view(segment.rows, width, groups, -1, t.shape[-1]) for t in (out, lse)
        )
        torch.lerp(met, own, torch.sigmoid(own_norm - norm).to(query.dtype), out=own)
    return out


def _apart(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    cache: SharedCache,
    layer: int,
) -> torch.Tensor:
    """Few queries a row. A row's own columns and the start it shares are met apart, the starts by
    the queries of all their rows at once; both are put together by their normalisers."""
    rows, heads, width, size = query.shape
    query = query.reshape(rows, keys.shape[1], -1, size)  # [rows, kv heads, group * width, size]
    near = cache.near[:, :, -width:]
    if width > 1:  # the same for each head of a group
        near = near.repeat(1, 1, query.shape[2] // width, 1)
    out, lse = _met(query, keys, values, near)
    if cache.longest:
        seats = cache.seats
        asked = query[seats.row].transpose(1, 2)  # [segments, kv heads, seats, group * width, size]
        shape = asked.shape[:-1]
        starts = cache.start_keys[layer], cache.start_values[layer]
        start, start_lse = (
            met.reshape(*shape, -1).transpose(1, 2).flatten(0, 1)[seats.back]
            for met in _met(asked.flatten(2, 3), *starts, seats.bias)
        )
        out = torch.lerp(start, out, torch.sigmoid(lse - start_lse).to(out.dtype))
    return out.reshape(rows, heads, width, size).transpose(1, 2)


def _met(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention [.., n, size] and the logarithm of its normaliser, float32 [.., n, 1]."""
    scores = (query @ keys.transpose(-1, -2)).float().add_(bias)
    weights = scores.softmax(dim=-1)
    # of the likeliest: score - normaliser = log(weight); logsumexp takes as long as all of this
    lse = scores.amax(dim=-1, keepdim=True) - weights.amax(dim=-1, keepdim=True).log()
    met = values.transpose(-1, -2) @ weights.to(query.dtype).transpose(-1, -2)  # as values lie
    return met.transpose(-1, -2), lse


def _behind(start: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    return torch.cat([start.expand(len(own), -1, -1, -1), own], dim=2)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
