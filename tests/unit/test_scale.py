"""Rating levels, labels and the expected rating (paper, section 3.5.3)."""

import math

import pytest

from recbole_exp3rt.scale import (
    MOST_LEVELS,
    MissingLabel,
    RatingScale,
    between_levels,
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


def test_each_level_needs_a_label_of_its_own():
    with pytest.raises(ValueError, match="one different label for each"):
        RatingScale((1, 2, 3), ("1", "2", "2"))


HALF_STARS = RatingScale.between(0.5, 5, 0.5)


@pytest.mark.parametrize(
    ("scale", "labels"),
    [
        (HALF_STARS, "0.5 1.0 1.5 2.0 2.5 3.0 3.5 4.0 4.5 5.0"),
        (RatingScale.between(-1, 1), "-1 0 1"),
        (RatingScale.between(-1, 1, 0.5), "-1.0 -0.5 0.0 0.5 1.0"),
        (RatingScale.between(0, 1, 0.25), "0.00 0.25 0.50 0.75 1.00"),
        (RatingScale.between(0.1, 0.7, 0.2), "0.1 0.3 0.5 0.7"),
        (RatingScale.between(10, 50, 10), "10 20 30 40 50"),
        (RatingScale.between(1.0, 5.0), "1 2 3 4 5"),
        (RatingScale.between(1, 10), "0 1 2 3 4 5 6 7 8 9"),
    ],
)
def test_levels_of_any_step_have_labels_of_one_form(scale, labels):
    assert scale.labels == tuple(labels.split())
    assert [scale.label_of(level) for level in scale.levels] == list(scale.labels)
    assert RatingScale.between(*scale.setting) == scale


@pytest.mark.parametrize(
    ("scale", "average", "shown"),
    [
        (RatingScale.between(-1, 1), -0.5, "-0.5"),
        (RatingScale.between(-10, 10), -7.26, "-7.3"),
        (RatingScale.between(-10, 10), -0.04, "0.0"),
        (RatingScale.between(-10, -1), -9.5, "-9.5"),
        (HALF_STARS, 3.25, "3.25"),
    ],
)
def test_averages_below_zero_and_between_half_stars_are_shown_as_they_are(scale, average, shown):
    assert scale.show_average(average) == shown


def test_a_half_star_has_its_own_label_and_weight():
    assert [HALF_STARS.label_of(r) for r in (3.5, 3.74, 3.75, 0.3)] == ["3.5", "3.5", "4.0", "0.5"]
    with pytest.raises(ValueError, match=r"5.3 is outside 0.5–5.0"):
        HALF_STARS.label_of(5.3)
    logp = dict.fromkeys(HALF_STARS.labels, -math.inf) | {"3.5": 0.0, "4.0": 0.0}
    assert expected_rating(logp, HALF_STARS) == pytest.approx(3.75)
    assert (HALF_STARS.farthest(3), HALF_STARS.level_from(3.2)) == (0.5, 3.5)


def test_a_scale_has_a_whole_number_of_steps_and_not_too_many():
    assert len(RatingScale.between(0, MOST_LEVELS - 1).levels) == MOST_LEVELS
    for given, complaint in [
        ((1, 100_000_000), "more than 101 levels .* such as 1000000"),
        ((0, 1, 1e-30), "more than 101 levels"),
        ((0, 10**11, 1e-300), "more than 101 levels"),
        ((0.5, 5, 1), "do not end at 5"),
        ((1, 5, 0), "no levels"),
        ((1, 5, -1), "no levels"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            RatingScale.between(*given)


def test_ratings_between_the_levels_are_counted_with_the_step_that_fits_them():
    said = between_levels([1, 3.5, 3.5, 4, 2.5], BOOKS)
    assert said.startswith("3 of 5 ratings lie between") and "such as 2.5" in said
    assert said.endswith("give rating_scale=[1.0, 5.0, 0.5]")
    assert "no usual step" in between_levels([1, 2.3456], BOOKS)
    assert between_levels([1, 2, 5.0], BOOKS) is None
    tenths = RatingScale.between(0, 1, 0.1)
    single = [0.30000001192092896, 0.699999988079071]  # 0.3 and 0.7 in single precision
    assert between_levels(single, tenths) is None
