"""RGCL: ratings from the graph of reviews (Shuai et al., SIGIR 2022, arXiv 2204.12063).

Users and items are the nodes of a graph, every train review is an edge with its rating level and
the vector of its text. Two contrastive losses help: features of a pair should know the review of
the pair (ED), and a node should look the same under two draws of dropout (ND).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import nn
from torch.nn import functional

from recbole_exp3rt.config.reader import Reader, read_scale
from recbole_exp3rt.config.systems import RGCLSettings
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.encode.texts import review_text
from recbole_exp3rt.encode.whitening import Matrix, Whitening
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.model.review_graph import Decoder, ReviewGraph, contrast, frugal, spans, xavier
from recbole_exp3rt.model.text_vectors import encoder_of
from recbole_exp3rt.records import Review

PASSES = 2  # through the graph in a training step, each with its own dropout
Nodes = tuple[torch.Tensor, torch.Tensor]  # vectors of users and items


class RGCL(GeneralRecommender):  # type: ignore[misc]
    """The expected rating under a softmax over the levels of the scale.

    Only train rows are edges, one for each pair: the latest. Their texts alone are encoded. A user
    or item without an edge has no rating: NaN.
    """

    input_type = InputType.POINTWISE
    levels: torch.Tensor
    reviews: torch.Tensor
    written: torch.Tensor
    pairs: torch.Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        """Read and encode the reviews of the train part `dataset`, and make the parameters.

        Raises: UsageError for settings that do not fit, or if there are no reviews or no encoder.
        """
        super().__init__(config, dataset)
        read = Reader(config)
        self.LABEL = config["LABEL_FIELD"]
        self.scale = read_scale(config)
        settings = RGCLSettings.from_config(config)
        self.ed_weight, self.nd_weight = settings.ed_weight, settings.nd_weight
        size = settings.embedding_size
        corpus = corpus_of(dataset, {}, read.text_or_none("review_file"))
        edges = [review for rows in corpus.by_user.values() for review in rows]
        levels = self._levels(torch.tensor([float(review.rating) for review in edges]))
        users = _ids(dataset, self.USER_ID, [review.user for review in edges])
        items = _ids(dataset, self.ITEM_ID, [review.item for review in edges])
        keys = (levels * self.n_users + users) * self.n_items + items
        order = torch.argsort(keys)  # by level; the order of the files changes nothing
        users, items, levels = users[order], items[order], levels[order]
        edges = [edges[k] for k in order.tolist()]
        vectors = _vectors(edges, config, settings.review_size)  # [n_edges, k]
        bounds = torch.searchsorted(levels, torch.arange(len(self.scale.levels) + 1)).tolist()
        n_nodes = (self.n_users, self.n_items)
        review_size = vectors.shape[1]
        self.graph = ReviewGraph(users, items, bounds, n_nodes, review_size, size, settings.dropout)
        self.decoder = Decoder(size, len(self.scale.levels))
        self.pair_matrix = xavier(size, review_size)  # of ED
        self.node_matrix = xavier(size, size)  # of ND
        reviews = torch.from_numpy(vectors)
        pairs, places = torch.sort(users * self.n_items + items)
        for name, values in {
            "levels": torch.tensor([float(level) for level in self.scale.levels]),
            "reviews": reviews,
            "written": reviews.any(dim=1),  # [n_edges]
            "pairs": pairs,  # sorted; edge `places[k]` is of pair `pairs[k]`
            "places": places,
        }.items():
            self.register_buffer(name, values, persistent=False)
        self._nodes: Nodes | None = None
        self.register_load_state_dict_post_hook(_forget)

    # --- training

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Cross entropy + ed_weight * ED + nd_weight * ND, each the mean of two passes: [].

        Messages come from all edges; the rows of `interaction` are those that are predicted.
        """
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        levels = self._levels(interaction[self.LABEL])
        edges = self.places[torch.searchsorted(self.pairs, users * self.n_items + items)]
        both = self.graph(self.reviews, PASSES)
        losses = [self._rows_loss(nodes, users, items, levels, edges) for nodes in both]
        loss: torch.Tensor = sum(losses, start=self.reviews.new_zeros(())) / PASSES
        if self.nd_weight:
            one, two = both
            loss = loss + self.nd_weight * self._node_loss(one, two)
        return loss

    def _rows_loss(
        self,
        nodes: Nodes,
        users: torch.Tensor,
        items: torch.Tensor,
        levels: torch.Tensor,
        edges: torch.Tensor,
    ) -> torch.Tensor:
        """Mean cross entropy of rows [n], and the mean ED of those with a text: []."""
        written = self.written[edges].nonzero().squeeze(1)
        other = torch.empty_like(edges)
        shuffled = written[torch.randperm(len(written), device=written.device)]
        other[written] = edges[shuffled]
        total, n = self.reviews.new_zeros(()), len(edges)
        ed_share = self.ed_weight / max(len(written), 1)
        for part in spans(n):
            inside = written[(written >= part.start) & (written < part.stop)]
            compute = partial(
                self._part_loss,
                users=users[part],
                items=items[part],
                levels=levels[part],
                inside=inside - part.start,
                own=edges[inside],
                other=other[inside],
                shares=(1 / n, ed_share),
            )
            total = total + frugal(compute, n, *nodes)
        return total

    def _part_loss(
        self,
        user_nodes: torch.Tensor,
        item_nodes: torch.Tensor,
        *,
        users: torch.Tensor,
        items: torch.Tensor,
        levels: torch.Tensor,
        inside: torch.Tensor,
        own: torch.Tensor,
        other: torch.Tensor,
        shares: tuple[float, float],
    ) -> torch.Tensor:
        """Weighted sums of both losses over some rows; `inside`: those with a text."""
        features = self.decoder.features(
            user_nodes.index_select(0, users), item_nodes.index_select(0, items)
        )
        logits = features @ self.decoder.levels
        loss = shares[0] * functional.cross_entropy(logits, levels, reduction="sum")
        if shares[1]:
            of_review = features.index_select(0, inside), self.pair_matrix
            ed = contrast(*of_review, self.reviews[own], self.reviews[other])
            loss = loss + shares[1] * ed.sum()
        return loss

    def _node_loss(self, one: Nodes, two: Nodes) -> torch.Tensor:
        """ND: mean over users plus mean over items that have an edge, halved: []."""
        losses = []
        for first, second, c in zip(one, two, (self.graph.user_c, self.graph.item_c), strict=True):
            known = c.nonzero().squeeze(1)
            first, second = first.index_select(0, known), second.index_select(0, known)
            other = second[torch.randperm(len(known), device=known.device)]
            losses.append(contrast(first, self.node_matrix, second, other).mean())
        loss: torch.Tensor = (losses[0] + losses[1]) / 2
        return loss

    # --- prediction

    def predict(self, interaction: Any) -> torch.Tensor:
        """Ratings in rating units, NaN for an unknown user or item: [batch]."""
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        user_nodes, item_nodes = self.nodes()
        chances = torch.softmax(self.decoder(user_nodes[users], item_nodes[items]), dim=1)
        ratings = chances @ self.levels
        known = (self.graph.user_c[users] > 0) & (self.graph.item_c[items] > 0)
        return torch.where(known, ratings, torch.nan)

    def nodes(self) -> Nodes:
        """Vectors of users and items without dropout, kept until the parameters change."""
        if self.training:
            raise RuntimeError("ratings are predicted without dropout; call eval() before")
        if self._nodes is None:
            with torch.no_grad():
                self._nodes = self.graph(self.reviews)[0]
        return self._nodes

    def train(self, mode: bool = True) -> RGCL:
        """As torch's; training changes the vectors of users and items."""
        if mode:
            self._nodes = None
        super().train(mode)
        return self

    def _levels(self, ratings: torch.Tensor) -> torch.Tensor:
        """The place of the nearest level in the scale: [n]."""
        values, place = torch.unique(ratings, return_inverse=True)
        labels = self.scale.labels
        nearest = [labels.index(self.scale.label_of(rating)) for rating in values.tolist()]
        return torch.tensor(nearest, dtype=torch.long, device=ratings.device)[place]


def _forget(model: nn.Module, _: object) -> None:
    """Called by torch after other parameters are loaded."""
    assert isinstance(model, RGCL)
    model._nodes = None


def _ids(dataset: Any, field: str, tokens: list[str]) -> torch.Tensor:
    return torch.from_numpy(np.asarray(dataset.token2id(field, tokens), dtype=np.int64))


def _vectors(reviews: list[Review], config: Any, size: int) -> Matrix:
    """Whitened vectors of length 1, 0 for a review without a text: [n_reviews, size]."""
    texts = [review_text(review) for review in reviews]
    written = np.array([bool(text) for text in texts])
    if not written.any():
        return np.zeros((len(reviews), size), dtype=np.float32)
    try:
        found = encoder_of(config).encode([text for text in texts if text])
    except LLMError as error:
        raise UsageError(str(error)) from error
    whitening = Whitening.fitted(found, size)
    vectors = np.zeros((len(reviews), whitening.directions.shape[1]), dtype=np.float32)
    vectors[written] = whitening.units(found)
    return vectors
