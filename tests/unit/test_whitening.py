"""Vectors of texts are shortened: uncorrelated, of equal spread, by the given rows alone."""

import numpy as np
import pytest

from recbole_exp3rt.encode import whitening
from recbole_exp3rt.encode.whitening import Whitening


def vectors(n=500, dimension=6, seed=0):
    """Correlated vectors whose directions have very different spreads."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(n, dimension)) * (2.0 ** np.arange(dimension))
    turn, _ = np.linalg.qr(random.normal(size=(dimension, dimension)))
    return (mixed @ turn + 3.0).astype(np.float32)


def test_the_directions_are_uncorrelated_of_spread_one_and_the_widest():
    given = vectors()
    fitted = Whitening.fitted(given, 3)
    white = (given - fitted.mean) @ fitted.directions
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(3), atol=1e-3)
    widest = np.linalg.eigvalsh(np.cov(given.T, bias=True))[::-1][:3]
    np.testing.assert_allclose(np.linalg.norm(fitted.directions, axis=0) ** -2, widest, rtol=1e-3)


def test_rows_have_length_one_and_the_mean_stays_zero():
    given = np.array([[1, 0], [-1, 0], [0, 2], [0, -2], [0, 0]], dtype=np.float32)
    made = Whitening.fitted(given, 2).units(given)
    assert np.linalg.norm(made, axis=1) == pytest.approx([1, 1, 1, 1, 0])
    assert made.dtype == np.float32


def test_there_are_no_more_directions_than_the_rows_have():
    line = np.outer(np.arange(5), [1, 2, 3, 4]).astype(np.float32)
    assert Whitening.fitted(line, 64).units(line).shape == (5, 1)
    alike = np.ones((3, 4), dtype=np.float32)
    assert Whitening.fitted(alike, 64).units(alike).shape == (3, 0)


def test_order_and_parts_change_nothing(monkeypatch):
    given = vectors()
    whole = Whitening.fitted(given, 4)
    monkeypatch.setattr(whitening, "AT_ONCE", 7)
    parts = Whitening.fitted(given[::-1], 4)
    np.testing.assert_allclose(parts.directions, whole.directions, atol=1e-6)
    np.testing.assert_allclose(parts.units(given), whole.units(given), atol=1e-4)
