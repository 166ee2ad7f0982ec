"""The layers of RGCL, without RecBole: messages along rated and reviewed edges, and the decoder.

Plain torch: a message is gathered with index_select and summed up with index_add. Edges are taken
in parts of `EDGES`. Where there are more, the inside of a part is computed again in the backward
pass, so that the memory beside parameters and inputs is that of one part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

EDGES = 32_768  # edges of one part


def spans(n: int) -> Iterator[slice]:
    """Parts of n rows, in order, of at most EDGES rows."""
    return (slice(start, min(start + EDGES, n)) for start in range(0, n, EDGES))


def frugal(compute: Callable[..., torch.Tensor], n: int, *given: torch.Tensor) -> torch.Tensor:
    """`compute(*given)`; where all parts together have over EDGES rows, its inside is not kept."""
    if n <= EDGES or not torch.is_grad_enabled():
        return compute(*given)
    made: torch.Tensor = checkpoint(compute, *given, use_reentrant=False, preserve_rng_state=False)
    return made


def xavier(*shape: int, fan: int | None = None) -> nn.Parameter:
    """A parameter from Glorot's uniform distribution; `fan`: the sum of both sides, if another."""
    bound = math.sqrt(6 / (fan or sum(shape)))
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))


class ReviewConvolution(nn.Module):
    """The edges of one rating level in one direction (Shuai et al. 2022, section 4.1).

    The message of an edge from j with review vector e:
    (h_j * sigmoid(a · e) + sigmoid(b · e) * W e) * dropout(c_j).
    h is a table of this level and direction alone. It has a row for each source that has such an
    edge; other rows of a full table would never be read.
    """

    source: torch.Tensor
    target: torch.Tensor
    c: torch.Tensor

    def __init__(
        self,
        source: torch.Tensor,
        target: torch.Tensor,
        c: torch.Tensor,
        review_size: int,
        size: int,
    ) -> None:
        """`source`, `target`: the ends of each edge [n_edges]; `c`: of every source [n_sources]."""
        super().__init__()
        rows, row = torch.unique(source, return_inverse=True)
        self.register_buffer("source", row, persistent=False)
        self.register_buffer("target", target, persistent=False)
        self.register_buffer("c", c[source], persistent=False)  # [n_edges]
        self.table = xavier(len(rows), size, fan=len(c) + size)  # as of a full table
        self.node_gate = xavier(review_size, 1)
        self.review_gate = xavier(review_size, 1)
        self.review = xavier(review_size, size)

    def messages(self, source: torch.Tensor, reviews: torch.Tensor) -> torch.Tensor:
        """Messages before the factor c: rows of the table [n], vectors [n, k] -> [n, size]."""
        nodes = self.table.index_select(0, source) * torch.sigmoid(reviews @ self.node_gate)
        made: torch.Tensor = nodes + torch.sigmoid(reviews @ self.review_gate) * (
            reviews @ self.review
        )
        return made

    def add_to(self, sums: list[torch.Tensor], reviews: torch.Tensor, dropout: float) -> None:
        """Add the messages to `sums`, one [n_targets, size] a pass, each with its own dropout.

        `reviews`: [n_edges, k]. Dropout is drawn for each edge, so it drops whole messages.
        """
        n = len(self.source)
        factors = [functional.dropout(self.c, dropout, self.training) for _ in sums]
        for part in spans(n):
            messages = frugal(self.messages, n, self.source[part], reviews[part])
            for total, factor in zip(sums, factors, strict=True):
                kept = factor[part].nonzero().squeeze(1)
                weighted = messages.index_select(0, kept) * factor[part][kept].unsqueeze(1)
                total.index_add_(0, self.target[part][kept], weighted)


class ReviewGraph(nn.Module):
    """Vectors of users and items from all edges: sum of the levels, GELU, dropout, linear layer.

    It is the graph encoder of GC-MC (van den Berg et al. 2017) with review vectors on its edges.
    """

    user_c: torch.Tensor
    item_c: torch.Tensor

    def __init__(
        self,
        users: torch.Tensor,
        items: torch.Tensor,
        bounds: list[int],
        n_nodes: tuple[int, int],
        review_size: int,
        size: int,
        dropout: float,
    ) -> None:
        """Edges are sorted by level: those of level k are from `bounds[k]` to `bounds[k + 1]`."""
        super().__init__()
        self.size, self.dropout = size, dropout
        self.register_buffer("user_c", _c(users, n_nodes[0]), persistent=False)
        self.register_buffer("item_c", _c(items, n_nodes[1]), persistent=False)
        self.parts = [slice(*ends) for ends in pairwise(bounds)]
        self.parts = [part for part in self.parts if part.start < part.stop]
        self.to_items = nn.ModuleList(
            ReviewConvolution(users[part], items[part], self.user_c, review_size, size)
            for part in self.parts
        )
        self.to_users = nn.ModuleList(
            ReviewConvolution(items[part], users[part], self.item_c, review_size, size)
            for part in self.parts
        )
        self.user_layer, self.item_layer = nn.Linear(size, size), nn.Linear(size, size)
        for layer in (self.user_layer, self.item_layer):
            nn.init.xavier_uniform_(layer.weight)

    def sums(self, reviews: torch.Tensor, passes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Summed messages times c of the target, of users and items, for each pass."""
        sides = []
        for layers, c in ((self.to_users, self.user_c), (self.to_items, self.item_c)):
            totals = [reviews.new_zeros(len(c), self.size) for _ in range(passes)]
            for layer, part in zip(layers, self.parts, strict=True):
                layer.add_to(totals, reviews[part], self.dropout)  # type: ignore[operator]
            sides.append([total * c.unsqueeze(1) for total in totals])
        return list(zip(*sides, strict=True))

    def forward(
        self, reviews: torch.Tensor, passes: int = 1
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """[n_edges, k] -> for each pass, users [n_users, size] and items [n_items, size]."""
        return [
            (self._out(users, self.user_layer), self._out(items, self.item_layer))
            for users, items in self.sums(reviews, passes)
        ]

    def _out(self, sums: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        made: torch.Tensor = layer(
            functional.dropout(functional.gelu(sums), self.dropout, self.training)
        )
        return made


class Decoder(nn.Module):
    """Features of a pair, and from them a logit for each rating level."""

    def __init__(self, size: int, n_levels: int) -> None:
        super().__init__()
        self.user = xavier(size, size, fan=3 * size)  # halves of one layer from 2 * size to size
        self.item = xavier(size, size, fan=3 * size)
        self.hidden = xavier(size, size)
        self.levels = xavier(size, n_levels)

    def features(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """[n, size], [n, size] -> [n, size]."""
        made: torch.Tensor = torch.relu(users @ self.user + items @ self.item) @ self.hidden
        return made

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """[n, size], [n, size] -> logits [n, n_levels]."""
        logits: torch.Tensor = self.features(users, items) @ self.levels
        return logits


def contrast(
    x: torch.Tensor, matrix: torch.Tensor, own: torch.Tensor, other: torch.Tensor
) -> torch.Tensor:
    """-log sigmoid(x M own) - log sigmoid(-x M other) of each row: [n].

    Binary cross entropy: `own` [n, k] belongs to `x` [n, size], `other` does not.
    """
    seen = x @ matrix
    losses: torch.Tensor = functional.softplus(-(seen * own).sum(dim=1)) + functional.softplus(
        (seen * other).sum(dim=1)
    )
    return losses


def _c(ends: torch.Tensor, n: int) -> torch.Tensor:
    """1 / sqrt(number of edges of each node), 0 without an edge: [n]."""
    degrees = torch.bincount(ends, minlength=n)
    return torch.where(degrees > 0, degrees.clamp(min=1).rsqrt(), 0.0)
