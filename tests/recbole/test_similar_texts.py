"""The parts of TextKNN, against numbers by hand and another library."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from recbole_exp3rt.model import textknn
from recbole_exp3rt.model.text_vectors import TextVectors
from recbole_exp3rt.model.textknn import SimilarTexts, features, own_pull, ridge


def float32(rows):
    return np.array(rows, dtype=np.float32)


ITEMS = float32([[0, 0], [2, 0], [5, 0], [0, 3], [0.6, 0.8], [-1, 0]])  # lengths do not matter
NOBODY = np.zeros((2, 2), dtype=np.float32)  # users without a text


@pytest.mark.parametrize(
    ("item", "power", "added"),
    [
        (2, 1, 1.0 / (1 + 1)),  # like item 1 (residual 1), not like item 3
        (4, 1, (0.6 * 1 + 0.8 * -2) / (1 + 1.4)),
        (4, 2, (0.36 * 1 + 0.64 * -2) / (1 + 1)),
        (5, 1, 0),  # the opposite of item 1: no neighbour, and no division by zero
        (1, 1, 0),  # a train pair: its own residual is left out
        (0, 1, 0),  # an item without a text
    ],
)
def test_a_users_residuals_weighted_by_the_likeness_of_items(item, power, added):
    left = np.array([1.0, -2.0])
    knn = SimilarTexts(
        NOBODY, ITEMS, np.array([1, 1]), np.array([1, 3]), left, power=power, shrinkage=1.0
    )
    assert knn(torch.tensor([1]), torch.tensor([item])).tolist() == pytest.approx([added])


def test_both_sides_are_added_and_large_batches_go_in_pieces(monkeypatch):
    random = np.random.default_rng(0)
    users, items = random.integers(1, 9, 60), random.integers(1, 7, 60)
    left = random.normal(size=60)
    of_users, of_items = random.normal(size=(9, 4)), random.normal(size=(7, 4))
    pairs = [(u, i) for u in range(9) for i in range(7)]
    form = {"power": 1.5, "shrinkage": 0.7}
    knn = SimilarTexts(float32(of_users), float32(of_items), users, items, left, **form)

    def cosine(a, b):
        return max(0.0, a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    def mean(weighted):
        return sum(w * e for w, e in weighted) / (0.7 + sum(w for w, _ in weighted))

    rows = list(zip(users, items, left, strict=True))

    def of_user(u, i):
        like = [(cosine(of_items[i], of_items[j]), e) for v, j, e in rows if v == u and j != i]
        return mean([(w**1.5, e) for w, e in like])

    def of_item(u, i):
        like = [(cosine(of_users[u], of_users[v]), e) for v, j, e in rows if j == i and v != u]
        return mean([(w**1.5, e) for w, e in like])

    expected = [of_user(u, i) + of_item(u, i) for u, i in pairs]
    user, item = torch.tensor(pairs).T
    assert knn(user, item).tolist() == pytest.approx(expected, abs=1e-5)
    monkeypatch.setattr(textknn, "NEIGHBOURS_AT_ONCE", 5)
    assert knn(user, item).tolist() == pytest.approx(expected, abs=1e-5)
    order = torch.randperm(len(pairs))
    assert knn(user[order], item[order]).tolist() == pytest.approx(
        np.array(expected)[order.numpy()].tolist(), abs=1e-5
    )


def some_texts(n=50, seed=1):
    random = np.random.default_rng(seed)
    pairs = random.permutation([(u, i) for u in range(1, 12) for i in range(1, 9)])[:n]
    written = (random.random(n) > 0.2).astype(np.float32)
    described = (random.random(9) > 0.5).astype(np.float32)
    reviews = float32(random.normal(size=(n, 3))) * written[:, None]
    descriptions = float32(random.normal(size=(9, 3))) * described[:, None]
    return TextVectors(12, pairs[:, 0], pairs[:, 1], reviews, written, descriptions, described)


def brute(texts, user, item, shrinkage, without=None):
    """The vectors of a user and an item by a loop over all texts; without that of one row."""
    of_user, of_item = [], []
    for row, (u, i) in enumerate(zip(texts.users, texts.items, strict=True)):
        if row != without and texts.written[row]:
            of_user += [texts.reviews[row]] * (u == user)
            of_item += [texts.reviews[row]] * (i == item)
    of_item += [texts.descriptions[item]] * bool(texts.described[item])
    zero = np.zeros(3)
    return tuple(sum(v, zero) / (len(v) + shrinkage) if v else zero for v in (of_user, of_item))


def test_vectors_are_pooled_and_a_train_pair_goes_without_its_own_review():
    texts = some_texts()
    users, items = texts.pooled(2.0)
    own_users, own_items = texts.without_own(slice(10, 20), 2.0)
    for row in range(10, 20):
        user, item = texts.users[row], texts.items[row]
        whole, own = brute(texts, user, item, 2.0), brute(texts, user, item, 2.0, without=row)
        assert users[user] == pytest.approx(whole[0], abs=1e-5)
        assert items[item] == pytest.approx(whole[1], abs=1e-5)
        assert own_users[row - 10] == pytest.approx(own[0], abs=1e-5)
        assert own_items[row - 10] == pytest.approx(own[1], abs=1e-5)


def test_the_regression_is_the_ridge_of_scikit_learn_on_vectors_without_the_own_review(monkeypatch):
    texts = some_texts()
    wanted = np.random.default_rng(2).normal(size=50)
    vectors = [
        brute(texts, u, i, 1.5, without=row)
        for row, (u, i) in enumerate(zip(texts.users, texts.items, strict=True))
    ]
    table = np.array([[*u, *i, *(3**0.5 * u * i)] for u, i in vectors])
    expected = Ridge(alpha=4.0).fit(table, wanted)
    for at_once in (4096, 7):
        monkeypatch.setattr(textknn, "AT_ONCE", at_once)
        texts.moments.clear()
        weights, intercept = ridge(texts, wanted, 1.5, 4.0)
        assert weights == pytest.approx(expected.coef_, abs=1e-4)
        assert intercept == pytest.approx(expected.intercept_, abs=1e-4)
    assert features(float32([[1, 2]]), float32([[3, 4]]))[0] == pytest.approx(
        [1, 2, 3, 4, 3 * 2**0.5, 8 * 2**0.5]
    )


def test_the_pull_of_a_rating_on_its_own_prediction():
    users, items = np.array([1, 1, 2]), np.array([1, 2, 2])
    design = np.array([[1, 1], [1, 1]])  # a row moves the bias of its user and of its item
    for row, (n_user, n_item) in enumerate([(2, 1), (2, 2), (1, 2)]):
        normal = np.array([[n_user + 0.5, 1], [1, n_item + 0.5]])
        hat = design[0] @ np.linalg.solve(normal, design[0])
        assert own_pull(users, items, 0.5)[row] == pytest.approx(hat)
    # The only rating: exactly what ridge regression leaves of it when it has not seen it.
    assert own_pull(np.array([1]), np.array([1]), 3.0) == pytest.approx([2 / (3 + 2)])
