"""A key/value cache in which rows share the start of their prompts.

Rows that begin alike (a user's candidates) form a segment, whose start is kept once. What follows
is kept for each row, aligned in columns; a mask tells which columns are a row's own. What it does
not know: text or requests, or how attention goes over it (`attention.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import Cache

from recbole_exp3rt.llm.local.memory import give_back

ROOM = 128  # columns that the cache grows by, which copies it: most rationales are no longer
NARROW = 16  # so few columns at once meet the starts apart from what is a row's own
APART = {"cpu"}  # devices where many do so as well


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


@dataclass(frozen=True, slots=True)
class Seats:
    """The rows in the order of their segments, as many seats for each segment as the largest has.

    `row` [segments, seats]: who sits there, a spare seat repeats one; `back` [rows]: the seat of
    each row, counted over all; `bias` [segments, 1, 1, longest start]: what of a start there is.
    """

    row: torch.Tensor
    back: torch.Tensor
    bias: torch.Tensor


class SharedCache(Cache):
    """Keys and values of a batch. `own` [rows, columns] tells which columns are whose."""

    def __init__(self, segments: Sequence[Segment], own: torch.Tensor) -> None:
        self.layers: list[Any] = []  # the library looks at it
        self.segments = [Segment(segment.rows, segment.length) for segment in segments]
        self.own = own
        # Each [rows, heads, columns and room, width]; a value's columns lie side by side in memory
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        # The starts side by side, padded behind: each [segments, heads, longest, width]; of
        # several segments they are put together by `widened` and `take`
        self.start_keys = list(segments[0].keys)
        self.start_values = list(segments[0].values)
        # What is being read may look at, in its own columns; where they are met together with
        # the starts, all of it, for each segment
        self.masks: list[torch.Tensor] = []
        self.near = own
        self._seats: Seats | None = None
        self._into: tuple[SharedCache, slice] | None = None  # the rows of another that it writes

    @property
    def columns(self) -> int:
        return int(self.own.shape[1])

    @property
    def longest(self) -> int:
        """Tokens of the longest start."""
        return max(segment.length for segment in self.segments)

    @property
    def seats(self) -> Seats:
        if self._seats is None:
            self._seats = _seats(self.segments, self.own.device)
        return self._seats

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.columns + self.longest

    def begin(self, new: torch.Tensor) -> torch.Tensor:
        """Make room for columns `new` [rows, width] (True: a token). Returns positions."""
        self.own = torch.cat([self.own, new], dim=1)
        width = new.shape[1]
        starts = torch.cat(
            [torch.full((s.rows,), s.length, device=new.device) for s in self.segments]
        )
        positions = starts[:, None] + self.own.long().cumsum(dim=1) - 1
        together = width > NARROW and new.device.type not in APART
        self.masks = self._causal(width) if together else []
        # of a wide read the last column alone may be asked for as well
        self.near = as_bias(self._seen(self.own, 1 if together else width))[:, None]
        return positions.clamp(min=0)[:, -width:]

    @staticmethod
    def _seen(own: torch.Tensor, width: int) -> torch.Tensor:
        """What of its own each of the last columns may look at: [rows, width, columns].

        A column that is no token looks at itself, so that nothing becomes undefined.
        """
        columns = torch.arange(own.shape[1], device=own.device)
        query = columns[-width:, None]
        return (own[:, None, :] & (columns <= query)) | (columns == query)

    def _causal(self, width: int) -> list[torch.Tensor]:
        """The same with the starts: [rows, 1, width, start + columns] for each segment."""
        masks, first = [], 0
        for segment in self.segments:
            seen = self._seen(self.own[first : first + segment.rows], width)
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
            self.keys.append(self._begun("keys", key_states))
            self.values.append(self._begun("values", value_states))
        last, width = self.columns, key_states.shape[2]
        for kept, new in ((self.keys, key_states), (self.values, value_states)):
            if kept[layer_idx].shape[2] < last:
                grown = _columns(new, len(new), last + ROOM, lying=kept is self.values)
                grown[:, :, : last - width] = kept[layer_idx][:, :, : last - width]
                kept[layer_idx] = grown
                if last > width:  # the narrower one has gone
                    give_back()
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
                if name == "values":  # picked in the order they lie in
                    columns = columns.transpose(2, 3)[index].transpose(2, 3)
                else:
                    columns = columns[index]
                layers.append(columns)
            setattr(taken, name, layers)
            starts = getattr(self, f"start_{name}")
            if len(kept) < len(self.segments):
                starts = [layer[kept, :, : taken.longest] for layer in starts]
            setattr(taken, f"start_{name}", starts)
        return taken

    @staticmethod
    def widened(
        aboard: SharedCache | None,
        batches: Sequence[tuple[Segment, Sequence[int]]],
        device: torch.device,
    ) -> tuple[SharedCache, list[SharedCache]]:
        """One cache of the rows aboard and those of `batches`, aligned at their last columns, and
        for each batch a cache that reads into it.

        A batch is a segment and how many tokens each of its rows will read, once. The cache aboard
        is used up: each of its layers goes as soon as it is copied, or all would be held twice.
        """
        old = [] if aboard is None else [aboard]
        new_segments: list[Segment] = []
        for segment, _ in batches:  # neighbours with one start are one segment
            if segment.length and new_segments and new_segments[-1].keys is segment.keys:
                segment = segment.of(new_segments.pop().rows + segment.rows)
            new_segments.append(segment)
        segments = [segment for cache in old for segment in cache.segments] + new_segments
        columns = max([cache.columns for cache in old] + [max(n) for _, n in batches])
        lengths = torch.tensor([n for _, each in batches for n in each], device=device)
        new = torch.arange(columns, device=device) >= columns - lengths[:, None]
        own = [pad(cache.own, (columns - cache.columns, 0)) for cache in old]
        whole = SharedCache(segments, torch.cat([*own, new]))
        parts, first = [], sum(len(cache.own) for cache in old)
        for segment, _ in batches:
            part = SharedCache([segment], new[: segment.rows, :0])
            part._into = (whole, slice(first, first + segment.rows))
            parts.append(part)
            first += segment.rows
        for name in ("keys", "values"):
            starts = [(len(cache.segments), getattr(cache, f"start_{name}")) for cache in old]
            starts += [(1, getattr(segment, name)) for segment in new_segments]
            beside = _side_by_side(starts, whole.longest)
            setattr(whole, f"start_{name}", beside)
            for depth, like in enumerate(beside):  # now, before what layers make lies between
                whole._place(name, depth, slice(0), like[:, :, :0])
            for cache in old:
                layers = getattr(cache, name)
                for depth, layer in enumerate(layers):
                    used = layer[:, :, : cache.columns]
                    place = whole._place(name, depth, slice(len(used)), used)
                    place[:, :, : cache.columns] = used
                    layers[depth] = layer = used = place[:0]  # nobody holds it any more
                    give_back()
        return whole, parts

    def _begun(self, name: str, new: torch.Tensor) -> torch.Tensor:
        """What a layer is kept in, before `new` [rows, heads, columns, width] is the first."""
        if self._into is None:
            return new[:, :, :0]
        whole, rows = self._into
        return whole._place(name, len(getattr(self, name)), rows, new)

    def _place(self, name: str, depth: int, rows: slice, new: torch.Tensor) -> torch.Tensor:
        """The last columns of `rows` in a layer, as many as `new` has, and the room behind."""
        layers: list[torch.Tensor] = getattr(self, name)
        if depth == len(layers):
            wide = self.columns + ROOM
            layers.append(_columns(new, len(self.own), wide, lying=name == "values"))
        before = self.columns - new.shape[2]
        layers[depth][rows, :, :before] = 0  # masked, and so never to be anything but a number
        return layers[depth][rows, :, before:]


def _side_by_side(
    starts: Sequence[tuple[int, Sequence[torch.Tensor]]], longest: int
) -> list[torch.Tensor]:
    """Starts in one tensor a layer, padded to `longest`; of segments without any, zeros.

    Each: of how many segments, and [segments, heads, length, width] for each layer.
    """
    made = []
    for depth, like in enumerate(next((layers for _, layers in starts if layers), ())):
        parts = []
        for number, layers in starts:
            if layers:
                parts.append(pad(layers[depth], (0, 0, 0, longest - layers[depth].shape[2])))
            else:
                parts.append(like.new_zeros(number, like.shape[1], longest, like.shape[3]))
        made.append(torch.cat(parts))
    return made


def as_bias(seen: torch.Tensor) -> torch.Tensor:
    """0 where seen, else so low that nothing is left; finite, as a row may have nothing to see."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, -1e30)


def _seats(segments: Sequence[Segment], device: torch.device) -> Seats:
    most = max(segment.rows for segment in segments)
    row, back, first = [], [], 0
    for number, segment in enumerate(segments):
        row.append([first + min(seat, segment.rows - 1) for seat in range(most)])
        back += [number * most + seat for seat in range(segment.rows)]
        first += segment.rows
    lengths = torch.tensor([segment.length for segment in segments], device=device)
    there = torch.arange(max(segment.length for segment in segments), device=device)
    bias = as_bias(there < lengths[:, None])[:, None, None]
    return Seats(torch.tensor(row, device=device), torch.tensor(back, device=device), bias)


def _columns(like: torch.Tensor, rows: int, columns: int, *, lying: bool) -> torch.Tensor:
    """Room for [rows, heads, columns, width]; `lying`: a token's numbers stand far apart.

    The product of few weights with lying values takes half the time on a CPU (measured).
    """
    _, heads, _, width = like.shape
    if lying:
        return like.new_empty(rows, heads, width, columns).transpose(2, 3)
    return like.new_empty(rows, heads, columns, width)
