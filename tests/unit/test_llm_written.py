"""Ratings that a model wrote itself: where they stand, and what is known of the other labels."""

import math

import pytest

from recbole_exp3rt.llm.base import Readout
from recbole_exp3rt.llm.server.written_labels import Step, all_on, find_label, from_top

DIGITS = Readout("\nPredicted User Rating: ", tuple("0123456789"))
TEN = Readout("\nPredicted User Rating: ", tuple(str(n) for n in range(1, 11)))

# Awkward answers stay in one table; each new surprise joins it.
ANSWERS = [
    ("Good.\nPredicted User Rating: 7", "7", "Good."),
    ("Good.\n\n**Predicted User Rating:** 8/9", "8", "Good."),
    ("Good.\n## predicted user rating\n8", "8", "Good."),
    ("Good.\nPredicted User Rating: (3)", "3", "Good."),
    ("Predicted User Rating: 2?\nPredicted User Rating: 5", "5", "Predicted User Rating: 2?"),
    ("Predicted User Rating: 8.5", None, None),
    ("Predicted User Rating: 18", None, None),
    ("Predicted User Rating: seven", None, None),
    ("I'd say 7.", None, None),
    ("", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "label", "before"), ANSWERS)
def test_the_label_after_the_last_cue_is_read(text, label, before):
    found = find_label(text, DIGITS, alone=False)
    assert (found and found.label) == label
    if found:
        assert found.text == before and text[found.start] == label


def test_where_only_the_rating_was_asked_for_it_needs_no_cue():
    assert find_label(" **7**", DIGITS, alone=True).label == "7"
    assert find_label("7", DIGITS, alone=False) is None
    assert find_label("It has 7 parts", DIGITS, alone=True) is None
    assert find_label("10", TEN, alone=True).label == "10"


def read(top, readout=DIGITS, token="7"):
    steps = [Step("Predicted User Rating: ", (("x", -1.0),)), Step(token, tuple(top.items()))]
    written = find_label("".join(step.token for step in steps), readout, alone=False)
    logp, missing = from_top(steps, written, readout, alone=False)
    return [math.exp(value) for value in logp], missing


def test_labels_that_are_not_told_share_the_mass_that_is_left_and_are_counted():
    probability, missing = read({"7": math.log(0.8), "8": math.log(0.12)})
    assert missing == 8
    assert probability[7:9] == pytest.approx([0.8, 0.12])
    assert probability[0] == pytest.approx(0.01)  # 0.08 over eight labels
    assert sum(probability) == pytest.approx(1.0)


def test_no_missing_label_is_likelier_than_the_least_that_was_told():
    probability, missing = read({"7": math.log(0.5), "8": math.log(0.001)})
    assert missing == 8 and probability[0] == pytest.approx(0.001)


def test_a_label_counts_with_all_tokens_that_say_it():
    probability, missing = read({"7": math.log(0.5), " 7": math.log(0.2), "7th": math.log(0.1)})
    assert missing == 9 and probability[7] == pytest.approx(0.7)


def test_all_labels_told_means_none_missing_even_where_rounding_leaves_no_mass():
    _, missing = read({str(k): math.log(0.10001) for k in range(10)})
    assert missing == 0
    probability, missing = read({str(k): math.log(0.2) for k in range(5, 10)})
    assert missing == 5 and 0 < probability[0] < 1e-9


@pytest.mark.parametrize(
    ("readout", "token"), [(TEN, "1!"), (DIGITS, "7!"), (DIGITS, "7 of 9")], ids=str
)
def test_a_token_that_does_not_say_exactly_one_label_tells_the_written_one_only(readout, token):
    probability, missing = read({token: -0.1, "2": -2.0}, readout, token)
    assert missing == len(readout.labels) - 1
    assert max(probability) == 1.0 and sum(probability) == pytest.approx(1.0)


def test_parsed_puts_all_mass_on_the_label():
    logp, missing = all_on("3", DIGITS)
    assert missing == 9 and logp[3] == 0.0 and max(logp[:3] + logp[4:]) < -50


STARS = Readout("\nPredicted User Rating: ", tuple(f"{k / 2:.1f}" for k in range(1, 11)))
SIGNED = Readout("\nPredicted User Rating: ", tuple(str(k) for k in range(-10, 11)))


@pytest.mark.parametrize(
    ("text", "readout", "label"),
    [
        ("Predicted User Rating: 4.5", STARS, "4.5"),
        ("Predicted User Rating: 4", STARS, "4.0"),
        ("Predicted User Rating: 4.", STARS, "4.0"),
        ("**Predicted User Rating:** 4,5 / 5", STARS, "4.5"),
        ("Predicted User Rating: 4.7", STARS, None),
        ("Predicted User Rating: -1", SIGNED, "-1"),
        ("Predicted User Rating: \N{MINUS SIGN}10", SIGNED, "-10"),
        ("Predicted User Rating - 7", SIGNED, "7"),
        ("Predicted User Rating: 10", SIGNED, "10"),
    ],
)
def test_labels_with_decimals_and_signs_are_read(text, readout, label):
    found = find_label(text, readout, alone=False)
    assert (found and found.label) == label


def followed(readout, *steps):
    """Probability of each label by what is told at each token: (token, {token: probability})."""
    told = [Step("Predicted User Rating: ", (("x", -1.0),))]
    told += [Step(t, tuple((k, math.log(p)) for k, p in top.items())) for t, top in steps]
    written = find_label("".join(step.token for step in told), readout, alone=False)
    logp, missing = from_top(told, written, readout, alone=False)
    return {k: math.exp(v) for k, v in zip(readout.labels, logp, strict=True)}, missing


def test_a_label_of_several_tokens_is_followed_along_them():
    first = {"4": 0.6, "3": 0.3, "5": 0.1}
    half = {"5": 0.75, "0": 0.25}
    said, missing = followed(STARS, ("4", first), (".", {".": 1.0}), ("5", half))
    assert (said["4.5"], said["4.0"]) == pytest.approx((0.45, 0.15))
    assert said["3.0"] == said["3.5"] == pytest.approx(0.15)  # which of the two is not told
    assert said["5.0"] == pytest.approx(0.1) and missing == 7
    assert sum(said.values()) == pytest.approx(1, abs=1e-6)


def test_a_shorter_label_ends_where_another_goes_on():
    said, missing = followed(TEN, ("1", {"1": 0.8, "9": 0.2}), ("\n", {"\n": 0.9, "0": 0.1}))
    assert (said["1"], said["10"], said["9"]) == pytest.approx((0.72, 0.08, 0.2)) and missing == 7
    said, _ = followed(TEN, ("1", {"1": 0.8, "9": 0.2}), ("0", {"\n": 0.1, "0": 0.9}))
    assert (said["1"], said["10"]) == pytest.approx((0.08, 0.72))
    said, missing = followed(TEN, ("1", {"1": 0.8, "9": 0.2}))  # nothing stands behind it
    assert (said["1"], said["9"]) == pytest.approx((0.8, 0.2)) and missing == 8


def test_a_sign_is_followed_like_any_token():
    said, _ = followed(SIGNED, (" -", {" -": 0.7, " ": 0.1, "3": 0.2}), ("2", {"2": 1.0}))
    assert said["-2"] == pytest.approx(0.7) and said["3"] == pytest.approx(0.2)
    said, _ = followed(SIGNED, ("2", {"-": 0.5, "2": 0.5}))
    assert said["2"] == pytest.approx(0.5) and said["-7"] == pytest.approx(0.05)
