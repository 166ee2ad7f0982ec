"""Calibration: least squares on validation answers, checked by hand and by its promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recbole_exp3rt.evaluator.calibration import fit_calibration
from recbole_exp3rt.scale import RatingScale

SCALE = RatingScale.between(1, 10)
RATINGS = np.linspace(2.0, 9.0, 20)
BIAS = np.full(20, 6.0)


def rmse(predicted, truth):
    return float(np.sqrt(np.mean((predicted - truth) ** 2)))


def some_ratings(low=1.0, high=10.0):
    return arrays(np.float64, 15, elements=st.floats(low, high, width=32))


def test_affine_undoes_a_known_distortion():
    distorted = 4.0 + 0.25 * RATINGS
    calibration = fit_calibration("affine", distorted, BIAS, RATINGS)
    assert calibration.slope == pytest.approx(4.0)
    assert calibration.intercept == pytest.approx(-16.0)
    assert calibration.apply(distorted, BIAS, SCALE) == pytest.approx(RATINGS)


def test_blend_finds_the_weight_that_made_the_ratings():
    bias = np.linspace(7.0, 4.0, 20)
    truth = 0.3 * RATINGS + 0.7 * bias
    calibration = fit_calibration("blend", RATINGS, bias, truth)
    assert (calibration.slope, calibration.bias_weight) == pytest.approx((0.3, 0.7))
    assert calibration.apply(RATINGS, bias, SCALE) == pytest.approx(truth)


@pytest.mark.parametrize(("truth", "weight"), [(2 * RATINGS - BIAS, 1.0), (12 - RATINGS, 0.0)])
def test_the_weight_of_a_blend_stays_between_0_and_1(truth, weight):
    assert fit_calibration("blend", RATINGS, BIAS, truth).slope == weight


@settings(max_examples=60, deadline=None)
@given(some_ratings(), some_ratings(), some_ratings())
def test_on_the_data_it_is_fitted_on_a_calibration_is_never_worse(ratings, bias, truth):
    raw = rmse(ratings, truth)
    affine = fit_calibration("affine", ratings, bias, truth).apply(ratings, bias, SCALE)
    blend = fit_calibration("blend", ratings, bias, truth).apply(ratings, bias, SCALE)
    assert rmse(affine, truth) <= raw + 1e-6
    assert rmse(blend, truth) <= min(raw, rmse(bias, truth)) + 1e-6


def test_missing_answers_are_left_out_of_the_fit_counted_and_stay_missing():
    distorted, truth = 4.0 + 0.25 * RATINGS, RATINGS.copy()
    distorted[[3, 7]], truth[[3, 7]] = np.nan, 1.0
    calibration = fit_calibration("affine", distorted, BIAS, truth)
    assert (calibration.pairs, calibration.answered) == (20, 18)
    assert calibration.slope == pytest.approx(4.0)
    assert np.flatnonzero(np.isnan(calibration.apply(distorted, BIAS, SCALE))).tolist() == [3, 7]


@pytest.mark.parametrize(
    ("kind", "ratings", "note"),
    [
        ("affine", np.full(20, 5.0), "all validation answers are the same"),
        ("blend", BIAS, "all validation answers are those of Bias"),
        ("affine", np.full(20, np.nan), "0 validation answers, fewer than 10"),
        ("blend", np.where(np.arange(20) < 9, RATINGS, np.nan), "9 validation answers, fewer"),
    ],
)
def test_what_cannot_be_fitted_leaves_the_ratings_as_they_were(kind, ratings, note):
    calibration = fit_calibration(kind, ratings, BIAS, RATINGS)
    assert calibration.note.startswith(note) and note in str(calibration)
    assert calibration.apply(RATINGS, BIAS, SCALE).tolist() == RATINGS.tolist()


def test_constant_answers_can_still_be_blended():
    weight = fit_calibration("blend", np.full(20, 8.0), BIAS, np.full(20, 7.0)).slope
    assert weight == pytest.approx(0.5)


def test_calibrated_ratings_stay_on_the_scale():
    calibration = fit_calibration("affine", RATINGS, BIAS, 3.0 * RATINGS - 10.0)
    assert calibration.apply(np.array([1.0, 10.0]), BIAS[:2], SCALE).tolist() == [1.0, 10.0]
