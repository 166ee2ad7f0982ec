"""The graph of reviews of RGCL, against numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, gelu

from recbole_exp3rt.model.review_graph import Decoder, ReviewConvolution, ReviewGraph, contrast


def test_vectors_of_a_graph_of_two_users_and_two_items_by_hand():
    """User 0 gave item 0 level 0 and item 1 level 1; user 1 gave item 1 level 1."""
    torch.manual_seed(0)
    users, items = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    reviews = torch.randn(3, 2)
    graph = ReviewGraph(users, items, [0, 1, 3], (2, 2), 2, 3, dropout=0.7).eval()
    (user_nodes, item_nodes) = graph(reviews)[0]

    def message(layer, row, edge):  # before the factors c
        e = reviews[edge]
        gate = 1 / (1 + math.exp(-(e @ layer.node_gate).item()))
        of_review = 1 / (1 + math.exp(-(e @ layer.review_gate).item()))
        return gate * layer.table[row] + of_review * (e @ layer.review)

    c_user, c_item = (2**-0.5, 1.0), (1.0, 2**-0.5)
    low, high = graph.to_users  # tables: low has item 0, high has item 1
    of_user_0 = c_user[0] * (c_item[0] * message(low, 0, 0) + c_item[1] * message(high, 0, 1))
    of_user_1 = c_user[1] * c_item[1] * message(high, 0, 2)
    low, high = graph.to_items  # tables: low has user 0, high has users 0 and 1
    of_item_0 = c_item[0] * c_user[0] * message(low, 0, 0)
    of_item_1 = c_item[1] * (c_user[0] * message(high, 0, 1) + c_user[1] * message(high, 1, 2))
    wanted = graph.user_layer(gelu(torch.stack([of_user_0, of_user_1])))
    torch.testing.assert_close(user_nodes, wanted)
    wanted = graph.item_layer(gelu(torch.stack([of_item_0, of_item_1])))
    torch.testing.assert_close(item_nodes, wanted)


def random_graph(n=200, seed=1, order=None):
    """A graph of 20 users and 15 items on three levels; `order` permutes edges inside a level."""
    torch.manual_seed(seed)
    users, items, reviews = (
        torch.randint(1, 20, (n,)), torch.randint(1, 15, (n,)), torch.randn(n, 4)
    )  # fmt: skip
    bounds = [0, n // 4, n // 4, n]  # nobody gave the middle level
    if order is not None:
        users, items, reviews = users[order], items[order], reviews[order]
    torch.manual_seed(seed)
    return ReviewGraph(users, items, bounds, (20, 15), 4, 8, dropout=0.5), reviews


def test_the_order_of_the_edges_changes_nothing():
    order = torch.cat([torch.randperm(50), 50 + torch.randperm(150)])
    assert (order != torch.arange(200)).any()
    one, other = random_graph(), random_graph(order=order)
    for first, second in zip(*(g.eval()(reviews)[0] for g, reviews in (one, other)), strict=True):
        torch.testing.assert_close(first, second)


def test_without_reviews_it_is_half_the_sum_of_gcmc():
    graph, reviews = random_graph()
    users, _ = graph.eval().sums(torch.zeros_like(reviews), passes=1)[0]
    wanted = torch.zeros(20, 8)
    for layer in graph.to_users:
        for edge, (row, user) in enumerate(zip(layer.source, layer.target, strict=True)):
            wanted[user] += 0.5 * layer.table[row] * layer.c[edge] * graph.user_c[user]
    torch.testing.assert_close(users, wanted)
    assert not users[0].any(), "the padding has no edge"


def test_dropout_takes_whole_messages_and_keeps_their_mean():
    torch.manual_seed(0)
    n = 4000
    each = torch.arange(n)
    layer = ReviewConvolution(each, each, torch.ones(n), 4, 8).train()
    sums = [torch.zeros(n, 8), torch.zeros(n, 8)]
    reviews = torch.randn(n, 4)
    layer.add_to(sums, reviews, dropout=0.7)
    whole = layer.messages(each, reviews)
    for total in sums:
        kept = total.any(dim=1)
        assert kept.float().mean() == pytest.approx(0.3, abs=0.03)
        torch.testing.assert_close(total[kept], whole[kept] / 0.3)
    assert (sums[0].any(dim=1) != sums[1].any(dim=1)).any(), "each pass draws anew"


def test_the_decoder_is_one_layer_on_both_vectors_then_two_more():
    torch.manual_seed(0)
    decoder, users, items = Decoder(8, 5), torch.randn(6, 8), torch.randn(6, 8)
    joint = torch.cat([users, items], dim=1) @ torch.cat([decoder.user, decoder.item])
    wanted = joint.relu() @ decoder.hidden @ decoder.levels
    torch.testing.assert_close(decoder(users, items), wanted)
    assert wanted.shape == (6, 5)


def test_contrast_is_binary_cross_entropy_of_a_bilinear_form():
    torch.manual_seed(0)
    x, matrix, own, other = (torch.randn(*shape) for shape in ((5, 8), (8, 4), (5, 4), (5, 4)))
    wanted = [
        binary_cross_entropy_with_logits(x[k] @ matrix @ own[k], torch.tensor(1.0))
        + binary_cross_entropy_with_logits(x[k] @ matrix @ other[k], torch.tensor(0.0))
        for k in range(5)
    ]
    torch.testing.assert_close(contrast(x, matrix, own, other), torch.stack(wanted))
