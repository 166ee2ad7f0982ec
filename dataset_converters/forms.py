"""Lines of JSON as columns, in SQL: what the engine reads by itself, and what goes to Python.

A source declares a `Form`: which values of a record it needs, and one expression a column. An
expression is NULL where a value is not of the usual kind; such a line goes to `Form.review`, the
source's own reading of one record. So a form never decides why a row is dropped, and a form that
knows less is slower, not different.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_converters.cleaning import LONGEST_ID, READS_AS_MISSING, Dropped
from dataset_converters.engine import Engine
from recbole_exp3rt.records import Review

COLUMNS = ("user", "item", "rating", "time", "helpful")
_UNREADABLE = ", ".join(f"""'"{text}"'""" for text in sorted(READS_AS_MISSING))
# Printable ASCII without blanks around it; other ids are rare, and Python looks at them.
_ID = r'"[!#-\[\]-~](?:[ !#-\[\]-~]*[!#-\[\]-~])?"'
# Text that `plain_text` leaves as it is: no markup, no kind of white space but blanks, no escape
# but of a quotation mark or a backslash.
WHITE = r"\x00-\x1f\x7f-\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
_PLAIN = rf'"(?:[^"&<\\{WHITE}]|\\["\\])*"'

# What DuckDB reads and Python does not: a comma too many, a number of thousands of digits.
LOOSE = (
    "(contains(line, ',}') OR contains(line, ',]') "
    "OR (strlen(line) > 4300 AND regexp_matches(line, '[0-9]{1000}')))"
)
# `v` is a value as JSON writes it, NULL where the record has none.
MACROS = rf"""
CREATE OR REPLACE MACRO is_absent(v) AS v IS NULL OR v = 'null';
CREATE OR REPLACE MACRO id_of(v) AS CASE
    WHEN regexp_full_match(v, '{_ID}') AND length(v) <= {LONGEST_ID + 2}
        AND v NOT IN ({_UNREADABLE})
    THEN substr(v, 2, length(v) - 2)
    WHEN regexp_full_match(v, '[0-9]{{1,18}}') THEN v END;
CREATE OR REPLACE MACRO finite(n) AS CASE WHEN isfinite(n) THEN n END;
CREATE OR REPLACE MACRO number_of(v) AS CASE
    WHEN regexp_full_match(v, '-?[0-9][0-9.eE+-]{{0,30}}') THEN finite(TRY_CAST(v AS DOUBLE)) END;
CREATE OR REPLACE MACRO seconds(n) AS CASE
    WHEN abs(n) < 1e11 THEN n WHEN abs(n / 1000) < 1e11 THEN n / 1000 END;
CREATE OR REPLACE MACRO small(n) AS CASE WHEN n > 1000000000 THEN 0 ELSE n END;
CREATE OR REPLACE MACRO count_of(v) AS CASE
    WHEN v IS NULL OR v = 'null' THEN 0
    WHEN regexp_full_match(v, '[0-9]{{1,9}}') THEN v::BIGINT
    WHEN regexp_full_match(v, '"[0-9][0-9,]{{0,10}}"')
    THEN small(TRY_CAST(replace(substr(v, 2, length(v) - 2), ',', '') AS BIGINT)) END;
CREATE OR REPLACE MACRO is_text(v) AS v IS NULL OR v = 'null' OR starts_with(v, '"');
CREATE OR REPLACE MACRO is_plain(v) AS regexp_full_match(v, '{_PLAIN}')
    AND NOT starts_with(v, '" ') AND NOT ends_with(v, ' "');
"""


@dataclass(frozen=True)
class Form:
    """How the lines of some files become reviews.

    `keys` maps a name to the path of a value in a record (`$.user_id`); the value stands as
    `r.name` in `columns`, which has an expression for each of COLUMNS. `texts` are the paths of
    title and text. `unless`: where it holds, the line goes to `review`, as where a column is NULL.
    """

    files: Sequence[Path]
    keys: Mapping[str, str]
    columns: Mapping[str, str]
    texts: tuple[str, str]
    review: Callable[[object], Review | Dropped]
    unless: str = "false"

    def query(self) -> str:
        """Rows of a `block`: place, user, item, rating, time, helpful, odd.

        `odd` is the line where it goes to Python, else NULL.
        """
        return (
            f"SELECT place, {', '.join(map(_name, COLUMNS))}, CASE WHEN {_missing(COLUMNS)} "
            'OR loose OR NOT is_text(title) OR NOT is_text("text") THEN line END AS odd '
            f"FROM ({self._values(COLUMNS)})"
        )

    def text_query(self) -> str:
        """Rows of a `block`: place, user_id, item_id, title, text, named, clean, odd.

        `named`: the title stays as it is; `clean`: the text, too.
        """
        return (
            'SELECT place, "user" AS user_id, item AS item_id, '
            "json_extract_string(title, '$') AS title, "
            'json_extract_string("text", \'$\') AS "text", '
            "is_plain(title) AND NOT contains(title, '  ') AS named, "
            'is_plain("text") AND named AS clean, '
            f"CASE WHEN {_missing(('user', 'item'))} OR loose OR NOT is_text(title) "
            'OR NOT is_text("text") THEN line END AS odd FROM (SELECT '
            "place, line, \"user\", item, loose, coalesce(nullif(title, 'null'), '\"\"') AS title, "
            'coalesce(nullif("text", \'null\'), \'""\') AS "text" '
            f"FROM ({self._values(('user', 'item'))}))"
        )

    def _values(self, columns: Sequence[str]) -> str:
        """A query of the named columns, of title and text as JSON, and of `loose`."""
        keys = {**self.keys, "title of it": self.texts[0], "text of it": self.texts[1]}
        found = ", ".join(f"{self.columns[column]} AS {_name(column)}" for column in columns)
        return (
            f'SELECT place, line, r."title of it" AS title, r."text of it" AS "text", {found}, '
            f"NOT valid OR {LOOSE} OR {self.unless} AS loose FROM ({_records(keys)})"
        )


@dataclass(frozen=True)
class ItemForm:
    """Which lines of some files describe a wanted item; the others are not parsed in Python.

    `keys` as in `Form`; `item` is the expression of an item's id. `describe` reads one record: the
    item's id and its values by column, or why it has none.
    """

    files: Sequence[Path]
    keys: Mapping[str, str]
    item: str
    describe: Callable[[object], tuple[str, Mapping[str, str]] | Dropped]

    def query(self) -> str:
        """The lines of a `block` about an item in the table `wanted`, or that Python has to see."""
        return (
            f"SELECT line FROM (SELECT place, line, {LOOSE} OR NOT valid AS loose, {self.item} AS "
            f"item FROM ({_records(self.keys)})) WHERE loose OR item IS NULL OR item IN "
            "(SELECT item FROM wanted) ORDER BY place"
        )


def _records(keys: Mapping[str, str]) -> str:
    """A query of a `block`: place, line, valid, and the values of `keys` in the record `r`."""
    paths = ", ".join(f"'{path}'" for path in keys.values())
    names = ", ".join(f'"{name}" := v[{n}]' for n, name in enumerate(keys, start=1))
    return (
        f"SELECT place, line, valid, struct_pack({names}) AS r FROM (SELECT place, line, valid, "
        f"json_extract(CASE WHEN valid THEN line ELSE 'null' END, [{paths}])::VARCHAR[] AS v "
        "FROM (SELECT place, line, json_valid(line) AS valid FROM block))"
    )


def _name(column: str) -> str:
    return f'"{column}"'


def _missing(columns: Sequence[str]) -> str:
    return " OR ".join(f'"{column}" IS NULL' for column in columns)


def prepare(engine: Engine) -> None:
    """Let the engine know the functions that forms use."""
    engine.sql(MACROS)
