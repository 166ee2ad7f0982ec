"""Reviews, preferences, profiles and ratings as rows of parquet tables, and back. Pure."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from recbole_exp3rt.records import Preference, Profile, RatingPrediction, Review
from recbole_exp3rt.scale import RatingScale

TEXT, NUMBER, TEXTS = pa.string(), pa.float64(), pa.list_(pa.string())
PAIR = {"user_id": TEXT, "item_id": TEXT, "rating": NUMBER}
LISTS = {"likes": TEXTS, "dislikes": TEXTS}
TIMED = {"timestamp": NUMBER, "helpful": pa.int64()}
PAIRS = pa.schema(PAIR)
REVIEWS = pa.schema({**PAIR, "title": TEXT, "text": TEXT, **TIMED})
ITEMS = pa.schema({"item_id": TEXT, "labels": TEXTS, "values": TEXTS})
PREFERENCES = pa.schema(
    {**PAIR, **TIMED, "written": pa.bool_(), "readable": pa.bool_(), **LISTS, "failed": TEXT}
)
PROFILES = pa.schema(
    {"subject": TEXT, "key": TEXT, "without": TEXT, **LISTS, "made_of": TEXTS}
    | {"reviews": pa.int64(), "average": NUMBER, "made": pa.bool_(), "failed": TEXT}
)
GROUPED = pa.schema({"key": TEXT, "record": pa.binary()})
Row = dict[str, Any]
PREDICTED = "EXP3RT"  # the column of predictions, as in the exports of a run


def ratings_schema(scale: RatingScale) -> pa.Schema:
    """The columns of `ratings.parquet`: those that a run exports, and why a pair has no rating."""
    said = {PREDICTED: NUMBER, "expected": NUMBER, "modal": NUMBER, "rationale": TEXT}
    levels = {f"p_{level}": NUMBER for level in scale.levels}
    return pa.schema({**PAIR, **said, **levels, "failed": TEXT})


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
    labels = zip(scale.labels, scale.levels, strict=True)
    return {
        **row,
        PREDICTED: said.expected,
        "expected": said.expected,
        "modal": said.modal,
        "rationale": said.rationale,
        **{f"p_{level}": said.probabilities[label] for label, level in labels},
    }
