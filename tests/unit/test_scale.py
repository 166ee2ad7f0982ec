"""Rating levels, labels and the expected rating (paper, section 3.5.3)."""

import math

import pytest

from recbole_exp3rt.scale import (
    MissingLabel,
    RatingScale,
    expected_rating,
    label_probabilities,
    modal_rating,
)

IMDB = RatingScale.between(1, 10)
BOOKS = RatingScale.between(1, 5)


def test_ten_levels_are_written_with_one_digit_and_five_as_they_are():
    assert IMDB.labels == tuple("0123456789")
    assert (IMDB.label_of(10), IMDB.level_of("9")) == ("9", 10)
    assert BOOKS.labels == tuple("12345")
    assert BOOKS.label_of(5) == "5"


@pytest.mark.parametrize(
    ("scale", "average", "shown"),
    [(IMDB, 7.25, "6.2"), (IMDB, 1.0, "0.0"), (IMDB, 0.4, "0.0"), (BOOKS, 4.25, "4.2")],
)
def test_averages_are_shown_in_the_models_units(scale, average, shown):
    assert scale.show_average(average) == shown


def test_expected_rating_is_the_probability_weighted_mean():
    # p(1)=1/4, p(3)=3/4, the others nothing: 1/4 + 9/4 = 2.5
    logp = {label: -math.inf for label in "12345"} | {"1": math.log(1), "3": math.log(3)}
    assert expected_rating(logp, BOOKS) == pytest.approx(2.5)
    assert modal_rating(logp, BOOKS) == 3


def test_probabilities_do_not_depend_on_what_the_other_tokens_took():
    logp = {label: -float(k) for k, label in enumerate("12345")}
    lower = {label: value - 700 for label, value in logp.items()}
    assert label_probabilities(logp, BOOKS) == pytest.approx(label_probabilities(lower, BOOKS))
    assert sum(label_probabilities(logp, BOOKS).values()) == pytest.approx(1)


def test_a_label_without_log_probability_is_an_error_not_a_smaller_softmax():
    with pytest.raises(MissingLabel, match="'5'"):
        expected_rating(dict.fromkeys("1234", 0.0), BOOKS)


def test_an_unanswered_pair_counts_as_the_farthest_level():
    assert IMDB.farthest(3) == 10
    assert IMDB.farthest(9) == 1


@pytest.mark.parametrize("rating", [0, 11, 0.4])
def test_a_rating_outside_the_scale_has_no_label(rating):
    with pytest.raises(ValueError, match="outside 1–10"):
        IMDB.label_of(rating)


def test_labels_must_stand_one_for_one_for_levels():
    with pytest.raises(ValueError, match="one for one"):
        RatingScale((1, 2, 3), ("1", "2", "2"))
