"""A key/value cache in which rows share the start of their prompts, and attention over it.

Rows that begin alike (a user's candidates) form a segment: its start is kept once, and every
query of the segment meets it in one matrix product. What follows is kept for each row, aligned in
columns; a mask tells which columns are a row's own. What it does not know: text or requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "exp3rt_shared"
ROOM = 64  # columns that the cache grows by
STRETCH = 128  # queries at once in a prompt, on a CPU


@dataclass(frozen=True, slots=True)
class Segment:
    """`rows` neighbouring rows that share a start of `length` tokens (0: none).

    `keys` and `values`: for each layer [1, heads, length, width]; empty lists without a start.
    """

    rows: int
    length: int = 0
    keys: Sequence[torch.Tensor] = ()
    values: Sequence[torch.Tensor] = ()

    def of(self, rows: int) -> Segment:
        """The same start for another number of rows."""
        return replace(self, rows=rows)


@dataclass(frozen=True, slots=True)
class LayerView:
    """One layer of a cache while the model runs; it travels where keys usually do."""

    cache: SharedCache
    layer: int


class SharedCache(Cache):
    """Keys and values of a batch. `own` [rows, columns] tells which columns are whose."""

    def __init__(self, segments: Sequence[Segment], own: torch.Tensor) -> None:
        self.layers: list[Any] = []  # the library looks at it
        self.segments = list(segments)
        self.own = own
        self.keys: list[torch.Tensor] = []  # each [rows, heads, columns and room, width]
        self.values: list[torch.Tensor] = []
        # What is being read may look at, for each segment; and the last column alone
        self.masks: list[torch.Tensor] = []
        self.last = own

    @property
    def columns(self) -> int:
        return int(self.own.shape[1])

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.columns + max(segment.length for segment in self.segments)

    def begin(self, new: torch.Tensor) -> torch.Tensor:
        """Make room for columns `new` [rows, width] (True: a token). Returns positions."""
        self.own = torch.cat([self.own, new], dim=1)
        width = new.shape[1]
        starts = torch.cat(
            [torch.full((s.rows,), s.length, device=new.device) for s in self.segments]
        )
        positions = starts[:, None] + self.own.long().cumsum(dim=1) - 1
        self.masks = [] if width == 1 else self._causal(width)
        self.last = _as_bias(self.own)[:, None, None]  # [rows, 1, 1, columns]
        return positions.clamp(min=0)[:, -width:]

    def _causal(self, width: int) -> list[torch.Tensor]:
        """What each new column may look at: [rows, 1, width, start + columns] for each segment.

        A column that is no token looks at itself, so that nothing becomes undefined.
        """
        columns = torch.arange(self.columns, device=self.own.device)
        query = columns[-width:, None]
        masks, first = [], 0
        for segment in self.segments:
            own = self.own[first : first + segment.rows, None, :]  # [rows, 1, columns]
            seen = (own & (columns <= query)) | (columns == query)  # [rows, width, columns]
            start = seen.new_ones(segment.rows, width, segment.length)
            mask = torch.cat([start, seen], dim=2)[:, None]
            # on a CPU every layer would turn it into numbers
            masks.append(_as_bias(mask) if mask.device.type == "cpu" else mask)
            first += segment.rows
        return masks

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Write the new columns; the view goes to `attend` in place of keys and values."""
        if layer_idx == len(self.keys):
            self.keys.append(_empty(key_states))
            self.values.append(_empty(value_states))
        last, width = self.columns, key_states.shape[2]
        for kept, new in ((self.keys, key_states), (self.values, value_states)):
            if kept[layer_idx].shape[2] < last:
                kept[layer_idx] = _grown(kept[layer_idx], last - width, last + ROOM)
            kept[layer_idx][:, :, last - width : last] = new
        view = LayerView(self, layer_idx)
        return view, view

    # --- rows that come and go

    def as_segment(self, rows: int) -> Segment:
        """What the only row has read, as the start that `rows` rows share."""
        keys = [layer[:, :, : self.columns] for layer in self.keys]
        values = [layer[:, :, : self.columns] for layer in self.values]
        return Segment(rows, self.columns, keys, values)

    def take(self, rows: Sequence[int]) -> SharedCache:
        """A copy that holds only `rows`, ascending; columns that nobody has are left out."""
        index = torch.tensor(rows, device=self.own.device)
        segments, first = [], 0
        for segment in self.segments:
            kept = sum(first <= row < first + segment.rows for row in rows)
            if kept:
                segments.append(replace(segment, rows=kept))
            first += segment.rows
        own = self.own[index]
        used = own.any(dim=0).nonzero()
        skip = int(used[0]) if len(used) else self.columns
        taken = SharedCache(segments, own[:, skip:])
        for source, target in ((self.keys, taken.keys), (self.values, taken.values)):
            target.extend(layer[index, :, skip : self.columns] for layer in source)
        return taken

    @staticmethod
    def joined(caches: Sequence[SharedCache]) -> SharedCache:
        """The rows of all, aligned at their last columns."""
        columns = max(cache.columns for cache in caches)
        segments = [segment for cache in caches for segment in cache.segments]
        own = torch.cat([_padded(cache.own, columns) for cache in caches])
        joined = SharedCache(segments, own)
        for name in ("keys", "values"):
            for layers in zip(*(getattr(cache, name) for cache in caches), strict=True):
                _, heads, _, size = layers[0].shape
                made = layers[0].new_zeros(len(own), heads, columns + ROOM, size)
                first = 0
                for layer, cache in zip(layers, caches, strict=True):
                    rows = slice(first, first + len(layer))
                    first += len(layer)
                    made[rows, :, columns - cache.columns : columns] = layer[:, :, : cache.columns]
                getattr(joined, name).append(made)
        return joined


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
    if query.shape[2] == 1:
        return _one_token(query * scaling, keys, values, cache, layer), None
    outputs, first = [], 0
    for segment, mask in zip(cache.segments, cache.masks, strict=True):
        rows = slice(first, first + segment.rows)
        first += segment.rows
        own_keys, own_values = keys[rows], values[rows]
        if segment.length:  # the start stands before each row for as long as this layer lasts
            own_keys = _joined(segment.keys[layer], own_keys)
            own_values = _joined(segment.values[layer], own_values)
        outputs.append(_read(module, query[rows], own_keys, own_values, mask, scaling))
    return torch.cat(outputs) if len(outputs) > 1 else outputs[0], None


def _read(
    module: torch.nn.Module,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """[rows, heads, width, size] over what stands before and the width itself."""
    if query.device.type != "cpu":
        out, _ = sdpa_attention_forward(module, query, keys, values, mask, scaling=scaling)
        return out
    # The CPU's kernel takes grouped heads as they are, but computes what is masked: a stretch of
    # queries is shown only what comes before its end.
    width, columns, mask = query.shape[2], keys.shape[2], mask.to(query.dtype)
    parts = []
    for first in range(0, width, STRETCH):
        last = min(first + STRETCH, width)
        seen = columns - width + last
        part = scaled_dot_product_attention(
            query[:, :, first:last],
            keys[:, :, :seen],
            values[:, :, :seen],
            attn_mask=mask[:, :, first:last, :seen],
            scale=scaling,
            enable_gqa=True,
        )
        parts.append(part.transpose(1, 2))
    return torch.cat(parts, dim=1)


def _one_token(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    cache: SharedCache,
    layer: int,
) -> torch.Tensor:
    """One query a row. Its own columns and the start it shares are met apart; the shared start by
    the queries of all its rows in one product. Both are put together by their normalisers."""
    rows, heads, _, size = query.shape
    query = query.reshape(rows, keys.shape[1], -1, size)  # [rows, kv heads, group, size]
    out, lse = _met(query, keys, values, cache.last)
    if any(segment.length for segment in cache.segments):
        start, start_lse = torch.zeros_like(out), torch.full_like(lse, -torch.inf)
        first = 0
        for segment in cache.segments:
            some = slice(first, first + segment.rows)
            first += segment.rows
            if segment.length:
                asked = query[some].transpose(0, 1)  # [kv heads, rows, group, size]
                met = _met(
                    asked.flatten(1, 2), segment.keys[layer][0], segment.values[layer][0], None
                )
                for target, found in zip((start, start_lse), met, strict=True):
                    target[some] = found.view(*asked.shape[:3], -1).transpose(0, 1)
        out = torch.lerp(start, out, torch.sigmoid(lse - start_lse).to(out.dtype))
    return out.reshape(rows, 1, heads, size)


def _met(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention [.., n, size] and the logarithm of its normaliser, float32 [.., n, 1]."""
    scores = (query @ keys.transpose(-1, -2)).float()
    if bias is not None:
        scores += bias
    weights = scores.softmax(dim=-1)
    # of the likeliest: score - normaliser = log(weight); logsumexp takes as long as all of this
    lse = scores.amax(dim=-1, keepdim=True) - weights.amax(dim=-1, keepdim=True).log()
    return weights.to(query.dtype) @ values, lse


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def _as_bias(seen: torch.Tensor) -> torch.Tensor:
    """0 where seen, else so low that nothing is left; finite, as a row may have nothing to see."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, -1e30)


def _joined(start: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    return torch.cat([start.expand(len(own), -1, -1, -1), own], dim=2)


def _empty(like: torch.Tensor) -> torch.Tensor:
    rows, heads, _, size = like.shape
    return like.new_empty(rows, heads, 0, size)


def _grown(layer: torch.Tensor, used: int, columns: int) -> torch.Tensor:
    rows, heads, _, size = layer.shape
    grown = layer.new_empty(rows, heads, columns, size)
    grown[:, :, :used] = layer[:, :, :used]
    return grown


def _padded(own: torch.Tensor, columns: int) -> torch.Tensor:
    return torch.nn.functional.pad(own, (columns - own.shape[1], 0))
