"""Agreement beyond chance and preferences, against numbers computed by hand."""

import math

import pytest

from recbole_exp3rt.explain.agreement import agreement, alpha, fleiss, fleiss_interval
from recbole_exp3rt.explain.preferences import (
    Outcome,
    at_matched_length,
    longer_wins,
    majority,
    sign_test,
    standings,
)


def test_kappa_by_hand():
    one = ["one"] * 6 + ["other"] * 4
    other = ["one"] * 4 + ["other"] * 2 + ["one"] * 1 + ["other"] * 3
    found = agreement([*one, None], [*other, "one"])
    # observed 7/10; by chance 0.6 * 0.5 + 0.4 * 0.5 = 0.5; kappa 0.2 / 0.5
    assert found.n == 10 and found.raw == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)


def test_high_raw_agreement_can_be_chance_alone():
    one = ["one"] * 9 + ["other"]
    other = ["other"] + ["one"] * 9
    found = agreement(one, other)
    # observed 8/10; by chance 0.81 + 0.01 = 0.82
    assert found.raw == 0.8 and found.kappa == pytest.approx(-0.02 / 0.18)


def test_one_answer_to_everything_has_no_kappa_but_from_both_sides():
    same = ["one"] * 5
    assert math.isnan(agreement(same, same).kappa)
    assert agreement(same, same, both_sides=True).kappa == 1.0
    assert agreement(same, ["other"] * 5, both_sides=True).kappa == -1.0
    assert math.isnan(agreement([None], ["one"]).kappa)


def test_fleiss_kappa_by_hand():
    pytest.importorskip("statsmodels")
    judges = {
        "a": ["one", "one", "other", "other", None],
        "b": ["one", "one", "other", "one", "one"],
        "c": ["one", "other", "other", "other", "one"],
    }
    # P_i = 1, 1/3, 1, 1/3: mean 2/3; shares 6/12 and 6/12: chance 1/2; kappa 1/3
    assert fleiss(judges) == pytest.approx(1 / 3)
    assert math.isnan(fleiss({name: ["one"] * 3 for name in "abc"}))


def test_the_interval_of_kappa_draws_users():
    one = ["one", "one", "other", "other", "one", "tie"]
    other = ["one", "one", "other", "one", "one", "other"]
    alone = agreement(one, other, ["u"] * 6)
    assert alone.interval.low == pytest.approx(alone.kappa) == pytest.approx(alone.interval.high)
    apart = agreement(one, other, list("abcdef"))
    assert apart.interval.low < apart.kappa < apart.interval.high <= 1
    sided = agreement(one, other, ["u"] * 6, both_sides=True)
    assert sided.interval.low == pytest.approx(sided.kappa)


def test_the_interval_of_fleiss_kappa_draws_users():
    judges = {
        "a": ["one", "one", "other", "other", None],
        "b": ["one", "one", "other", "one", "one"],
        "c": ["one", "other", "other", "other", "one"],
    }
    alone = fleiss_interval(judges, ["u"] * 5)
    assert alone.low == pytest.approx(1 / 3) and alone.high == pytest.approx(1 / 3)
    apart = fleiss_interval(judges, list("abcde"))
    assert apart.low < 1 / 3 < apart.high


def test_krippendorffs_alpha_by_hand_and_with_gaps():
    pytest.importorskip("krippendorff")
    raters = {"a": ["one", "one", "other", "other"], "b": ["one", "one", "other", "one"]}
    # 8 values, 5 and 3; observed disagreement 2/8, expected 2*5*3 / (8*7)
    assert alpha(raters) == pytest.approx(1 - (2 / 8) / (30 / 56))
    gap = {"a": [*raters["a"], "one"], "b": [*raters["b"], None]}
    assert alpha(gap) == pytest.approx(alpha(raters)), "what one rater alone saw tells nothing"
    assert math.isnan(alpha({"a": ["one", None], "b": [None, "one"]}))
    assert math.isnan(alpha({"a": ["one", "one"], "b": ["one", "one"]}))


def test_the_majority_needs_more_than_half():
    assert majority(["one", "one", "tie"]) == "one"
    assert majority(["one", "other"]) == majority(["one", "other", "tie"]) == "split"
    assert majority(["tie", "tie", "one"]) == "tie"
    assert majority([]) is None


def outcomes(text, user=str):
    """One outcome a letter: w, t, l."""
    verdicts = {"w": "one", "t": "tie", "l": "other", "s": "split"}
    return [Outcome("overall", "a", "b", n, user(n), verdicts[c]) for n, c in enumerate(text)]


def test_the_sign_test_counts_users_and_not_pairs():
    assert sign_test(outcomes("wwwwwww")) == pytest.approx(2 / 2**7)
    assert sign_test(outcomes("wwwwwww", user=lambda n: "u")) == 1.0  # one user decides nothing
    assert sign_test(outcomes("wlt", user=lambda n: "u")) == 1.0
    assert sign_test([]) == 1.0


def test_shares_intervals_and_holm():
    two = outcomes("wwwwwwww")
    two += [Outcome("other", "a", "b", n, str(n), v) for n, v in enumerate(["one", "other"] * 4)]
    first, second = standings(two, draws=500)
    assert (first.win, first.tie, first.loss, first.n, first.users) == (1.0, 0.0, 0.0, 8, 8)
    assert (first.intervals[0].low, first.intervals[0].high) == (1.0, 1.0)
    assert first.holm == pytest.approx(2 * 2 / 2**8) and first.star == "better"
    assert second.win == 0.5 and second.holm == 1.0 and second.star == ""
    assert second.intervals[0].low < 0.5 < second.intervals[0].high


def test_no_majority_is_no_tie_and_decides_nothing():
    (found,) = standings(outcomes("wwts"), draws=200)
    assert (found.win, found.tie, found.loss, found.split) == (0.5, 0.25, 0.0, 0.25)
    assert len(found.intervals) == 4 and found.lead == 2
    assert sign_test(outcomes("wwwwts")) == sign_test(outcomes("wwww"))


def test_a_star_needs_users_and_pairs_to_point_one_way():
    many = outcomes("w" * 12)  # twelve users prefer the first …
    loud = outcomes("l" * 40, user=lambda n: "loud")  # … and one has forty pairs
    (alone,), (mixed,) = standings(many, draws=200), standings([*many, *loud], draws=200)
    assert alone.star == "better" and alone.lead == 12
    assert mixed.holm < 0.05 and mixed.lead == 11 and mixed.star == ""


def test_length_is_taken_out_and_shown():
    found = outcomes("wwlt")
    words = {"a": [10, 10, 10, 10], "b": [9, 2, 20, 10]}
    assert [one.pair for one in at_matched_length(found, words)] == [0, 3]
    assert longer_wins(found, words) == (3, 3)
    assert longer_wins(found[:1], {"a": [5], "b": [5]}) == (0, 0)
