"""Fixed samples of rows and users; warm, cold and unseen test rows."""

from __future__ import annotations

import numpy as np

from recbole_exp3rt.data.slices import sample_rows, sample_users, user_slices


def test_the_same_rows_for_every_model():
    rows = sample_rows(1000, 30, seed=7)
    assert len(set(rows.tolist())) == 30 and rows.max() < 1000
    assert rows.tolist() == sorted(rows.tolist())
    np.testing.assert_array_equal(rows, sample_rows(1000, 30, seed=7))
    assert rows.tolist() != sample_rows(1000, 30, seed=8).tolist()


def test_a_larger_sample_keeps_the_smaller_one():
    assert set(sample_rows(1000, 30, 7)) < set(sample_rows(1000, 60, 7))


def test_all_rows_where_none_or_too_many_are_asked_for():
    assert sample_rows(5, None, 1).tolist() == sample_rows(5, 99, 1).tolist() == [0, 1, 2, 3, 4]


def test_users_are_sampled_whatever_order_they_come_in():
    users = [f"u{k}" for k in range(50)]
    assert sample_users(users, 10, 3) == sample_users([*reversed(users), *users], 10, 3)
    assert len(sample_users(users, 10, 3)) == 10
    assert sample_users(["b", "a", "b"], None, 3) == ["a", "b"]


def test_slices_by_train_rows_of_the_user():
    train = np.array([1] * 4 + [2] * 3 + [3])  # user 4 has none
    masks = user_slices(train, np.array([1, 2, 3, 4, 1]))
    assert masks["warm"].tolist() == [True, False, False, False, True]
    assert masks["cold"].tolist() == [False, True, True, False, False]
    assert masks["unseen"].tolist() == [False, False, False, True, False]
    assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
