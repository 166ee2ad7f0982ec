"""How similar two users are, by their train ratings (paper, section 3.5.2 and Appendix B)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from recbole_exp3rt.records import Review
from recbole_exp3rt.scale import mean

Centred = Mapping[str, float]  # item -> rating minus the user's mean
DIGITS = 9  # more decimals are rounding errors, which must not change a ranking


def centred(reviews: Sequence[Review]) -> dict[str, float]:
    """Item -> R' of one user: each rating minus the user's mean rating, in rating units.

    If an item occurs twice, its last rating is taken.
    Source: Appendix B, step 3.
    """
    offsets = centre([review.rating for review in reviews])
    return {review.item: offset for review, offset in zip(reviews, offsets, strict=True)}


def centre(ratings: Sequence[float]) -> list[float]:
    """Ratings minus their mean, rounded to DIGITS."""
    middle = mean(ratings) if ratings else 0.0
    return [round(rating - middle, DIGITS) for rating in ratings]


def similarity(one: Centred, other: Centred) -> tuple[float, int]:
    """Adjusted cosine of two users over the items both rated, and the number of those items.

    sim(u, v) = sum R'_ui R'_vi / (sqrt(sum R'_ui^2) sqrt(sum R'_vi^2)), sums over I_uv.
    The similarity is 0 where a norm is zero: the users have no item in common, or one of them
    rated all common items with the own mean.
    Source: Appendix B, step 4.
    """
    common = one.keys() & other.keys()
    squares = (math.fsum(user[item] ** 2 for item in common) for user in (one, other))
    norms = math.sqrt(math.prod(squares)) if common else 0.0
    if norms == 0.0:
        return 0.0, len(common)
    products = math.fsum(one[item] * other[item] for item in common)
    return round(products / norms, DIGITS), len(common)
