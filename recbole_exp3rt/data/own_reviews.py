"""Reviews, descriptions and pairs of users and items as a script gives them, checked.

Lists of records, mappings, or pandas data frames. pandas is imported where a frame is read.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeGuard

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Description, Review
from recbole_exp3rt.scale import RatingScale, between_levels

if TYPE_CHECKING:
    import pandas as pd

PAIR = ("user_id", "item_id")


def reviews_of_frame(
    frame: pd.DataFrame,
    columns: Mapping[str, str | None],
    rating_scale: Sequence[float] | Mapping[str, float] | None,
) -> tuple[list[Review], dict[str, dict[str, str]], Sequence[float] | Mapping[str, float]]:
    """Reviews, descriptions and the scale of a data frame; warns of guesses and dropped rows."""
    from dataset_converters.guesses import Options
    from dataset_converters.table import reviews_of

    told = rating_scale
    if isinstance(told, Mapping):
        told = [told["lowest"], told["highest"], told.get("step", 1)]
    options = Options(columns=columns, rating_scale=told)
    reviews, descriptions, scale, notes = reviews_of(frame, options)
    for note in notes:
        warnings.warn(note, stacklevel=3)
    return reviews, descriptions, rating_scale or scale


def is_frame(given: object) -> TypeGuard[pd.DataFrame]:
    """Whether it is a data frame; without pandas nothing is."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(given, pandas.DataFrame)


def pairs_of(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """The (user, item) pairs of a frame. Raises: UsageError if a column of PAIR is missing."""
    if missing := [name for name in PAIR if name not in frame.columns]:
        raise UsageError(f"the data frame has no column {missing[0]}; it has {list(frame.columns)}")
    return list(zip(frame["user_id"].astype(str), frame["item_id"].astype(str), strict=True))


def checked_reviews(given: Iterable[Review], scale: RatingScale) -> list[Review]:
    """The reviews; ratings between two levels are warned of.

    Raises: UsageError for what is no review, or a rating outside `scale`.
    """
    reviews = list(given)
    for review in reviews:
        if not isinstance(review, Review):
            raise UsageError(
                f"{review!r:.80} is no Review; write Review(user, item, rating, text) of "
                "recbole_exp3rt.records"
            )
        of = f"the review of item {review.item!r} by user {review.user!r}"
        for name in ("user", "item", "text", "title"):
            value = getattr(review, name)
            if not isinstance(value, str):
                raise UsageError(f"{of}: its {name} {value!r} is no text; give a str")
        if not isinstance(review.timestamp, Real) or math.isnan(review.timestamp):
            raise UsageError(f"{of}: timestamp {review.timestamp!r} is no number; leave it out")
        value = review.rating
        if not isinstance(value, Real) or not scale.lowest <= value <= scale.highest:  # nor NaN
            raise UsageError(
                f"{of}: rating {value!r} is no number of {scale.lowest}–{scale.highest}; "
                "give it in the data's own units"
            )
    if said := between_levels([float(review.rating) for review in reviews], scale):
        warnings.warn(said, stacklevel=3)
    return reviews


def checked_descriptions(given: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Description]:
    """Descriptions of items; an empty value has no line, as in an `.item` file.

    Raises: UsageError for what maps no labels to values.
    """
    for item, lines in (given or {}).items():
        if not isinstance(lines, Mapping):
            raise UsageError(
                f"description of item {item}: {lines!r:.80} is no mapping of label to value; "
                'write {"Title": …, "Plot": …}'
            )
    return {
        item: Description(
            item,
            tuple(
                (label, str(value))
                for label, value in lines.items()
                if value is not None and value == value and str(value).strip()  # NaN is not NaN
            ),
        )
        for item, lines in (given or {}).items()
    }
