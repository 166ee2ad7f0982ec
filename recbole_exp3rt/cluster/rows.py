"""Reviews, preferences, profiles and ratings as rows of parquet tables, and back. Pure."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from recbole_exp3rt.records import Preference, Profile, RatingPrediction, Review
from recbole_exp3rt.scale import RatingScale

TEXTS = pa.list_(pa.string())
REVIEWS = pa.schema(
    [("user_id", pa.string()), ("item_id", pa.string()), ("rating", pa.float64())]
    + [("title", pa.string()), ("text", pa.string())]
    + [("timestamp", pa.float64()), ("helpful", pa.int64())]
)
ITEMS = pa.schema([("item_id", pa.string()), ("labels", TEXTS), ("values", TEXTS)])
PAIRS = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("rating", pa.float64())])
PREFERENCES = pa.schema(
    [("user_id", pa.string()), ("item_id", pa.string()), ("rating", pa.float64())]
    + [("timestamp", pa.float64()), ("helpful", pa.int64()), ("written", pa.bool_())]
    + [("readable", pa.bool_()), ("likes", TEXTS), ("dislikes", TEXTS), ("failed", pa.string())]
)
PROFILES = pa.schema(
    [("subject", pa.string()), ("key", pa.string()), ("without", pa.string())]
    + [("likes", TEXTS), ("dislikes", TEXTS), ("made_of", TEXTS)]
    + [("reviews", pa.int64()), ("average", pa.float64())]
    + [("made", pa.bool_()), ("failed", pa.string())]
)
GROUPED = pa.schema([("key", pa.string()), ("record", pa.binary())])
Row = dict[str, Any]
PREDICTED = "EXP3RT"  # the column of predictions, as in the exports of a run


def ratings_schema(scale: RatingScale) -> pa.Schema:
    """The columns of `ratings.parquet`: those that a run exports, and why a pair has no rating."""
    return pa.schema(
        [("user_id", pa.string()), ("item_id", pa.string()), ("rating", pa.float64())]
        + [(PREDICTED, pa.float64()), ("expected", pa.float64()), ("modal", pa.float64())]
        + [("rationale", pa.string())]
        + [(f"p_{level}", pa.float64()) for level in scale.levels]
        + [("failed", pa.string())]
    )


def table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a table; a value that is missing is null."""
    return pa.Table.from_pylist(list(rows), schema=schema)


def each(function: Callable[[Row], Iterable[Row]], schema: pa.Schema) -> Callable[..., pa.Table]:
    """`function`, from a row to rows, as a function of tables."""

    def of_table(given: pa.Table) -> pa.Table:
        return table([made for row in given.to_pylist() for made in function(row)], schema)

    return of_table


def grouped(key: str, record: Any) -> Row:
    """A record on its way to the group of `key`."""
    return {"key": key, "record": pickle.dumps(record)}


def records(given: pa.Table) -> list[Any]:
    """The records of one group, or of a batch."""
    return [pickle.loads(one) for one in given.column("record").to_pylist()]


def review_of(row: Row) -> Review:
    """The review of a row of REVIEWS."""
    return Review(
        row["user_id"],
        row["item_id"],
        row["rating"],
        row.get("text") or "",
        row.get("title") or "",
        row.get("timestamp") or 0.0,
        int(row.get("helpful") or 0),
    )


def preference_row(review: Review, said: Preference | None, failed: str | None) -> Row:
    """A row of PREFERENCES: the review without its text."""
    return {
        "user_id": review.user,
        "item_id": review.item,
        "rating": review.rating,
        "timestamp": review.timestamp,
        "helpful": review.helpful,
        "written": review.is_written,
        "readable": said is not None,
        "likes": said.likes if said else (),
        "dislikes": said.dislikes if said else (),
        "failed": failed,
    }


def known_review(row: Row) -> tuple[Review, Preference | None, str | None]:
    """Review, preference and failure of a row of PREFERENCES.

    The text stayed behind: of it only counts whether there is one.
    """
    user, item = row["user_id"], row["item_id"]
    text = "written" if row["written"] else ""
    review = Review(
        user, item, row["rating"], text, timestamp=row["timestamp"], helpful=row["helpful"]
    )
    if not row["readable"]:
        return review, None, row["failed"]
    return review, Preference(user, item, tuple(row["likes"]), tuple(row["dislikes"])), None


def profile_of(row: Row) -> Profile | None:
    """The profile of a row of PROFILES; None: it could not be made."""
    if not row["made"]:
        return None
    return Profile(row["subject"], row["key"], tuple(row["likes"]), tuple(row["dislikes"]))


def rating_row(
    pair: tuple[str, str],
    rating: float | None,
    said: RatingPrediction | None,
    failed: str | None,
    scale: RatingScale,
) -> Row:
    """A row of `ratings_schema`."""
    row: Row = {"user_id": pair[0], "item_id": pair[1], "rating": rating, "failed": failed}
    if said is None:
        return row
    levels: Mapping[str, float] = said.probabilities
    return {
        **row,
        PREDICTED: said.expected,
        "expected": said.expected,
        "modal": said.modal,
        "rationale": said.rationale,
        **{
            f"p_{level}": levels[label]
            for label, level in zip(scale.labels, scale.levels, strict=True)
        },
    }
