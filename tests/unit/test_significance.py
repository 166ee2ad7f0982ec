"""Differences of two systems, with intervals and p values over users and seeds.

The machinery is tested as statistics: on data without a difference it must find one in 5 of 100
tables, and it must find a planted one.
"""

from itertools import pairwise

import numpy as np
import pytest

from recbole_exp3rt.evaluator.significance import (
    Measured,
    Resampling,
    corrected,
    holm,
    rmse_difference,
)

USERS, ROWS = 40, 4  # of one synthetic test part, whose users have errors of their own size


def test_the_difference_is_that_of_the_rmses():
    found = rmse_difference([3.0, 4.0], [0.0, 0.0], ["a", "b"])
    assert found.difference == pytest.approx(np.sqrt(12.5))


def test_equal_predictors_do_not_differ():
    errors = np.random.default_rng(1).normal(size=60)
    found = rmse_difference(errors, errors, [f"user{k % 20}" for k in range(60)])
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1) and not found.star


def test_a_clear_difference_gets_a_star_and_noise_does_not():
    chance = np.random.default_rng(2)
    errors, users = chance.normal(size=200), [f"user{k % 50}" for k in range(200)]
    clear = rmse_difference(errors, errors * 2, users)
    assert clear.high < 0 and clear.p < 0.001 and clear.star
    noise = rmse_difference(errors, chance.permutation(errors), users)
    assert noise.low < 0 < noise.high and noise.p > 0.05 and not noise.star


def test_p_of_two_users_counted_by_hand():
    """Four ways to swap two users: in two of them the difference is as large as found."""
    found = rmse_difference([0.0, 0.0], [1.0, 3.0], ["a", "b"], draws=4000)
    assert found.p == pytest.approx(0.5, abs=0.03)


def test_rows_of_one_user_do_not_count_as_independent():
    """The same rows, as fifty users' and as five users': fewer users say less."""
    chance = np.random.default_rng(3)
    errors = np.repeat(chance.normal(size=5), 10)
    others = errors + 0.5
    many = rmse_difference(errors, others, [f"user{k}" for k in range(50)])
    few = rmse_difference(errors, others, [f"user{k // 10}" for k in range(50)])
    assert few.high - few.low > 1.5 * (many.high - many.low)


def test_seeds_are_averaged_and_their_spread_widens_the_interval():
    rows, users = np.ones(40), [f"user{k}" for k in range(40)]
    found = rmse_difference([rows, 3 * rows], rows, users)
    assert found.difference == pytest.approx(1.0)
    assert (found.low, found.high) == (pytest.approx(0.0), pytest.approx(2.0))


def test_what_does_not_match_is_an_error():
    with pytest.raises(ValueError, match="3 values for 2"):
        rmse_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], ["a", "b"])
    with pytest.raises(ValueError, match="2 and 3 seeds"):
        rmse_difference(np.ones((2, 4)), np.ones((3, 4)), list("abcd"))
    some, more = (Measured(np.ones((1, 2)), np.array([[1.0, n]])) for n in (1.0, 2.0))
    with pytest.raises(ValueError, match="not measured on the same rows"):
        Resampling(2).compare(some, more)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_star_is_lost_among_many_tests():
    chance = np.random.default_rng(5)
    users, errors = [f"u{k}" for k in range(60)], chance.normal(size=60)
    weak = rmse_difference(errors, errors * 1.1, users)
    edge = next(n for n in range(1, 10_000) if n * weak.p >= 0.05)
    assert weak.star and corrected([weak] * (edge - 1))[0].star
    assert not corrected([weak] * edge)[0].star


def test_intervals_do_not_depend_on_how_many_draws_are_held_at_once(monkeypatch):
    chance = np.random.default_rng(6)
    one = Measured(chance.random((2, 30)), np.ones((2, 30)))
    whole = Resampling(30, draws=500).intervals([one])
    monkeypatch.setattr("recbole_exp3rt.evaluator.significance.CHUNK", 1000)
    assert Resampling(30, draws=500).intervals([one]) == whole


def world(
    chance: np.random.Generator, effect: float, seeds: int, n_users: int = USERS
) -> list[Measured]:
    """Two systems on the same users: users differ in how hard they are and in which system they
    like; `effect` makes the second one's errors larger for all."""
    users = np.repeat(np.arange(n_users), ROWS)
    hard = np.exp(chance.normal(0, 0.5, n_users))
    taste = np.exp(chance.normal(0, 0.2, n_users))
    found = []
    for scale in (hard * taste, hard / taste * (1 + effect)):
        errors = chance.normal(size=(seeds, len(users))) * scale[users]
        found.append(Measured.of(list(errors**2), [users] * seeds, n_users, root=True))
    return found


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_thousand_worlds_without_a_difference(seeds):
    """At 5 %, between 3.6 and 6.4 % of them are called different, stars included."""
    chance = np.random.default_rng(7 + seeds)
    found = [
        Resampling(USERS, draws=499, seed=k).compare(*world(chance, 0.0, seeds))
        for k in range(1000)
    ]
    assert 0.036 <= np.mean([one.p < 0.05 for one in found]) <= 0.064
    assert np.mean([one.star for one in found]) <= 0.064


def test_a_planted_difference_is_found():
    chance = np.random.default_rng(11)
    found = [
        Resampling(120, draws=499, seed=k).compare(*world(chance, 0.35, 3, 120)) for k in range(200)
    ]
    assert np.mean([one.star and one.difference < 0 for one in found]) >= 0.9


def test_nineteen_of_twenty_intervals_hold_the_true_mean():
    """Of a mean over users, whose true value is known."""
    chance = np.random.default_rng(13)
    inside = 0
    for k in range(400):
        values = chance.normal(1.0, 1.0, (1, 60))
        (interval,) = Resampling(60, draws=499, seed=k).intervals(
            [Measured(values, np.ones((1, 60)))]
        )
        inside += interval.low <= 1.0 <= interval.high
    assert 0.91 <= inside / 400 <= 0.98


def test_a_larger_share_of_draws_says_the_same_as_a_smaller_one():
    chance = np.random.default_rng(17)
    one, other = world(chance, 0.1, 1)
    found = [Resampling(USERS, draws=n).compare(one, other).p for n in (2000, 8000)]
    assert all(abs(a - b) < 0.03 for a, b in pairwise(found))
