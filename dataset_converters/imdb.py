"""IMDb Movie Reviews Dataset (Pal, Barigidad, Mustafi 2020): one CSV file a movie.

A movie is known by its file's name, `Title Year.csv`, with `_` where the title has a colon.
Metadata is a JSONL file with `file`, `tconst`, `title`, `year`, `genres`, `directors`, `cast`,
`plot`; a movie without a line there goes by its file's name.
"""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dataset_converters.base import Dropped, plain_text, whole_number
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review

COLUMNS = ("username", "rating", "helpful", "date", "title", "review")
METADATA = "movie_metadata.jsonl"
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_TITLE_YEAR = re.compile(r"(?P<title>.*\S)\s+(?P<year>\d{4})")


class ImdbSource:
    """Reviews of the CSV files in `input_path`, or in the one folder below it that has some.

    Raises: UsageError if there is no CSV file, or no metadata file where one is named.
    """

    def __init__(self, input_path: Path, metadata: Path | None = None) -> None:
        self.files = _csv_files(input_path)
        beside = [f for f in (input_path / METADATA, input_path.parent / METADATA) if f.exists()]
        self.movies = _read_metadata(metadata or (beside[0] if beside else None))

    def item_id(self, file: Path) -> str:
        stem = _nfc(file.stem)
        return str(self.movies.get(stem, {}).get("tconst") or stem)

    def reviews(self) -> Iterator[Review | Dropped]:
        for path in self.files:
            # A broken byte or quotation mark costs its own row, never the file.
            with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
                yield from _read_movie(csv.reader(file), self.item_id(path))

    def items(self, wanted: AbstractSet[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
        for path in self.files:
            item = self.item_id(path)
            if item in wanted:
                yield item, _description(_nfc(path.stem), self.movies.get(_nfc(path.stem), {}))


def _csv_files(input_path: Path) -> list[Path]:
    if not input_path.is_dir():
        raise UsageError(
            f"input_path={input_path} is not a folder; name the one with the CSV files"
        )
    for folder in (input_path, *sorted(path for path in input_path.iterdir() if path.is_dir())):
        if files := sorted(
            f for f in folder.glob("*.csv") if f.is_file() and not f.name.startswith(".")
        ):
            return files
    raise UsageError(f"input_path={input_path} holds no .csv file; name the folder of the reviews")


def _read_metadata(path: Path | None) -> dict[str, dict[str, Any]]:
    """File stem -> metadata."""
    if path is None:
        return {}
    movies = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"metadata={path}: {error.strerror}; name a JSONL file") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"metadata={path} is not UTF-8 ({error}); save it as UTF-8") from None
    for number, line in enumerate(lines, start=1):
        try:
            movie = json.loads(line)
            movies[_nfc(str(movie["file"]).removesuffix(".csv"))] = movie
        except (ValueError, KeyError, TypeError):
            raise UsageError(
                f"{path} line {number} is no JSON object with 'file'; mend or remove it"
            ) from None
    return movies


def _read_movie(rows: Iterator[list[str]], item: str) -> Iterator[Review | Dropped]:
    header: list[str] | None = None
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield Dropped("malformed")
            continue
        if header is None and set(COLUMNS) <= set(cells):
            header = cells
        elif header is None or len(cells) != len(header):
            yield Dropped("malformed")
        else:
            row = dict(zip(header, cells, strict=True))
            yield review_of(row, row["username"], item)


def review_of(row: Mapping[str, object], user: object, item: object) -> Review | Dropped:
    """One row in this source's columns; `rating` and `date` are texts like '8', '1 May 2019'."""
    written = str(row.get("rating", "")).strip()
    if written in ("", "Null", "None"):
        return Dropped("unrated")
    timestamp = _timestamp(str(row.get("date", "")))
    if timestamp is None:
        return Dropped("unreadable date")
    try:
        rating = float(written)
    except ValueError:
        return Dropped("malformed")
    return Review(
        user=str(user).strip(),
        item=str(item).strip(),
        rating=rating,
        text=plain_text(str(row.get("review", ""))),
        title=" ".join(plain_text(str(row.get("title", ""))).split()),
        timestamp=timestamp,
        helpful=whole_number(row.get("helpful", 0)),
    )


def _timestamp(date: str) -> float | None:
    """Seconds since 1970, UTC, of a day written like '30 January 2019', in any locale."""
    try:
        day, month, year = date.split()
        moment = datetime(int(year), _MONTHS.index(month) + 1, int(day), tzinfo=timezone.utc)
    except ValueError:
        return None
    return moment.timestamp()


def _description(stem: str, movie: Mapping[str, Any]) -> dict[str, str]:
    match = _TITLE_YEAR.fullmatch(stem)
    title = movie.get("title") or (match["title"] if match else stem).replace("_", ":")
    year = movie.get("year") or (match["year"] if match else "")
    return {
        "title": f"{title} ({year})" if year else str(title),
        "genres": str(movie.get("genres") or ""),
        "directors": str(movie.get("directors") or ""),
        "cast": str(movie.get("cast") or ""),
        "description": str(movie.get("plot") or ""),
    }


def _nfc(name: str) -> str:
    """One spelling for names that some file systems write with combining accents."""
    return unicodedata.normalize("NFC", name)
