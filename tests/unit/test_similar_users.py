"""Neighbors in arrays: the same as user by user, with ties, and in one piece or many."""

import math

import numpy as np
import pytest

from recbole_exp3rt.records import Review
from recbole_exp3rt.stages import similar_users
from recbole_exp3rt.stages.similar_users import RatingTable
from recbole_exp3rt.stages.similarity import centred, similarity


def some_rows(levels, seed, n_users=60, n_items=14, n=420):
    """Users, items and ratings of different pairs in random order; few levels make many ties."""
    random = np.random.default_rng(seed)
    keys = random.choice(n_users * n_items, n, replace=False)
    return keys // n_items, keys % n_items, random.choice(levels, n)


def one_by_one(rows, user, item, raters, n):
    """The definition: each rater compared with the user, then sorted."""
    reviews = {}
    for u, i, rating in zip(*rows, strict=True):
        reviews.setdefault(int(u), []).append(Review(str(u), str(i), float(rating), "text"))
    own = centred([r for r in reviews[user] if r.item != str(item)])

    def rank(rater):
        alike, common = similarity(own, centred(reviews[rater]))
        return (-alike, -common, rater)

    return sorted((int(r) for r in raters if r != user), key=rank)[:n]


@pytest.mark.parametrize("levels", [[1, 2], [1, 2, 3, 4, 5], [0.1, 0.7, 3.3, 4.9]])
@pytest.mark.parametrize("at_once", [1, 4_000_000])
def test_many_pairs_of_an_item_have_the_neighbors_of_each_alone(levels, at_once, monkeypatch):
    monkeypatch.setattr(similar_users, "AT_ONCE", at_once)
    users, items, _ = rows = some_rows(levels, seed=len(levels))
    table = RatingTable(*rows)
    for item in range(4):
        raters = np.unique(users[items == item])
        asked = [table.rater(user, item) for user in range(60)]
        for user, found in enumerate(table.nearest(asked, raters, 4)):
            assert found.tolist() == one_by_one(rows, user, item, raters, 4)


def test_where_rounding_decides_the_exact_formula_is_asked():
    """1/1024 has ten decimals and rounds to nine: sums that are a hair off must not decide."""
    near = 0.0009765625  # the cosine of (1, 0) and (1, x), for x below
    x = math.sqrt(1 / near**2 - 1)
    offsets = {0: [1.0, 0.0], 1: [1.0, x], 2: [1.0, np.nextafter(x, 0)], 3: [1.0, x * 1.0000001]}
    table = RatingTable(np.repeat(np.arange(4), 2), np.tile([0, 1], 4), np.zeros(8))
    table.offsets = np.concatenate([offsets[user] for user in range(4)])
    calls = []

    def counted(one, other):
        calls.append(similarity(one, other))
        return calls[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similar_users, "similarity", counted)
        (found,) = table.nearest([table.rater(0)], np.array([1, 2, 3]), 3)
    assert len(calls) >= 2 and {alike for alike, _ in calls} <= {0.000976562, 0.000976563}
    own = dict(zip("ab", offsets[0], strict=True))
    by_formula = sorted(
        (1, 2, 3), key=lambda v: (-similarity(own, dict(zip("ab", offsets[v], strict=True)))[0], v)
    )
    assert found.tolist() == by_formula


def test_offsets_are_rounded_like_a_decimal_number():
    values = np.array([0.0009765625, -0.0009765625, 2 / 3, 0.0000000005, 1.0000000015, -4.0])
    assert similar_users._rounded(values).tolist() == [round(v, 9) for v in values.tolist()]


def test_nobody_asks_and_nobody_else_rated():
    table = RatingTable(np.array([0, 1]), np.array([0, 0]), np.array([5.0, 3.0]))
    assert table.nearest([], np.array([0, 1]), 3) == []
    (alone,) = table.nearest([table.rater(1)], np.array([1]), 3)
    assert alone.tolist() == []
