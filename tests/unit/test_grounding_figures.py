"""The figures of grounded explanations: shares, intervals, differences, tone."""

import math

import numpy as np
import pytest

from recbole_exp3rt.explain.explanations import ExplainedPair, Explanations
from recbole_exp3rt.explain.grounding import ground, lines_of, shown_lines
from recbole_exp3rt.explain.grounding_figures import RankCorrelation, differences, measure, tone
from recbole_exp3rt.explain.statements import Statement
from recbole_exp3rt.explain.verdicts import (
    REVIEW,
    Line,
)
from recbole_exp3rt.explain.verdicts_oracle import OracleGrounder

ORACLE = OracleGrounder()


def pair(user="ann", **given):
    values = {
        "review": "I loved the gallows wit. The slow burn wore me out.",
        "user_profile": {"likes": ["dark humour"], "dislikes": ["slow pace"]},
        "item_profile": {"likes": ["lush music"], "dislikes": []},
        "description": (("Plot", "A baker wins."),),
        **given,
    }
    return ExplainedPair(user, "m1", "Film", 7, **values)


def test_evidence_is_written_as_sentences():
    assert [(line.source, line.text) for line in shown_lines(pair())] == [
        ("user profile", "The user likes dark humour."),
        ("user profile", "The user dislikes slow pace."),
        ("item profile", "Others like lush music."),
        ("description", "Plot: A baker wins."),
    ]
    assert lines_of(REVIEW, "One. Two!") == (Line(REVIEW, "One."), Line(REVIEW, "Two!"))


def test_shares_by_hand():
    texts = {
        # two statements: both in the profile, one of them in the review, one against it
        "A": "The dark humour suits the user. The slow pace suits the user.",
        "B": "Others praise the lush music.",
        "C": "A fine film.",
    }
    one = pair(texts=texts, predicted={"A": 7.0})
    other = pair("bob", texts=texts | {"A": "The dark humour suits the user."}, review="")
    found = measure(ground(Explanations("x", "", tuple(texts), (one, other)), ORACLE))
    a, b, c = (one.figures for one in found)
    assert a["faithful"].value == pytest.approx((0.5 + 1) / 2) and a["faithful"].n == 2
    assert a["unfaithful"].value == 0.25
    assert (a["precision"].value, a["contradicted"].value, a["precision"].n) == (0.5, 0.5, 1)
    assert a["recall"].value == 0.5 and a["f1"].value == 0.5
    assert (b["faithful"].value, b["precision"].value, b["recall"].value) == (1, 0, 0)
    assert b["f1"].value == 0 and c["recall"].value == 0
    assert "faithful" not in c and "precision" not in c, "who states nothing has no precision"
    assert [one.statements for one in found] == [1.5, 1, 0]
    assert [(one.n, one.users, one.stated) for one in found] == [(2, 2, 3), (2, 2, 2), (2, 2, 0)]
    assert a["f1"].interval.low <= 0.5 <= a["f1"].interval.high


def test_intervals_are_drawn_by_user():
    said = "The dark humour suits the user."
    one, other = pair(texts={"A": said}), pair("bob", texts={"A": said.replace("suits", "bothers")})
    (alone,) = measure(ground(Explanations("x", "", ("A",), (one, one, other, other)), ORACLE))
    assert alone.figures["faithful"].value == 0.5
    spread = alone.figures["faithful"].interval
    assert (spread.low, spread.high) == (0, 1), "two users, whatever the number of their pairs"


def test_tone_is_positive_minus_negative():
    kinds = [Statement("", "", kind) for kind in ("positive", "positive", "negative", "neutral")]
    assert tone(kinds) == pytest.approx(1 / 3) and math.isnan(tone(kinds[3:]))


def test_tone_follows_the_rating_or_does_not():
    good, bad = "The dark humour suits the user.", "The dark humour bothers the user."
    pairs = [
        pair(f"u{k}", texts={"A": text}, predicted={"A": rating})
        for k, (text, rating) in enumerate([(good, 8), (good, 7), (bad, 3), (bad, 4)])
    ]
    (found,) = measure(ground(Explanations("x", "", ("A",), tuple(pairs)), ORACLE), draws=10)
    assert found.figures["tone"].value == pytest.approx(0.894, abs=1e-3)  # ties of two


def test_a_rank_correlation_counts_each_user_as_often_as_drawn():
    spearmanr = pytest.importorskip("scipy.stats").spearmanr
    x, y = np.array([1.0, 2, 2, 5, 3, 1]), np.array([2.0, 1, 4, 9, 3, 3])
    users = np.array([0, 0, 1, 1, 2, 2])
    found, other = (RankCorrelation(*both, users, 3) for both in ((x, y), (y, x[::-1])))
    weights = np.array([[1.0, 1, 1], [2, 0, 1], [0, 1, 2]])
    for value, own in zip(found.drawn(weights)[:, 0], weights, strict=True):
        rows = np.repeat(np.arange(6), own[users].astype(int))
        assert value == pytest.approx(spearmanr(x[rows], y[rows]).statistic)
    mine, its = found.swapped(other, np.array([[0.0, 1, 0]]))
    moved = users == 1
    assert mine.item() == pytest.approx(
        spearmanr(np.where(moved, y, x), np.where(moved, x[::-1], y)).statistic
    )
    assert its.item() == pytest.approx(
        spearmanr(np.where(moved, x, y), np.where(moved, y, x[::-1])).statistic
    )
    flat = RankCorrelation(np.ones(6), y, users, 3)
    assert math.isnan(flat.values.item()), "the same everywhere: no correlation"


def compared(n, texts, **given):
    """Differences of systems that say the same of `n` users, as metric -> difference."""
    pairs = tuple(pair(f"u{k}", texts=texts, **given) for k in range(n))
    found = differences(ground(Explanations("x", "", tuple(texts), pairs), ORACLE), draws=400)
    return {one.metric: one for one in found}


def test_differences_by_hand():
    found = compared(
        8,
        {
            "A": "The dark humour suits the user. The slow pace bothers the user.",
            "B": "The dark humour suits the user. The slow pace suits the user.",
        },
    )
    # A: both of the review; B: one of the two, and one against it
    said = {name: one.comparison.difference for name, one in found.items()}
    assert said == {
        "faithful": 0.5,
        "precision": 0.5,
        "recall": 0.5,
        "f1": pytest.approx(1 - 0.5),
        "contradicted": -0.5,
    }
    assert all((one.n, one.users) == (8, 8) for one in found.values())
    # 8 users who all move one way: 2 of 2^8 swaps are as large; times 5 by Holm
    one = found["f1"].comparison
    assert one.p == pytest.approx(2 / 2**8, abs=0.01) and one.holm == pytest.approx(5 * one.p)
    assert (one.low, one.high) == (0.5, 0.5)


def test_systems_are_compared_where_both_state_something():
    silent, other = "A fine film.", "The dark humour suits the user."
    pairs = (
        pair(texts={"A": other, "B": other}),
        pair("bob", texts={"A": other, "B": silent}),
    )
    found = differences(ground(Explanations("x", "", ("A", "B"), pairs), ORACLE), draws=50)
    by_metric = {one.metric: one for one in found}
    assert (by_metric["precision"].n, by_metric["recall"].n, by_metric["f1"].n) == (1, 2, 1)
    assert by_metric["precision"].comparison.difference == 0
    assert by_metric["recall"].comparison.difference == 0.25


def test_who_states_nothing_at_all_is_compared_by_recall_alone():
    assert compared(3, {"A": "The dark humour suits the user.", "B": "Hm."}).keys() == {"recall"}


def test_noise_gets_no_star():
    good, bad = "The dark humour suits the user.", "The dark humour bothers the user."
    pairs = tuple(
        pair(f"u{k}", texts={"A": (good, bad)[k % 2], "B": (bad, good)[k % 2]}) for k in range(12)
    )
    found = differences(ground(Explanations("x", "", ("A", "B"), pairs), ORACLE), draws=400)
    assert not any(one.comparison.star for one in found)
    assert all(one.comparison.low < 0 < one.comparison.high for one in found)
