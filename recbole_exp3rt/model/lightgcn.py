"""RecBole's LightGCN, with a faster construction of its graph that works with every scipy."""

from __future__ import annotations

import numpy as np
import torch
from recbole.model.general_recommender.lightgcn import LightGCN as RecBoleLightGCN


class LightGCN(RecBoleLightGCN):  # type: ignore[misc]
    """LightGCN (He et al. 2020). The scores are those of RecBole's LightGCN."""

    def get_norm_adj_mat(self) -> torch.Tensor:
        """D^-1/2 A D^-1/2 of the user-item graph: sparse [n_users + n_items, n_users + n_items].

        A repeated interaction is one edge.
        """
        matrix = self.interaction_matrix
        pairs = np.unique(np.stack([matrix.row, matrix.col + self.n_users]), axis=1)
        edges = np.concatenate([pairs, pairs[::-1]], axis=1)  # both directions: [2, n_edges]
        size = self.n_users + self.n_items
        degree = np.bincount(edges[0], minlength=size)
        scale = (degree + 1e-7) ** -0.5  # as RecBole does, for nodes without an edge
        values = scale[edges[0]] * scale[edges[1]]
        return torch.sparse_coo_tensor(
            torch.from_numpy(edges.astype(np.int64)),
            torch.from_numpy(values.astype(np.float32)),
            (size, size),
            check_invariants=False,  # true by construction
        ).coalesce()
