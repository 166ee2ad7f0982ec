"""RecBole's LightGCN, with a faster construction of its graph that works with every scipy."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from recbole.model.general_recommender.lightgcn import LightGCN as RecBoleLightGCN


class LightGCN(RecBoleLightGCN):  # type: ignore[misc]
    """LightGCN (He et al. 2020). The scores are those of RecBole's LightGCN."""

    def get_norm_adj_mat(self) -> torch.Tensor:
        """D^-1/2 A D^-1/2 of the user-item graph: sparse [n_users + n_items, n_users + n_items].

        A repeated interaction is one edge.
        """
        return normalised_graph(self.interaction_matrix)


def normalised_graph(interactions: sp.coo_matrix) -> torch.Tensor:
    """D^-1/2 A D^-1/2 for A = [[0, R], [R^T, 0]]; R: [n_users, n_items], 1 where they interact.

    The edges are written in the order of a coalesced tensor, so nothing is sorted: scipy counts
    the edges of each row. Time and memory are linear in the interactions. The values are RecBole's
    up to the rounding of float32.
    """
    n_users, n_items = interactions.shape
    seen = np.ones(interactions.nnz, dtype=bool)  # True + True is True: a repetition is one edge
    by_user = sp.coo_matrix((seen, (interactions.row, interactions.col)), (n_users, n_items))
    halves = [by_user.tocsr(), by_user.T.tocsr()]  # rows of users, then rows of items
    degrees = [np.diff(half.indptr) for half in halves]
    # The small number is RecBole's, for nodes without an edge.
    scale = (np.concatenate(degrees) + 1e-7) ** -0.5
    n_edges, size = halves[0].nnz, n_users + n_items
    ends = torch.empty((2, 2 * n_edges), dtype=torch.int64)
    values = torch.empty(2 * n_edges, dtype=torch.float32)
    firsts = [(0, n_users), (n_users, 0)]  # the first node of the rows, and of the columns
    for k, (half, degree, (row, column)) in enumerate(zip(halves, degrees, firsts, strict=True)):
        part = slice(k * n_edges, (k + 1) * n_edges)
        one, other = ends.numpy()[:, part]
        one[:] = np.repeat(np.arange(row, row + len(degree)), degree)
        np.add(half.indices, column, out=other)
        values.numpy()[part] = scale[one] * scale[other]
    return torch.sparse_coo_tensor(
        ends, values, (size, size), is_coalesced=True, check_invariants=False
    )
