"""IMDb Movie Reviews Dataset (Pal, Barigidad, Mustafi 2020): one CSV file a movie.

The file name is `Title Year.csv`, with `_` for a colon in the title. Metadata is a JSONL file with
`file`, `tconst`, `title`, `year`, `genres`, `directors`, `cast`, `plot`. For a movie without a line
in it, the file name is the item id and the title.

If a quotation mark is not closed, a CSV reader reads the following rows as one cell. `_next_row`
finds a line that begins like a row inside another row; then only the damaged row is dropped, and
reading goes on with that line.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from dataset_converters import cleaning
from dataset_converters.blocks import place
from dataset_converters.cleaning import Dropped
from dataset_converters.columns import listed
from dataset_converters.imdb_tables import Asked, ImdbTables, WithTables, number_of, with_tables
from dataset_converters.read import Lines, as_id, as_number, as_text, lines, parsed
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review

COLUMNS = ("username", "rating", "helpful", "date", "title", "review")
METADATA = "movie_metadata.jsonl"
MONTHS = [
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
_DATE = re.compile(r"(?P<day>[0-9]{1,2})\s+(?P<month>[A-Za-z]+)\s+(?P<year>[0-9]{1,4})")
_BEGINNING = 100_000  # characters; Python's reader refuses a cell beyond 131,072
_LONGEST_ROW = 1_000  # lines
_LOOKED_AT = 20  # files, and lines of each, in which one header must be
_A_DATE = re.compile(rf"""(?:^|,)"?{_DATE.pattern}"?(?:,|$)""")
_COUNT = re.compile(r"[0-9][0-9,]*")
_UNCLOSED = "quotation mark that is not closed"
_TITLE_YEAR = re.compile(r"(?P<title>.*\S)\s+(?P<year>\d{4})")


class ImdbSource(WithTables):
    """A source: the CSV files in `input_path`, or in the first folder in it that has some."""

    def __init__(
        self, input_path: Path, metadata: Path | None = None, tables: ImdbTables | None = None
    ) -> None:
        """Find the files and read `metadata`; None: a file of the usual name beside them.

        `tables` fill in what the metadata does not say.
        Raises: UsageError if there is no CSV file, or if `metadata` is not a readable file.
        """
        self.files = _csv_files(input_path)
        beside = [f for f in (input_path / METADATA, input_path.parent / METADATA) if f.exists()]
        self.metadata, self.tables = metadata or (beside[0] if beside else None), tables
        self.movies = _read_metadata(self.metadata)
        _check_header(self.files)

    def item_id(self, file: Path) -> str:
        """The `tconst` of a movie's metadata; else its file name without the ending."""
        stem = _nfc(file.stem)
        return (as_id(self.movies.get(stem, {}).get("tconst")) or "").strip() or stem.strip()

    def reviews(self) -> Iterator[Review | Dropped]:
        """Yield every row of every CSV file."""
        return (review for _, review in self.placed())

    def placed(self) -> Iterator[tuple[int, Review | Dropped]]:
        """Yield every row with the place of its first line."""
        for number, path in enumerate(self.files):
            for line, review in _read_movie(lines(path), self.item_id(path)):
                yield place(number, line), review

    def items(self, wanted: AbstractSet[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Yield id and description of the wanted movies."""
        known: dict[str, dict[str, str]] = {}
        asked: dict[str, Asked] = {}
        guessed: set[str] = set()
        for path in self.files:
            item, stem = self.item_id(path), _nfc(path.stem)
            if item in wanted and item not in known:
                movie = self.movies.get(stem, {})
                known[item] = _description(stem, movie)
                asked[item] = Asked(number_of(movie.get("tconst")), *_title_and_year(stem, movie))
                guessed |= set() if as_text(movie.get("title")) else {item}
        yield from with_tables(known, asked, self.tables, guessed)


def _csv_files(input_path: Path) -> list[Path]:
    """The CSV files of the first folder that has some, sorted."""
    if not input_path.is_dir():
        raise UsageError(
            f"input_path={input_path} is not a folder; name the one with the CSV files"
        )
    for folder in (input_path, *sorted(path for path in input_path.iterdir() if path.is_dir())):
        if files := sorted(
            f for f in folder.glob("*.csv") if f.is_file() and not f.name.startswith(".")
        ):
            return files
    raise UsageError(f"input_path={input_path} has no .csv file; name the folder of the reviews")


def _check_header(files: Sequence[Path]) -> None:
    """Raises: UsageError, with the columns missing, if no file begins as reviews do."""
    first: tuple[Path, list[str]] | None = None
    for path in files[:_LOOKED_AT]:
        for line in islice(lines(path), _LOOKED_AT):
            try:
                cells = next(csv.reader([line[:_BEGINNING]]), [])
            except csv.Error:
                continue
            if set(COLUMNS) <= set(cells):
                return
            if cells and first is None:
                first = path, cells
    if first:
        lacks = [name for name in COLUMNS if name not in first[1]]
        raise UsageError(
            f"{first[0]} lacks the column {', '.join(lacks)}; its first line has "
            f"{listed(first[1])}; for other columns see `exp3rt convert table --help`"
        )


def _read_metadata(path: Path | None) -> dict[str, dict[str, Any]]:
    """File name without .csv -> metadata."""
    if path is None:
        return {}
    if not path.is_file():
        raise UsageError(f"metadata={path} is not a file; name a JSONL file")
    movies = {}
    for number, line in enumerate(lines(path), start=1):
        if "\ufffd" in line:
            raise UsageError(f"metadata={path} is not UTF-8 (line {number}); save it as UTF-8")
        movie = parsed(line)
        file = as_id(movie.get("file")) if isinstance(movie, dict) else None
        if not isinstance(movie, dict) or file is None:
            raise UsageError(
                f"{path} line {number} is not a JSON object with 'file'; correct or remove it"
            )
        movies[_nfc(file.removesuffix(".csv"))] = movie
    return movies


def _read_movie(text: Iterable[str], item: str) -> Iterator[tuple[int, Review | Dropped]]:
    """Yield the rows of one CSV file, and the numbers of their first lines."""
    header: list[str] | None = None
    lines = Lines(text)
    while True:
        lines.taken = []
        begin = lines.number + 1
        try:
            cells = next(csv.reader(lines), None)
        except csv.Error:
            cells = None
        if not lines.taken:
            return
        if len(lines.taken) == 1 and lines.taken[0].isspace():
            continue
        if header is None:
            if set(COLUMNS) <= set(cells or ()):
                header = cells
            else:
                yield begin, Dropped("malformed")
        elif next_row := _next_row(lines.taken, header):
            lines.give_back(next_row)
            yield begin, Dropped(_UNCLOSED)
        elif (cells is None or _begins(lines.taken[0], header)) and _goes_on(lines, header):
            yield begin, Dropped(_UNCLOSED)
        elif cells is None or len(cells) != len(header):
            yield begin, Dropped("malformed")
        else:
            row = dict(zip(header, cells, strict=True))
            intact = _is_unchanged(row["username"], "".join(lines.taken))
            review = review_of(row, row["username"], item) if intact else Dropped("malformed")
            yield begin, review


def _next_row(taken: Sequence[str], header: Sequence[str]) -> int | None:
    """The number of the line that begins another row, in lines that were read as one row, or None.

    If the lines are valid CSV, a line must have all three signs of a row, because a text can
    contain a line that looks similar.
    """
    if len(taken) == 1:
        return None
    try:
        rows = list(csv.reader(taken, strict=True))
        valid = len(rows) == 1 and len(rows[0]) == len(header)
    except csv.Error:
        valid = False
    inner = enumerate(taken[1:], start=1)
    if valid:
        return next((n for n, line in inner if _signs(line, header) == 3), None)
    return next((n for n, line in inner if _begins(line, header)), None)


def _goes_on(lines: Lines, header: Sequence[str]) -> bool:
    """Whether the row goes on in the next lines, because its opening quotation mark is missing.

    If it does, these lines are read and skipped. They end with a line that has an odd number of
    quotation marks, unless another row begins before or a valid row follows.
    """
    before, lines.taken = lines.taken, []
    for line in lines:
        if _begins(line, header) or len(lines.taken) > _LONGEST_ROW:
            break
        if line.count('"') % 2:
            tail = len(lines.taken)
            if not any(_is_row(lines.again(since), header) for since in range(tail)):
                lines.again(tail)
                return True
            break
    lines.again(0)
    lines.taken = before
    return False


def _is_row(lines: Iterable[str], header: Sequence[str]) -> bool:
    """Whether the lines begin with a valid row."""
    try:
        return len(next(csv.reader(lines, strict=True), [])) == len(header)
    except csv.Error:
        return False


def _begins(line: str, header: Sequence[str]) -> bool:
    """Whether a row begins here; one of its cells or quotation marks may be damaged."""
    return _signs(line, header) >= 2 or _A_DATE.search(line) is not None


def _signs(line: str, header: Sequence[str]) -> int:
    """How many of rating, votes and date are in their columns, if a row begins here: 0 to 3."""
    try:
        cells = next(csv.reader([line[:_BEGINNING]]), [])
    except csv.Error:
        return 0
    if not cells or not _is_unchanged(cells[0], line):
        return 0
    row = dict(zip(header, cells, strict=False))
    rating = row.get("rating", " ")
    return sum(
        [
            rating == rating.strip() and (as_number(rating) is not None or rating == "Null"),
            _COUNT.fullmatch(row.get("helpful", "")) is not None,
            timestamp_of(row.get("date", "")) is not None,
        ]
    )


def _is_unchanged(cell: str, line: str) -> bool:
    """Whether a cell is in the line as it was read, without a stray quotation mark."""
    quoted = '"' + cell.replace('"', '""') + '"'
    return quoted in line or ('"' not in cell and cell in line)


def review_of(row: Mapping[str, object], user: object, item: object) -> Review | Dropped:
    """Make a review of one row; `rating` and `date` are texts like '8' and '1 May 2019'."""
    return cleaning.review_of(
        user=user,
        item=item,
        rating=row.get("rating"),
        time=timestamp_of(row.get("date")),
        title=row.get("title"),
        text=row.get("review"),
        helpful=row.get("helpful", 0),
    )


def timestamp_of(date: object) -> float | None:
    """Seconds since 1970, UTC, of a date like '30 January 2019'; None for other values."""
    match = _DATE.fullmatch(date.strip()) if isinstance(date, str) else None
    if match is None or match["month"] not in MONTHS:
        return None
    month = MONTHS.index(match["month"]) + 1
    try:
        moment = datetime(int(match["year"]), month, int(match["day"]), tzinfo=timezone.utc)
    except ValueError:
        return None
    return moment.timestamp()


def _description(stem: str, movie: Mapping[str, Any]) -> dict[str, str]:
    """The description columns of a movie. Title and year can come from the file name."""
    texts = {key: as_text(value) or "" for key, value in movie.items()}
    title, year = _title_and_year(stem, movie)
    return {
        "title": f"{title} ({year})" if year else title,
        "genres": texts.get("genres", ""),
        "directors": texts.get("directors", ""),
        "cast": texts.get("cast", ""),
        "description": texts.get("plot", ""),
    }


def _title_and_year(stem: str, movie: Mapping[str, Any]) -> tuple[str, str]:
    """Those of the metadata, else those in the file name."""
    match = _TITLE_YEAR.fullmatch(stem)
    named = (match["title"] if match else stem).replace("_", ":")
    year = as_text(movie.get("year")) or (match["year"] if match else "")
    return as_text(movie.get("title")) or named, year


def _nfc(name: str) -> str:
    """Normalise a name, because some file systems write accents as separate characters."""
    return unicodedata.normalize("NFC", name)
