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
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "exp3rt_shared"
ROOM = 64  # columns that the cache grows by


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
        self.masks: list[torch.Tensor] = []  # of what is being read, one for each segment

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
            masks.append(torch.cat([start, seen], dim=2)[:, None])
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

    def join(self, other: SharedCache) -> SharedCache:
        """The rows of both, aligned at their last columns."""
        columns = max(self.columns, other.columns)
        joined = SharedCache(
            [*self.segments, *other.segments],
            torch.cat([_padded(c.own, columns) for c in (self, other)]),
        )
        for name in ("keys", "values"):
            for mine, its in zip(getattr(self, name), getattr(other, name), strict=True):
                parts = [
                    _aligned(layer, cache.columns, columns)
                    for layer, cache in ((mine, self), (its, other))
                ]
                getattr(joined, name).append(torch.cat(parts))
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
    outputs, first = [], 0
    for k, segment in enumerate(cache.segments):
        rows = slice(first, first + segment.rows)
        first += segment.rows
        if query.shape[2] == 1:
            own = cache.own[rows, None, None, :]
            outputs.append(
                _one_token(query[rows] * scaling, keys[rows], values[rows], own, segment, layer)
            )
        else:
            own_keys, own_values = keys[rows], values[rows]
            if segment.length:  # the start stands before each row for as long as this layer lasts
                own_keys = _joined(segment.keys[layer], own_keys)
                own_values = _joined(segment.values[layer], own_values)
            out, _ = sdpa_attention_forward(
                module, query[rows], own_keys, own_values, cache.masks[k], scaling=scaling
            )
            outputs.append(out)
    return torch.cat(outputs) if len(outputs) > 1 else outputs[0], None


def _one_token(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    own: torch.Tensor,
    segment: Segment,
    layer: int,
) -> torch.Tensor:
    """One query a row: the shared start is met by all rows' queries in one product."""
    rows, heads, _, size = query.shape
    shared = keys.shape[1]
    query = query.reshape(rows, shared, heads // shared, size)
    scores = (query @ keys.transpose(2, 3)).masked_fill(~own, -torch.inf)
    if segment.length:
        together = query.transpose(0, 1).reshape(shared, -1, size)  # [kv heads, rows * group, size]
        start = together @ segment.keys[layer][0].transpose(1, 2)
        start = start.view(shared, rows, -1, segment.length).transpose(0, 1)
        scores = torch.cat([start, scores], dim=3)
    weights = torch.softmax(scores, dim=3, dtype=torch.float32).to(query.dtype)
    out = weights[..., segment.length :] @ values
    if segment.length:
        start = weights[..., : segment.length].transpose(0, 1).reshape(shared, -1, segment.length)
        met = start @ segment.values[layer][0]
        out = out + met.view(shared, rows, -1, size).transpose(0, 1)
    return out.reshape(rows, 1, heads, size)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


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


def _aligned(layer: torch.Tensor, used: int, columns: int) -> torch.Tensor:
    """The `used` columns of a layer at the end of `columns`; zeros before, with room behind."""
    rows, heads, _, size = layer.shape
    aligned = layer.new_zeros(rows, heads, columns + ROOM, size)
    aligned[:, :, columns - used : columns] = layer[:, :, :used]
    return aligned
