"""IMDb's non-commercial tables (title.basics.tsv …) as the metadata of movies.

A movie is found by its `tconst`, else by title and year: among titles that are equal but for case,
accents' form, punctuation and blanks, films come before series, then the one with most votes. There
is no plot in these tables. A missing value is `\\N`. https://developer.imdb.com/non-commercial-datasets
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataset_converters.blocks import blocks
from dataset_converters.engine import Engine
from dataset_converters.read import beginning
from recbole_exp3rt.errors import UsageError

CAST = 3  # names, as in the descriptions that the paper's authors released
NAMES: tuple[str, ...] = (
    "title.basics",
    "title.ratings",
    "title.akas",
    "title.crew",
    "title.principals",
)
NAMES += ("name.basics",)
_TYPES = ("movie", "tvMovie", "tvSeries", "tvMiniSeries", "tvSpecial", "video", "short", "tvShort")
_NUMBER = re.compile(r"(?:.*\D)?(tt\d{7,})(?:\D.*)?|(\d{6,8})", re.ASCII)
_MACRO = (
    "CREATE MACRO title_key(t) AS "
    r"regexp_replace(lower(nfc_normalize(t)), '[^\p{L}\p{M}\p{N}]', '', 'g')"
)


@dataclass(frozen=True)
class Asked:
    """What is known of an item whose description is looked for; None: nothing."""

    number: str | None
    title: str | None
    year: str | None


def number_of(text: object) -> str | None:
    """The tconst in an id such as `tt0111161`, `/title/tt0111161/` or `0111161`, or None."""
    match = _NUMBER.fullmatch(text.strip()) if isinstance(text, str) else None
    return (match[1] or f"tt{match[2]:>07}") if match else None


class WithTables:
    """What sources share whose metadata may be completed by IMDb's tables."""

    files: list[Path]
    metadata: Path | None
    tables: ImdbTables | None

    @property
    def inputs(self) -> list[Path]:
        """All files that are read."""
        tables = self.tables.files.values() if self.tables else ()
        return [*self.files, *([self.metadata] if self.metadata else []), *tables]

    @property
    def said(self) -> list[str]:
        """What was found in IMDb's tables."""
        return self.tables.said if self.tables else []


class ImdbTables:
    """The tables of one folder, plain or packed. `said` are lines about what was found."""

    def __init__(self, folder: Path) -> None:
        """Find the files. Raises: UsageError without title.basics, or if a column is missing."""
        if not folder.is_dir():
            raise UsageError(
                f"imdb_tsv={folder} is not a folder; name the one with title.basics.tsv"
            )
        found = {name: _file(folder, name) for name in NAMES}
        self.files = {name: path for name, path in found.items() if path}
        if "title.basics" not in self.files:
            raise UsageError(
                f"imdb_tsv={folder} has no title.basics.tsv, plain or .gz; name the folder that has"
            )
        self.columns = {name: _header(path) for name, path in self.files.items()}
        for name, wanted in _WANTED.items():
            if name in self.files and (lacks := [c for c in wanted if c not in self.columns[name]]):
                raise UsageError(
                    f"{self.files[name]} lacks the column {', '.join(lacks)}; its columns are "
                    f"{', '.join(self.columns[name])}"
                )
        self.said: list[str] = []

    def find(self, asked: Mapping[str, Asked]) -> dict[str, dict[str, str]]:
        """Item -> title, genres, directors, cast, of the items that are found.

        Raises: UsageError if a file cannot be read.
        """
        with tempfile.TemporaryDirectory() as folder:
            engine = Engine(Path(folder))
            try:
                return self._find(engine, asked)
            finally:
                engine.close()

    def _find(self, engine: Engine, asked: Mapping[str, Asked]) -> dict[str, dict[str, str]]:
        engine.sql(_MACRO)
        values = [(item, a.number, a.title, a.year) for item, a in asked.items()]
        columns = [pa.array(list(part), pa.string()) for part in zip(*values, strict=True)]
        names = ["item", "tconst", "title", "year"]
        empty: list[pa.Array] = [pa.array([], pa.string())] * 4
        table = pa.table(dict(zip(names, columns or empty, strict=True)))
        engine.sql(
            "CREATE TABLE asked AS SELECT item, tconst, nullif(title_key(title), '') AS key, year "
            "FROM told",
            told=table,
        )
        self._candidates(engine)
        ((items, by_number),) = engine.sql(
            "SELECT count(*), count(*) FILTER (WHERE numbered) FROM chosen"
        )
        self._people(engine)
        found = {
            item: {"title": f"{title} ({year})" if year else title, "genres": genres or ""}
            for item, title, year, genres in engine.sql(
                "SELECT item, title, year, replace(genres, ',', ', ') FROM chosen "
                "WHERE title IS NOT NULL"
            )
        }
        for column in ("directors", "cast"):
            for item, people in engine.sql(
                "SELECT item, string_agg(name, ', ' ORDER BY ordering) FROM chosen "
                "JOIN people USING (tconst) JOIN names USING (nconst) WHERE part = ? GROUP BY item",
                [column],
            ):
                if item in found:
                    found[item][column] = people
        lacking = [name for name in NAMES if name not in self.files and name != "title.akas"]
        without = f"; without {', '.join(lacking)}" if lacking else ""
        self.said = [
            f"  IMDb tables: {items:,} of {len(asked):,} items found, {by_number:,} by number, "
            f"{items - by_number:,} by title and year{without}"
        ]
        return found

    def _candidates(self, engine: Engine) -> None:
        """Make `chosen`: item, tconst, title, year, genres, numbered; one row an item."""
        self._take(
            engine,
            "title.akas",
            ("titleId", "title"),
            "SELECT titleId AS tconst, title_key(title) AS key FROM row "
            "WHERE title_key(title) IN (SELECT key FROM asked WHERE year IS NOT NULL)",
            "akas (tconst VARCHAR, key VARCHAR)",
        )
        series = ("tconst", "titleType", "primaryTitle", "originalTitle", "startYear", "genres")
        self._take(
            engine,
            "title.basics",
            series,
            "SELECT tconst, titleType, primaryTitle AS title, originalTitle AS original, "
            "startYear AS year, genres, title_key(primaryTitle) AS key, "
            "title_key(originalTitle) AS other FROM row WHERE tconst IN (SELECT tconst FROM asked) "
            "OR (titleType <> 'tvEpisode' AND startYear IN (SELECT year FROM asked) AND ("
            "title_key(primaryTitle) IN (SELECT key FROM asked) "
            "OR title_key(originalTitle) IN (SELECT key FROM asked) "
            "OR tconst IN (SELECT tconst FROM akas)))",
            "basics (tconst VARCHAR, titleType VARCHAR, title VARCHAR, original VARCHAR, "
            "year VARCHAR, genres VARCHAR, key VARCHAR, other VARCHAR)",
        )
        self._take(
            engine,
            "title.ratings",
            ("tconst", "numVotes"),
            "SELECT tconst, TRY_CAST(numVotes AS BIGINT) AS votes FROM row "
            "WHERE tconst IN (SELECT tconst FROM basics)",
            "ratings (tconst VARCHAR, votes BIGINT)",
        )
        types = ", ".join(f"'{name}'" for name in _TYPES)
        engine.sql(
            "CREATE TABLE chosen AS SELECT DISTINCT ON (item) * FROM ("
            "SELECT item, b.tconst, b.title, b.year, b.genres, true AS numbered, 0 AS rank, "
            "b.titleType FROM asked JOIN basics b USING (tconst) UNION ALL "
            "SELECT item, b.tconst, b.title, b.year, b.genres, false, 1, b.titleType FROM asked a "
            "JOIN basics b ON a.year = b.year AND a.key = b.key UNION ALL "
            "SELECT item, b.tconst, b.title, b.year, b.genres, false, 2, b.titleType FROM asked a "
            "JOIN basics b ON a.year = b.year AND a.key = b.other UNION ALL "
            "SELECT item, b.tconst, b.title, b.year, b.genres, false, 3, b.titleType FROM asked a "
            "JOIN akas k ON a.key = k.key JOIN basics b ON b.tconst = k.tconst AND a.year = b.year"
            ") LEFT JOIN (SELECT tconst, max(votes) AS votes FROM ratings GROUP BY 1) "
            "USING (tconst) ORDER BY item, numbered DESC, "
            f"coalesce(nullif(list_position([{types}], titleType), 0), 99), "
            "coalesce(votes, 0) DESC, rank, tconst"
        )

    def _people(self, engine: Engine) -> None:
        """Make `people` (tconst, nconst, part, ordering) and `names` (nconst, name)."""
        self._take(
            engine,
            "title.crew",
            ("tconst", "directors"),
            "SELECT tconst, string_split(directors, ',') AS directors FROM row "
            "WHERE tconst IN (SELECT tconst FROM chosen)",
            "crew (tconst VARCHAR, directors VARCHAR[])",
        )
        self._take(
            engine,
            "title.principals",
            ("tconst", "ordering", "nconst", "category"),
            "SELECT tconst, nconst, category, TRY_CAST(ordering AS BIGINT) AS ordering FROM row "
            "WHERE tconst IN (SELECT tconst FROM chosen) "
            "AND category IN ('actor', 'actress', 'self', 'director')",
            "principals (tconst VARCHAR, nconst VARCHAR, category VARCHAR, ordering BIGINT)",
        )
        engine.sql(
            "CREATE TABLE people AS SELECT DISTINCT ON (tconst, nconst, part) * FROM ("
            "SELECT tconst, unnest(directors) AS nconst, 'directors' AS part, "
            "generate_subscripts(directors, 1) AS ordering FROM crew UNION ALL "
            "SELECT tconst, nconst, 'directors', ordering FROM principals "
            "WHERE category = 'director' "
            "AND tconst NOT IN (SELECT tconst FROM crew WHERE directors IS NOT NULL) UNION ALL "
            "SELECT tconst, nconst, 'cast', ordering FROM (SELECT *, row_number() OVER "
            "(PARTITION BY tconst ORDER BY ordering, nconst) AS n FROM ("
            "SELECT DISTINCT ON (tconst, nconst) * FROM principals WHERE category <> 'director' "
            f"ORDER BY tconst, nconst, ordering)) WHERE n <= {CAST}"
            ") ORDER BY tconst, nconst, part, ordering"
        )
        self._take(
            engine,
            "name.basics",
            ("nconst", "primaryName"),
            "SELECT nconst, primaryName AS name FROM row WHERE primaryName IS NOT NULL "
            "AND nconst IN (SELECT nconst FROM people)",
            "several (nconst VARCHAR, name VARCHAR)",
        )
        engine.sql("CREATE TABLE names AS SELECT nconst, min(name) AS name FROM several GROUP BY 1")

    def _take(
        self, engine: Engine, name: str, columns: Sequence[str], query: str, table: str
    ) -> None:
        """Make a table of what a query finds in a file, whose lines are `row`; empty without it."""
        engine.sql(f"CREATE TABLE {table}")
        if name not in self.files:
            return
        header = self.columns[name]
        taken = ", ".join(f"nullif(c[{header.index(c) + 1}], '\\N') AS {c}" for c in columns)
        cells = "string_split(rtrim(line, chr(13) || chr(10)), chr(9)) AS c"
        lines = f"SELECT {taken} FROM (SELECT {cells} FROM block) WHERE len(c) >= {len(header)}"
        into = table.partition(" ")[0]
        for block in blocks([self.files[name]]):
            engine.sql(
                f"INSERT INTO {into} WITH row AS ({lines}) {query}",
                block=block.table(),
            )


def with_tables(
    known: Mapping[str, dict[str, str]],
    wanted: Mapping[str, Asked],
    tables: ImdbTables | None,
    guessed: AbstractSet[str],
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield items with what is known of them; what is missing comes from IMDb's tables.

    `guessed` are items whose title is made of their id or file name: the tables know better.
    """
    more = tables.find(wanted) if tables else {}
    for item, values in known.items():
        told = {column: value for column, value in values.items() if value}
        if item in guessed and item in more:
            told.pop("title", None)
        yield item, {**values, **more.get(item, {}), **told}


_WANTED: dict[str, tuple[str, ...]] = {
    "title.basics": (
        *("tconst", "titleType", "primaryTitle", "originalTitle", "startYear", "genres"),
    ),
    "title.ratings": ("tconst", "numVotes"),
    "title.akas": ("titleId", "title"),
    "title.crew": ("tconst", "directors"),
    "title.principals": ("tconst", "ordering", "nconst", "category"),
    "name.basics": ("nconst", "primaryName"),
}


def _file(folder: Path, name: str) -> Path | None:
    """`title.basics.tsv` by one of its usual names, or the only file in a folder of that name."""
    for ending in (".tsv", ".tsv.gz", ".tsv.zst", "", ".gz"):
        path = folder / f"{name}{ending}"
        if path.is_file():
            return path
        inside: Iterator[Any] = path.iterdir() if path.is_dir() else iter(())
        if files := sorted(p for p in inside if p.is_file() and not p.name.startswith(".")):
            return files[0] if len(files) == 1 else None
    return None


def _header(path: Path) -> list[str]:
    """The names of the columns. Raises: UsageError for an empty file."""
    text = beginning(path).decode("utf-8", errors="replace")
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first:
        raise UsageError(f"{path} is empty; download it again")
    return [name.strip() for name in first.split("\t")]
