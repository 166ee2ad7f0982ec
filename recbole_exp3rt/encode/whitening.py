"""Vectors of texts made shorter: few numbers each, uncorrelated and of equal spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 16_384  # rows in double precision at the same time
FLAT = 1e-6  # a direction whose variance is a smaller share of the largest one is noise
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Whitening:
    """Principal directions of some vectors, each divided by its spread.

    `mean`: [dimension]; `directions`: [dimension, size].
    """

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]

    @classmethod
    def fitted(cls, vectors: Matrix, size: int) -> Whitening:
        """Fit on `vectors` [n, dimension]; at most `size` directions, fewer if there are no more.

        The order of the rows changes nothing but rounding. The largest number of each direction
        is above 0, so that its sign is no chance.
        """
        mean = vectors.mean(axis=0, dtype=np.float64)
        covariance = np.zeros((len(mean), len(mean)))
        for start in range(0, len(vectors), AT_ONCE):
            centred = vectors[start : start + AT_ONCE] - mean
            covariance += centred.T @ centred / len(vectors)
        variances, directions = np.linalg.eigh(covariance)  # rising variances
        kept = np.flatnonzero(variances > FLAT * max(variances[-1], FLAT))[::-1][:size]
        directions = directions[:, kept]
        largest = np.abs(directions).argmax(axis=0)
        signs = np.sign(directions[largest, np.arange(len(kept))])
        return cls(mean, directions * signs / np.sqrt(variances[kept]))

    def units(self, vectors: Matrix) -> Matrix:
        """`vectors` [n, dimension] in the new directions, each of length 1: [n, size].

        A vector at the mean has no direction and stays 0.
        """
        made = np.zeros((len(vectors), self.directions.shape[1]), dtype=np.float32)
        for start in range(0, len(vectors), AT_ONCE):
            white = (vectors[start : start + AT_ONCE] - self.mean) @ self.directions
            length = np.linalg.norm(white, axis=1, keepdims=True)
            made[start : start + AT_ONCE] = white / np.where(length > 0, length, 1.0)
        return made
