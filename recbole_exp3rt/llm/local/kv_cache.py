"""A key/value cache in which rows share the prefix of their prompts.

Rows with the same prefix (the candidates of a user) form a segment, whose prefix is stored once.
The tokens after it are stored for each row, aligned in columns; the mask `own` says in which
columns a row has a token. How attention reads it: `attention.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import Cache

from recbole_exp3rt.llm.local.memory import return_freed_memory

SPARE = 128  # columns that the cache grows by; growing copies it. Most rationales are shorter
NARROW = 16  # up to this many query columns, prefixes and own columns are attended separately
SEPARATE = {"cpu"}  # devices where this holds for any number of query columns


@dataclass(frozen=True, slots=True)
class Segment:
    """`rows` neighbouring rows that share a prefix of `length` tokens (0: none).

    `keys` and `values`: for each layer [1, kv heads, length, size of a head]; empty without prefix.
    """

    rows: int
    length: int = 0
    keys: Sequence[torch.Tensor] = ()
    values: Sequence[torch.Tensor] = ()

    def of(self, rows: int) -> Segment:
        """The same prefix for another number of rows."""
        return replace(self, rows=rows)


@dataclass(frozen=True, slots=True)
class LayerView:
    """One layer of a cache while the model runs; transformers passes it on as keys and values."""

    cache: SharedCache
    layer: int


@dataclass(frozen=True, slots=True)
class Slots:
    """The rows arranged by segment, in as many slots for each segment as the largest one needs.

    `row` [segments, slots]: the row of each slot; an unused slot repeats one. `slot` [rows]: the
    slot of each row, counted over all segments. `bias` [segments, 1, 1, longest prefix]: 0 where
    a prefix has a token, else so low that attention ignores it.
    """

    row: torch.Tensor
    slot: torch.Tensor
    bias: torch.Tensor


class SharedCache(Cache):
    """Keys and values of a batch; `own` [rows, columns] is True where a row has a token.

    `keys` and `values` hold for each layer [rows, kv heads, columns and spare ones, size of a
    head]; in values the columns are next to each other in memory. `prefix_keys` and
    `prefix_values` hold for each layer [segments, kv heads, longest prefix, size], padded behind.
    """

    def __init__(self, segments: Sequence[Segment], own: torch.Tensor) -> None:
        self.layers: list[Any] = []  # transformers reads it
        self.segments = [Segment(segment.rows, segment.length) for segment in segments]
        self.own = own
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        # those of several segments are set by `joined` and `take`
        self.prefix_keys = list(segments[0].keys)
        self.prefix_values = list(segments[0].values)
        # What the queries may attend to: `bias` in their own columns; `masks`, one for each
        # segment, where prefix and own columns are attended together
        self.masks: list[torch.Tensor] = []
        self.bias = own
        self._slots: Slots | None = None
        self._into: tuple[SharedCache, slice] | None = (
            None  # a cache, and the rows of it that this one writes
        )

    @property
    def columns(self) -> int:
        """Columns after the prefixes."""
        return int(self.own.shape[1])

    @property
    def longest(self) -> int:
        """Tokens of the longest prefix."""
        return max(segment.length for segment in self.segments)

    @property
    def slots(self) -> Slots:
        """The rows arranged by segment."""
        if self._slots is None:
            self._slots = _slots(self.segments, self.own.device)
        return self._slots

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Most tokens of a row, as transformers asks for it."""
        return self.columns + self.longest

    def begin(self, new: torch.Tensor) -> torch.Tensor:
        """Add columns `new` [rows, width] (True: a token). Returns positions [rows, width]."""
        self.own = torch.cat([self.own, new], dim=1)
        width = new.shape[1]
        lengths = torch.cat(
            [torch.full((s.rows,), s.length, device=new.device) for s in self.segments]
        )
        positions = lengths[:, None] + self.own.long().cumsum(dim=1) - 1
        together = width > NARROW and new.device.type not in SEPARATE
        self.masks = self._causal(width) if together else []
        # the last layer may have a query in the last column only
        self.bias = as_bias(self._seen(self.own, 1 if together else width))[:, None]
        return positions.clamp(min=0)[:, -width:]

    @staticmethod
    def _seen(own: torch.Tensor, width: int) -> torch.Tensor:
        """Which of its own columns each of the last `width` may attend to: [rows, width, columns].

        A column without a token attends to itself, so that no result is undefined.
        """
        columns = torch.arange(own.shape[1], device=own.device)
        query = columns[-width:, None]
        return (own[:, None, :] & (columns <= query)) | (columns == query)

    def _causal(self, width: int) -> list[torch.Tensor]:
        """The same with prefixes: [rows, 1, width, prefix + columns] for each segment."""
        masks, first = [], 0
        for segment in self.segments:
            seen = self._seen(self.own[first : first + segment.rows], width)
            prefix = seen.new_ones(segment.rows, width, segment.length)
            masks.append(torch.cat([prefix, seen], dim=2)[:, None])
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
        """Write the new columns. Returns a view of the layer, which goes to `attend`."""
        if layer_idx == len(self.keys):
            self.keys.append(self._new_layer("keys", key_states))
            self.values.append(self._new_layer("values", value_states))
        last, width = self.columns, key_states.shape[2]
        for kept, new in ((self.keys, key_states), (self.values, value_states)):
            if kept[layer_idx].shape[2] < last:
                grown = _columns(new, len(new), last + SPARE, transposed=kept is self.values)
                grown[:, :, : last - width] = kept[layer_idx][:, :, : last - width]
                kept[layer_idx] = grown
                if last > width:  # the smaller one is free now
                    return_freed_memory()
            kept[layer_idx][:, :, last - width : last] = new
        view = LayerView(self, layer_idx)
        return view, view

    # --- rows that join and leave

    def as_segment(self, rows: int) -> Segment:
        """What the only row has read, as the prefix that `rows` rows share."""
        keys = [layer[:, :, : self.columns] for layer in self.keys]
        values = [layer[:, :, : self.columns] for layer in self.values]
        return Segment(rows, self.columns, keys, values)

    def take(self, rows: Sequence[int]) -> SharedCache:
        """A copy that holds only `rows`, in ascending order, without columns that none has."""
        index = torch.tensor(rows, device=self.own.device)
        segments, kept, first = [], [], 0
        for number, segment in enumerate(self.segments):
            staying = sum(first <= row < first + segment.rows for row in rows)
            if staying:
                segments.append(segment.of(staying))
                kept.append(number)
            first += segment.rows
        own = self.own[index]
        used = own.any(dim=0).nonzero()
        skip = int(used[0]) if len(used) else self.columns
        taken = SharedCache(segments, own[:, skip:])
        for name in ("keys", "values"):
            layers = []
            for layer in getattr(self, name):
                columns = layer[:, :, skip : self.columns]
                if name == "values":  # indexed in their memory order
                    columns = columns.transpose(2, 3)[index].transpose(2, 3)
                else:
                    columns = columns[index]
                layers.append(columns)
            setattr(taken, name, layers)
            prefixes = getattr(self, f"prefix_{name}")
            if len(kept) < len(self.segments):
                prefixes = [layer[kept, :, : taken.longest] for layer in prefixes]
            setattr(taken, f"prefix_{name}", prefixes)
        return taken

    @staticmethod
    def joined(
        running: SharedCache | None,
        batches: Sequence[tuple[Segment, Sequence[int]]],
        device: torch.device,
    ) -> tuple[SharedCache, list[SharedCache]]:
        """One cache of the running rows and those of `batches`, aligned at their last columns, and
        for each batch a cache that writes into it.

        A batch is a segment and the number of tokens that each of its rows will read, once. The
        running cache must not be used afterwards: each of its layers is freed as soon as it is
        copied, so that no two copies of all layers exist.
        """
        old = [] if running is None else [running]
        new_segments: list[Segment] = []
        for segment, _ in batches:  # neighbours with the same prefix are one segment
            if segment.length and new_segments and new_segments[-1].keys is segment.keys:
                segment = segment.of(new_segments.pop().rows + segment.rows)
            new_segments.append(segment)
        segments = [segment for cache in old for segment in cache.segments] + new_segments
        columns = max([cache.columns for cache in old] + [max(n) for _, n in batches])
        lengths = torch.tensor([n for _, each in batches for n in each], device=device)
        new = torch.arange(columns, device=device) >= columns - lengths[:, None]
        own = [pad(cache.own, (columns - cache.columns, 0)) for cache in old]
        merged = SharedCache(segments, torch.cat([*own, new]))
        parts, first = [], sum(len(cache.own) for cache in old)
        for segment, _ in batches:
            part = SharedCache([segment], new[: segment.rows, :0])
            part._into = (merged, slice(first, first + segment.rows))
            parts.append(part)
            first += segment.rows
        for name in ("keys", "values"):
            prefixes = [(len(cache.segments), getattr(cache, f"prefix_{name}")) for cache in old]
            prefixes += [(1, getattr(segment, name)) for segment in new_segments]
            stacked = _stacked(prefixes, merged.longest)
            setattr(merged, f"prefix_{name}", stacked)
            for depth, like in enumerate(stacked):  # first, to keep the layers together in memory
                merged._place(name, depth, slice(0), like[:, :, :0])
            for cache in old:
                layers = getattr(cache, name)
                for depth, layer in enumerate(layers):
                    used = layer[:, :, : cache.columns]
                    place = merged._place(name, depth, slice(len(used)), used)
                    place[:, :, : cache.columns] = used
                    layers[depth] = layer = used = place[:0]  # frees the layer
                    return_freed_memory()
        return merged, parts

    def _new_layer(self, name: str, new: torch.Tensor) -> torch.Tensor:
        """Memory of a layer before its first tokens `new` [rows, kv heads, columns, size]."""
        if self._into is None:
            return new[:, :, :0]
        merged, rows = self._into
        return merged._place(name, len(getattr(self, name)), rows, new)

    def _place(self, name: str, depth: int, rows: slice, new: torch.Tensor) -> torch.Tensor:
        """The last columns of `rows` in a layer, as many as `new` has, and the spare columns."""
        layers: list[torch.Tensor] = getattr(self, name)
        if depth == len(layers):
            wide = self.columns + SPARE
            layers.append(_columns(new, len(self.own), wide, transposed=name == "values"))
        before = self.columns - new.shape[2]
        layers[depth][rows, :, :before] = 0  # masked, but NaN times 0 would be NaN
        return layers[depth][rows, :, before:]


def _stacked(
    prefixes: Sequence[tuple[int, Sequence[torch.Tensor]]], longest: int
) -> list[torch.Tensor]:
    """Prefixes in one tensor a layer, padded to `longest`; zeros for segments without one.

    `prefixes`: a number of segments, and [segments, kv heads, length, size] for each layer.
    """
    made = []
    for depth, like in enumerate(next((layers for _, layers in prefixes if layers), ())):
        parts = []
        for number, layers in prefixes:
            if layers:
                parts.append(pad(layers[depth], (0, 0, 0, longest - layers[depth].shape[2])))
            else:
                parts.append(like.new_zeros(number, like.shape[1], longest, like.shape[3]))
        made.append(torch.cat(parts))
    return made


def as_bias(seen: torch.Tensor) -> torch.Tensor:
    """0 where seen, else -1e30: finite, as a row may have nothing to attend to."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, -1e30)


def _slots(segments: Sequence[Segment], device: torch.device) -> Slots:
    """The rows of `segments` arranged by segment."""
    most = max(segment.rows for segment in segments)
    row, slots, first = [], [], 0
    for number, segment in enumerate(segments):
        row.append([first + min(slot, segment.rows - 1) for slot in range(most)])
        slots += [number * most + slot for slot in range(segment.rows)]
        first += segment.rows
    lengths = torch.tensor([segment.length for segment in segments], device=device)
    there = torch.arange(max(segment.length for segment in segments), device=device)
    bias = as_bias(there < lengths[:, None])[:, None, None]
    return Slots(torch.tensor(row, device=device), torch.tensor(slots, device=device), bias)


def _columns(like: torch.Tensor, rows: int, columns: int, *, transposed: bool) -> torch.Tensor:
    """Memory for [rows, kv heads, columns, size]; `transposed`: columns are contiguous.

    On a CPU the product of few weights with transposed values takes half the time (measured).
    """
    _, heads, _, width = like.shape
    if transposed:
        return like.new_empty(rows, heads, width, columns).transpose(2, 3)
    return like.new_empty(rows, heads, columns, width)
