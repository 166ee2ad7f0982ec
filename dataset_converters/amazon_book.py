"""Amazon reviews of 2014, 2018 and 2023, plain or .gz. The fields of a line tell the format.

2014 and 2018: reviewerID, asin, overall, unixReviewTime (s), summary, reviewText, and `helpful`
([up, total]) or `vote` ("1,204"). 2023: user_id, parent_asin, rating, timestamp (ms), title, text,
helpful_vote. Metadata lines of 2014 are Python literals, the others JSON. A file may also be one
JSON array. In every format, a time of 10^11 or more is in milliseconds, a smaller one in seconds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timezone
from itertools import chain, islice
from pathlib import Path
from typing import Any

from dataset_converters.cleaning import Dropped, review_of
from dataset_converters.fields import filled, require
from dataset_converters.forms import Form, ItemForm
from dataset_converters.read import as_id, as_text, files_of, record, records
from recbole_exp3rt.records import Review

_ROLE = re.compile(r"(?<!\s)\s*\((?:Author|Artist|Composer|Narrator|Editor)[^)]*\)")
_ITEM = (
    "id_of(CASE WHEN is_absent(r.parent_asin) OR r.parent_asin = '\"\"' "
    "THEN r.asin ELSE r.parent_asin END)"
)
_DAY = re.compile(r"\s*(\d{1,2}) (\d{1,2}), (\d{4})\s*", re.ASCII)
_PAGE_SCRIPT = "getTime()"  # in titles of 2018 that are a piece of the shop's page
_BYLINE = re.compile(r"^(?:by\s+|Visit Amazon's\s+)|(?<!\s)\s+Page$")


class AmazonSource:
    """A source: the reviews of some files, with the metadata of others."""

    def __init__(
        self, reviews: Path | Sequence[Path], meta: Path | Sequence[Path] | None = None
    ) -> None:
        """Use the files `reviews` and `meta`, which may be patterns such as `*.jsonl.gz`.

        Raises: UsageError if one does not exist.
        """
        meta = [] if meta is None else meta
        self.files = files_of([reviews] if isinstance(reviews, Path) else reviews, "reviews")
        self.meta_files = files_of([meta] if isinstance(meta, Path) else meta, "meta")

    @property
    def inputs(self) -> list[Path]:
        """All files that are read."""
        return [*self.files, *self.meta_files]

    def reviews(self) -> Iterator[Review | Dropped]:
        """Yield every row of the reviews file."""
        return map(review, self._records())

    def _records(self) -> Iterator[object]:
        return chain.from_iterable(map(records, self.files))

    def form(self) -> Form:
        """The form of most lines, by the first of them; `review` knows all forms."""
        rows = (row for row in self._records() if isinstance(row, dict))
        filled(self.files)
        if first := list(islice(rows, 100)):
            require(first, _NEEDED, self.files[0])
        kinds = Counter("reviewerID" in row for row in first)
        make = _form_2014 if kinds[True] > kinds[False] else _form_2023
        return make(self.files)

    def items(self, wanted: AbstractSet[str]) -> Iterator[tuple[str, Mapping[str, str]] | Dropped]:
        """Yield id and description of the wanted items in the metadata file."""
        for found in chain.from_iterable(map(records, self.meta_files)):
            described = describe(found)
            if isinstance(described, Dropped) or described[0] in wanted:
                yield described

    def item_form(self) -> ItemForm:
        """Which lines of the metadata are about an item."""
        keys = {name: f"$.{name}" for name in ("parent_asin", "asin")}
        return ItemForm(self.meta_files, keys, _ITEM, describe)


_NEEDED = {
    "user": ("reviewerID", "user_id"),
    "item": ("asin", "parent_asin"),
    "rating": ("overall", "rating"),
    "time": ("unixReviewTime", "timestamp", "reviewTime"),
}


def describe(found: object) -> tuple[str, Mapping[str, str]] | Dropped:
    """The item's id and the description columns of a record of metadata."""
    row = found if isinstance(found, dict) else {}
    item = (as_id(_first(row, "parent_asin", "asin")) or "").strip()
    return (item, _description(row)) if item else Dropped("no record with an item id")


def review(found: object) -> Review | Dropped:
    """One record of any of the forms."""
    row = found if isinstance(found, dict) else {}
    if "reviewerID" in row:
        return _review_2014(row)
    return _review_2023(row) if "user_id" in row else Dropped("malformed")


def _form_2014(files: Sequence[Path]) -> Form:
    names = ("reviewerID", "asin", "overall", "unixReviewTime", "helpful", "vote")
    pair = r"regexp_full_match(r.helpful, '\[[0-9]{1,9}(,[0-9]{1,9})*\]')"
    return Form(
        files=files,
        keys={name: f"$.{name}" for name in names},
        columns={
            "user": "id_of(r.reviewerID)",
            "item": "id_of(r.asin)",
            "rating": "number_of(r.overall)",
            "time": "seconds(number_of(r.unixReviewTime))",
            "helpful": f"CASE WHEN {pair} THEN regexp_extract(r.helpful, '[0-9]+')::BIGINT "
            "WHEN r.helpful IS NULL THEN count_of(r.vote) END",
        },
        texts=("$.summary", "$.reviewText"),
        review=review,
    )


def _form_2023(files: Sequence[Path]) -> Form:
    names = ("user_id", "parent_asin", "asin", "rating", "timestamp", "helpful_vote", "reviewerID")
    return Form(
        files=files,
        keys={name: f"$.{name}" for name in names},
        columns={
            "user": "id_of(r.user_id)",
            "item": _ITEM,
            "rating": "number_of(r.rating)",
            "time": "seconds(number_of(r.timestamp))",
            "helpful": "count_of(r.helpful_vote)",
        },
        texts=("$.title", "$.text"),
        review=review,
        unless="r.reviewerID IS NOT NULL",
    )


def _first(row: Mapping[str, Any], *names: str) -> Any:
    """The first value of `names` that is not missing. None and '' are missing, 0 is not."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _review_2014(row: Mapping[str, Any]) -> Review | Dropped:
    helpful = row.get("helpful", row.get("vote", 0))
    return review_of(
        user=row["reviewerID"],
        item=row.get("asin"),
        rating=row.get("overall"),
        time=_time_2018(row) if row.get("unixReviewTime") is None else row["unixReviewTime"],
        title=row.get("summary"),
        text=row.get("reviewText"),
        helpful=helpful[0] if isinstance(helpful, list) and helpful else helpful,
    )


def _time_2018(row: Mapping[str, Any]) -> float | None:
    """Seconds since 1970 of a `reviewTime` such as `03 4, 2015`, where there is no other."""
    match = _DAY.fullmatch(str(row.get("reviewTime")))
    try:
        month, day, year = map(int, match.groups() if match else ())
        return datetime(year, month, day, tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None


def _review_2023(row: Mapping[str, Any]) -> Review | Dropped:
    return review_of(
        user=row["user_id"],
        item=_first(row, "parent_asin", "asin"),
        rating=row.get("rating"),
        time=row.get("timestamp"),
        title=row.get("title"),
        text=row.get("text"),
        helpful=row.get("helpful_vote", 0),
    )


def _description(row: Mapping[str, Any]) -> dict[str, str]:
    """The description columns of a metadata row."""
    title = as_text(row.get("title")) or ""
    return {
        "title": "" if _PAGE_SCRIPT in title else title,
        "categories": ", ".join(_texts(row.get("categories") or row.get("category"))),
        "author": _author(row),
        "description": " ".join(_texts(row.get("description"))),
    }


def _texts(value: object) -> list[str]:
    """All different texts of a text, a list or a list of lists, in their order."""
    found, rest = dict[str, None](), [value]
    while rest:
        part = rest.pop()
        if isinstance(part, list):
            rest += reversed(part)
        elif isinstance(part, str) and part.strip():
            found[part.strip()] = None
    return list(found)


def _author(row: Mapping[str, Any]) -> str:
    """2023: a record with a name, or the details, or a store like 'X (Author)'. 2018: a brand."""
    author = row.get("author")
    name = record(author).get("name") or (author if isinstance(author, str) else "")
    details = record(row.get("details"))
    found = ", ".join(_texts(name or details.get("Author") or row.get("store") or row.get("brand")))
    return _BYLINE.sub("", _ROLE.sub("", found)).strip(" ,")
