"""Differences of RMSE with intervals over users."""

import numpy as np
import pytest

from recbole_exp3rt.evaluator.significance import rmse_difference


def test_the_difference_is_that_of_the_rmses():
    found = rmse_difference([3.0, 4.0], [0.0, 0.0], ["a", "b"])
    assert found.difference == pytest.approx(np.sqrt(12.5))


def test_equal_predictors_do_not_differ():
    errors = np.random.default_rng(1).normal(size=60)
    found = rmse_difference(errors, errors, [f"user{k % 20}" for k in range(60)])
    assert (found.difference, found.low, found.high) == (0, 0, 0) and not found.excludes_zero


def test_a_clear_difference_excludes_zero_and_noise_does_not():
    chance = np.random.default_rng(2)
    errors, users = chance.normal(size=200), [f"user{k % 50}" for k in range(200)]
    assert rmse_difference(errors, errors * 2, users).high < 0
    assert not rmse_difference(errors, chance.permutation(errors), users).excludes_zero


def test_rows_of_one_user_do_not_count_as_independent():
    """The same rows, as fifty users' and as five users': fewer users say less."""
    chance = np.random.default_rng(3)
    errors = np.repeat(chance.normal(size=5), 10)
    others = errors + 0.5
    many = rmse_difference(errors, others, [f"user{k}" for k in range(50)])
    few = rmse_difference(errors, others, [f"user{k // 10}" for k in range(50)])
    assert few.high - few.low > 1.5 * (many.high - many.low)


def test_runs_are_averaged():
    rows, users = np.array([1.0, 1.0]), ["a", "b"]
    found = rmse_difference([rows, 3 * rows], rows, users)
    assert found.difference == pytest.approx(1.0)


def test_rows_that_do_not_match_are_an_error():
    with pytest.raises(ValueError, match="3 errors for 2"):
        rmse_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], ["a", "b"])
