"""Attention over a SharedCache: a prefix and the queries of all its rows meet in one product."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from recbole_exp3rt.llm.local.kv_cache import NARROW, LayerView, SharedCache

NAME = "exp3rt_shared"
CHUNK = 64  # query columns at once in a prompt, on a CPU
# The kernel of scaled_dot_product_attention on a CPU; this one also returns the normaliser
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

    With any other cache it is the attention of transformers.
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
        return _narrow(query * scaling, keys, values, cache, layer), None
    if not cache.masks:
        return _wide(query, keys, values, cache, layer, scaling), None
    outputs, first = [], 0
    for number, (segment, mask) in enumerate(zip(cache.segments, cache.masks, strict=True)):
        rows = slice(first, first + segment.rows)
        first += segment.rows
        own_keys, own_values = keys[rows], values[rows]
        if segment.length:  # the prefix is repeated for each row while this layer runs
            own_keys = _with_prefix(cache.prefix_keys[layer][number, :, : segment.length], own_keys)
            own_values = _with_prefix(
                cache.prefix_values[layer][number, :, : segment.length], own_values
            )
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
    """Many queries a row, on a CPU: like `_narrow`, with the kernel of torch.

    The kernel takes grouped heads as they are. It also computes what is masked, so each chunk of
    queries gets only the columns before its end.
    """
    rows, heads, width, size = query.shape
    columns, bias, values = cache.columns, cache.bias.to(query.dtype), values.contiguous()
    out = query.new_empty(rows, width, heads, size)
    lse = torch.empty(rows, width, heads, 1)
    for first in range(0, width, CHUNK):
        last = min(first + CHUNK, width)
        seen = columns - width + last
        part, norm = _FLASH(
            query[:, :, first:last],
            keys[:, :, :seen],
            values[:, :, :seen],
            attn_mask=bias[:, :, first:last, :seen],
            scale=scaling,
        )
        out[:, first:last] = part.transpose(1, 2)
        lse[:, first:last, :, 0] = norm.transpose(1, 2)
    first, groups = 0, keys.shape[1]
    for number, segment in enumerate(cache.segments):
        some = slice(first, first + segment.rows)
        first += segment.rows
        if not segment.length:
            continue
        asked = query[some].reshape(segment.rows, groups, -1, width, size).permute(1, 2, 0, 3, 4)
        prefix = (
            kept[layer][number : number + 1, :, : segment.length].contiguous()
            for kept in (cache.prefix_keys, cache.prefix_values)
        )
        part, norm = _FLASH(asked.reshape(1, groups, -1, size), *prefix, scale=scaling)
        # all as [rows, width, kv heads, group, size]
        part = part.reshape(asked.shape).permute(2, 3, 0, 1, 4)
        norm = norm.reshape(*asked.shape[:-1], 1).permute(2, 3, 0, 1, 4)
        own, own_norm = (
            t[some].view(segment.rows, width, groups, -1, t.shape[-1]) for t in (out, lse)
        )
        torch.lerp(part, own, torch.sigmoid(own_norm - norm).to(query.dtype), out=own)
    return out


def _narrow(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    cache: SharedCache,
    layer: int,
) -> torch.Tensor:
    """Few queries a row: own columns and prefix are attended separately.

    A prefix is attended by the queries of all its rows at once. The two results are weighted by
    their normalisers, which gives exactly the attention over both.
    """
    rows, heads, width, size = query.shape
    query = query.reshape(rows, keys.shape[1], -1, size)  # [rows, kv heads, group * width, size]
    bias = cache.bias[:, :, -width:]
    if width > 1:  # the same for each head of a group
        bias = bias.repeat(1, 1, query.shape[2] // width, 1)
    out, lse = _attend(query, keys, values, bias)
    if cache.longest:
        slots = cache.slots
        asked = query[slots.row].transpose(1, 2)  # [segments, kv heads, slots, group * width, size]
        shape = asked.shape[:-1]
        prefixes = cache.prefix_keys[layer], cache.prefix_values[layer]
        prefix, prefix_lse = (
            part.reshape(*shape, -1).transpose(1, 2).flatten(0, 1)[slots.slot]
            for part in _attend(asked.flatten(2, 3), *prefixes, slots.bias)
        )
        out = torch.lerp(prefix, out, torch.sigmoid(lse - prefix_lse).to(out.dtype))
    return out.reshape(rows, heads, width, size).transpose(1, 2)


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention [.., n, size], and the log of its normaliser, float32 [.., n, 1]."""
    scores = (query @ keys.transpose(-1, -2)).float().add_(bias)
    weights = scores.softmax(dim=-1)
    # from the largest: score - log(normaliser) = log(weight); logsumexp would double the time
    lse = scores.amax(dim=-1, keepdim=True) - weights.amax(dim=-1, keepdim=True).log()
    out = values.transpose(-1, -2) @ weights.to(query.dtype).transpose(-1, -2)  # memory order
    return out.transpose(-1, -2), lse


def _with_prefix(prefix: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """A prefix [kv heads, length, size] before the own columns of each row."""
    return torch.cat([prefix.expand(len(own), -1, -1, -1), own], dim=2)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
