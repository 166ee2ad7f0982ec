"""Amazon reviews of 2014, 2018 and 2023, plain or .gz; the format shows in each line's fields.

2014 and 2018: reviewerID, asin, overall, unixReviewTime (s), summary, reviewText, and `helpful`
([up, total]) or `vote` ("1,204"). 2023: user_id, parent_asin, rating, timestamp (ms), title, text,
helpful_vote. Metadata lines of 2014 are Python literals, the others JSON.
"""

from __future__ import annotations

import ast
import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import IO, Any

from dataset_converters.base import Dropped, plain_text, whole_number
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review

_ROLE = re.compile(r"\s*\((?:Author|Artist|Composer|Narrator|Editor)[^)]*\)")
_BYLINE = re.compile(r"^(?:by\s+|Visit Amazon's\s+)|\s+Page$")


class AmazonSource:
    """Reviews of one file, with the metadata of another.

    Raises: UsageError if a file does not exist.
    """

    def __init__(self, reviews: Path, meta: Path | None = None) -> None:
        self.reviews_path, self.meta_path = reviews, meta
        for option, path in (("reviews", reviews), ("meta", meta)):
            if path is not None and not path.is_file():
                raise UsageError(f"{option}={path} is not a file; name a .json, .jsonl or .gz file")

    def reviews(self) -> Iterator[Review | Dropped]:
        for line in _lines(self.reviews_path):
            row = _record(line)
            if "reviewerID" in row:
                yield _review_2014(row)
            elif "user_id" in row:
                yield _review_2023(row)
            else:
                yield Dropped("malformed")

    def items(self, wanted: AbstractSet[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
        for line in _lines(self.meta_path) if self.meta_path else ():
            row = _record(line)
            item = str(row.get("parent_asin") or row.get("asin") or "")
            if item in wanted:
                yield item, _description(row)


def _lines(path: Path) -> Iterator[str]:
    """Raises: UsageError if a .gz file is broken."""
    try:
        with _open(path) as file:
            yield from (line for line in file if not line.isspace())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: {error}; download it again") from None


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


def _record(value: object) -> dict[str, Any]:
    """A record, written as JSON or as a Python literal; empty where there is none."""
    if not isinstance(value, str):
        return value if isinstance(value, dict) else {}
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return found if isinstance(found, dict) else {}
    return {}


def _review_2014(row: Mapping[str, Any]) -> Review | Dropped:
    helpful = row.get("helpful", row.get("vote", 0))
    return _review(
        user=row["reviewerID"],
        item=row.get("asin"),
        rating=row.get("overall"),
        seconds=row.get("unixReviewTime"),
        title=row.get("summary"),
        text=row.get("reviewText"),
        helpful=helpful[0] if isinstance(helpful, list) and helpful else helpful,
    )


def _review_2023(row: Mapping[str, Any]) -> Review | Dropped:
    milliseconds = _number(row.get("timestamp"))
    return _review(
        user=row["user_id"],
        item=row.get("parent_asin") or row.get("asin"),
        rating=row.get("rating"),
        seconds=None if milliseconds is None else milliseconds / 1000,
        title=row.get("title"),
        text=row.get("text"),
        helpful=row.get("helpful_vote", 0),
    )


def _review(
    user: object,
    item: object,
    rating: object,
    seconds: object,
    title: object,
    text: object,
    helpful: object,
) -> Review | Dropped:
    if rating is None or rating == "":
        return Dropped("unrated")
    stars, timestamp = _number(rating), _number(seconds)
    if stars is None or user is None or item is None:
        return Dropped("malformed")
    if timestamp is None:
        return Dropped("unreadable date")
    return Review(
        user=str(user).strip(),
        item=str(item).strip(),
        rating=stars,
        text=plain_text(str(text or "")),
        title=" ".join(plain_text(str(title or "")).split()),
        timestamp=timestamp,
        helpful=whole_number(helpful),
    )


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _description(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "title": str(row.get("title") or ""),
        "categories": ", ".join(_texts(row.get("categories") or row.get("category"))),
        "author": _author(row),
        "description": " ".join(_texts(row.get("description"))),
    }


def _texts(value: object) -> list[str]:
    """All texts of a text, a list or a list of lists, each once, in their order."""
    if isinstance(value, list):
        return list(dict.fromkeys(text for part in value for text in _texts(part)))
    return [value.strip()] if isinstance(value, str) and value.strip() else []


def _author(row: Mapping[str, Any]) -> str:
    """2023 has a record with a name, or the details, or a store like 'X (Author)'; 2018 a brand."""
    author = row.get("author")
    name = _record(author).get("name") or (author if isinstance(author, str) else "")
    details = _record(row.get("details"))
    found = name or details.get("Author") or row.get("store") or row.get("brand") or ""
    return _BYLINE.sub("", _ROLE.sub("", str(found))).strip(" ,")
