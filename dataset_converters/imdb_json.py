"""IMDb reviews as JSON, lists or lines, in one file or many.

The known forms: `review_id, reviewer, movie, rating ("8" or null), review_summary, review_date
("30 January 2019"), review_detail, helpful (["2", "5"])`, a list in each of several parts; and
`movie_id, user_id, rating, review_summary, review_date, review_text`, one object a line. Metadata
is a file of objects with `movie_id` or `tconst`, or with `title` and `year`, and IMDb's own tables.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from glob import glob
from itertools import islice
from pathlib import Path
from typing import Any

from dataset_converters import cleaning
from dataset_converters.blocks import place
from dataset_converters.cleaning import Dropped
from dataset_converters.fields import given, require
from dataset_converters.forms import Form
from dataset_converters.imdb import MONTHS, timestamp_of
from dataset_converters.imdb_tables import Asked, ImdbTables, WithTables, number_of, with_tables
from dataset_converters.read import as_id, as_number, as_text, beginning, numbered_records, records
from dataset_converters.values import Dates
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review

# Role -> names of its field; the first that has a value counts.
FIELDS: dict[str, tuple[str, ...]] = {
    "user": ("user_id", "reviewer_id", "reviewer", "user", "username", "user_name", "author"),
    "item": ("movie_id", "tconst", "imdb_id", "item_id", "movie", "film", "movie_title"),
    "rating": ("rating", "user_rating", "review_rating", "score", "stars"),
    "date": ("review_date", "date", "time", "timestamp"),
    "title": ("review_summary", "review_title", "title", "summary", "headline"),
    "text": ("review_detail", "review_text", "review", "text", "content"),
    "helpful": ("helpful", "helpful_votes", "votes"),
}
ENDINGS = (".json", ".jsonl", ".ndjson")
_FIRST = 1_000  # records that tell the fields
_TITLE_YEAR = re.compile(r"(?P<title>.*\S)\s*\([^()]*?(?P<year>\d{4})[^()]*\)\s*", re.ASCII)
_OF_TEN = re.compile(r"\s*(\S+)\s*/\s*10\s*")
_FOUND = re.compile(r"\s*([0-9][0-9,]*)\s+(?:out\s+)?of\b.*", re.DOTALL)
_DATES = Dates("", day_first=True)
_DAY = rf'"[0-9]{{1,2}} (?:{"|".join(MONTHS)}) [1-9][0-9]{{3}}"'


class ImdbJsonSource(WithTables):
    """A source: JSON files of reviews. `said` are lines for the report, after `items`."""

    def __init__(
        self, input_path: Path, metadata: Path | None = None, tables: ImdbTables | None = None
    ) -> None:
        """Find the files. Raises: UsageError if there is none, or if a field is missing."""
        self.files = json_files(input_path)
        if metadata is not None and not metadata.is_file():
            raise UsageError(f"metadata={metadata} is not a file; name a JSON or JSONL file")
        self.metadata, self.tables = metadata, tables
        self.files = [path for path in self.files if path != metadata]
        self.names = self._names()

    def reviews(self) -> Iterator[Review | Dropped]:
        """Yield every row of every file."""
        for _, found in self.placed():
            yield found

    def placed(self) -> Iterator[tuple[int, Review | Dropped]]:
        """Yield every row with its place."""
        for number, path in enumerate(self.files):
            for line, row in numbered_records(path):
                yield place(number, line), review(row)

    def _names(self) -> dict[str, str]:
        """Role -> the field that most of the first records have."""
        first: list[Mapping[str, Any]] = []
        for path in self.files:
            rows = (row for row in records(path) if isinstance(row, dict))
            first += islice(rows, _FIRST - len(first))
            if len(first) >= _FIRST:
                break
        require(first, {role: FIELDS[role] for role in _NEEDED}, self.files[0])
        counts = Counter(name for row in first for name in row)
        return {
            role: max(names, key=lambda name: counts[name])  # of equal ones the first
            for role, names in FIELDS.items()
        }

    def form(self) -> Form:
        """The form of most lines; `review` knows all."""
        keys: dict[str, str] = {}
        before: list[str] = []
        for role, name in self.names.items():
            keys[role] = f"$.{name}"
            for other in FIELDS[role][: FIELDS[role].index(name)]:
                keys[f"{role}_{other}"] = f"$.{other}"
                before.append(f"r.{role}_{other} IS NOT NULL")
        pair = r"""'\["?[0-9]{1,9}"?,.*\]'"""
        return Form(
            files=self.files,
            keys=keys,
            columns={
                "user": "id_of(r.user)",
                "item": "id_of(r.item)",
                "rating": r"""number_of(regexp_replace(r.rating, '^"([0-9.]+)"$', '\1'))""",
                "time": f"CASE WHEN regexp_full_match(r.date, '{_DAY}') THEN "
                "epoch(try_strptime(trim(r.date, '\"'), '%d %B %Y')) END",
                "helpful": f"CASE WHEN regexp_full_match(r.helpful, {pair}) "
                "THEN regexp_extract(r.helpful, '[0-9]+')::BIGINT ELSE count_of(r.helpful) END",
            },
            texts=(keys["title"], keys["text"]),
            review=review,
            unless=" OR ".join(["r.title IS NULL", "r.text IS NULL", *before]),
        )

    def items(self, wanted: AbstractSet[str]) -> Iterator[tuple[str, Mapping[str, str]] | Dropped]:
        """Yield id and description of the wanted movies: metadata first, then IMDb's tables."""
        found: dict[str, Mapping[str, Any]] = {}
        for row in records(self.metadata) if self.metadata else ():
            names = _item_names(row) if isinstance(row, dict) else []
            if not names:
                yield Dropped("no record with an item id")
            for name in names:
                if name in wanted:
                    found.setdefault(name, row if isinstance(row, dict) else {})
        known = {item: description(item, found.get(item, {})) for item in sorted(wanted)}
        wants = {item: asked(item, found.get(item, {})) for item in known}
        guessed = {item for item in known if not given(found.get(item, {}), _TITLES)}
        yield from with_tables(known, wants, self.tables, guessed)


_NEEDED = ("user", "item", "rating", "date", "text")


def asked(item: str, movie: Mapping[str, Any]) -> Asked:
    """What tells which movie of IMDb's tables an item is."""
    number = next((n for key in _NUMBERS if (n := number_of(as_id(movie.get(key))))), None)
    match = _TITLE_YEAR.fullmatch(item)
    title = as_text(movie.get("title")) or (match["title"] if match else None)
    year = as_text(movie.get("year")) or (match["year"] if match else None)
    return Asked(number or number_of(item), title, year)


_TITLES = ("title", "movie", "movie_title")
_NUMBERS = ("tconst", "movie_id", "imdb_id", "item_id")


def _item_names(row: Mapping[str, Any]) -> list[str]:
    """The ids by which reviews may name a movie of the metadata."""
    names = [(as_id(row.get(key)) or "").strip() for key in (*_NUMBERS, "movie", "title")]
    title, year = (as_text(row.get(key)) or "" for key in ("title", "year"))
    return [name for name in (*names, f"{title} ({year})" if title and year else "") if name]


def description(item: str, movie: Mapping[str, Any]) -> dict[str, str]:
    """The description columns of a movie; its id is its title if there is no other."""

    def text(*names: str) -> str:
        value = given(movie, names)
        if isinstance(value, list):
            return ", ".join(part for v in value if (part := as_text(v)))
        return as_text(value) or ""

    title, year = text(*_TITLES), text("year")
    return {
        "title": f"{title} ({year})" if title and year and year not in title else title or item,
        "genres": text("genres", "genre"),
        "directors": text("directors", "director"),
        "cast": text("cast", "actors", "stars"),
        "description": text("plot", "plot_summary", "description", "plot_synopsis"),
    }


def review(found: object) -> Review | Dropped:
    """One record of any of the forms."""
    if not isinstance(found, dict):
        return Dropped("malformed")
    values = {role: given(found, names) for role, names in FIELDS.items()}
    helpful, rating = values["helpful"], values["rating"]
    if isinstance(helpful, list):
        helpful = helpful[0] if helpful else 0
    if isinstance(helpful, str) and (match := _FOUND.fullmatch(helpful)):
        helpful = match[1]
    if isinstance(rating, str) and (match := _OF_TEN.fullmatch(rating)):
        rating = match[1]
    return cleaning.review_of(
        user=values["user"],
        item=values["item"],
        rating=rating,
        time=_seconds(values["date"]),
        title=values["title"],
        text=values["text"],
        helpful=helpful,
    )


def _seconds(value: object) -> float | None:
    """Seconds since 1970 of a date such as '30 January 2019' or '2019-01-30', or of a number."""
    seconds = timestamp_of(value)
    if seconds is None:
        seconds = as_number(value)
    return _DATES.seconds(value) if seconds is None else seconds


def json_files(input_path: Path) -> list[Path]:
    """The JSON files that a path names: one file, those of a folder, or of a pattern.

    Raises: UsageError if there is none.
    """
    if input_path.is_file():
        return [input_path]
    if input_path.is_dir():
        files = sorted(path for path in input_path.iterdir() if _is_json(path))
    else:
        files = sorted(filter(Path.is_file, map(Path, glob(str(input_path)))))
    if not files:
        raise UsageError(
            f"input_path={input_path} has no .csv and no .json file; name the folder of the "
            "reviews, or one file"
        )
    return files


def _is_json(path: Path) -> bool:
    """Whether a file holds reviews: metadata of the usual names does not."""
    bare = path.name.removesuffix(".gz").removesuffix(".zst")
    aside = "metadata" in bare.lower() or "details" in bare.lower() or bare.startswith(".")
    return bare.endswith(ENDINGS) and path.is_file() and not aside


def is_json(input_path: Path) -> bool:
    """Whether the reviews at a path are JSON: one file that begins so, a pattern, or a folder."""
    if input_path.is_file():
        head = beginning(input_path).lstrip()
        return head[:1] in (b"{", b"[") or not head
    if input_path.is_dir():
        folders = (input_path, *(path for path in input_path.iterdir() if path.is_dir()))
        csv = any(True for folder in folders for _ in folder.glob("*.csv"))
        return not csv and any(_is_json(path) for path in input_path.iterdir())
    return any(sign in input_path.name for sign in "*?[")
