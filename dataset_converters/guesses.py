"""How the rows of a table become reviews: columns, dates and the rating scale, told or guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from dataset_converters.cleaning import Dropped, review_of, seconds_of
from dataset_converters.columns import ROLES, Columns, choose, listed, preset_of
from dataset_converters.read import as_number, whole_number
from dataset_converters.rows import Record
from dataset_converters.scale import Scale
from dataset_converters.values import (
    MOST_UNREADABLE,
    Dates,
    guess_scale,
    id_of,
    is_missing,
    looks_like_dates,
    rating_of,
    text_of,
)
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review

LOOKED_AT = 100_000  # rows that the guesses rest on
_DATES = 10_000  # of their dates


@dataclass(frozen=True)
class Options:
    """What the caller says of a table; what is left out comes from the preset or is guessed.

    `columns` maps a role (user, item, rating, text, time, title, helpful) to a column, or `none`.
    `rating_scale` is LOWEST HIGHEST [STEP]; `unrated` are ratings that stand for none;
    `description` are texts `column=Label`; `items_id` is the id column of an item file.
    """

    columns: Mapping[str, str | None] = field(default_factory=dict)
    preset: str | None = None
    rating_scale: Sequence[float] | None = None
    item_word: str | None = None
    date_order: str | None = None
    unrated: Sequence[str] = ()
    description: Sequence[str] = ()
    items_id: str | None = None


@dataclass(frozen=True)
class Reading:
    """How the rows of a table become reviews, and what was guessed of it."""

    columns: Columns
    dates: Dates | None  # None: there is no time
    unrated: frozenset[str]
    scale: Sequence[float]
    scale_says: str
    broken: int  # of the texts that were looked at: they hold characters that are not UTF-8
    date_column: str | None = None  # of no role, but its values look like dates

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        rows: Callable[[], Iterable[Record | Dropped]],
        options: Options,
        where: str,
    ) -> Reading:
        """The columns, dates and the scale of a table with these column names.

        Raises: UsageError for a column that is not there, or values that are no ratings or dates.
        """
        preset = preset_of(options.preset)
        columns = choose(names, options.columns, preset.get("columns"), where)
        unrated = frozenset([*options.unrated, *preset.get("unrated", ())])
        scale = options.rating_scale or preset.get("rating_scale")
        says = "" if options.rating_scale else f" (preset {options.preset})"
        time = columns.get("time")
        try:
            ratings, times, broken = _sample(rows(), columns, unrated)
            if not scale:
                scale, says = guess_scale(ratings, columns.of["rating"]), " (guessed)"
            dates = Dates.guess(times, time, options.date_order) if time else None
        except UsageError as error:
            raise UsageError(f"{error}; the columns of {where} are {listed(names)}") from None
        told = time or options.columns.get("time")  # none: the user wants no time
        other = None if told else _date_column(names, columns, rows())
        about = f"{Scale.read(scale)}{says}"
        return cls(columns, dates, unrated, scale, about, broken, other)

    def review(self, row: Mapping[str, Any]) -> Review | Dropped:
        """One row as a review."""
        values = {role: row.get(column) for role, column in self.columns.of.items()}
        values = {role: None if is_missing(value) else value for role, value in values.items()}
        rating = _rating(values["rating"], self.unrated)
        if isinstance(rating, Dropped):
            return rating
        return review_of(
            user=id_of(values["user"]) if values["user"] is not None else "",
            item=id_of(values["item"]) if values["item"] is not None else "",
            rating=rating,
            time=self.dates.seconds(values["time"]) if self.dates else 0.0,
            title=values.get("title"),
            text=values.get("text"),
            helpful=self.helpful(values.get("helpful")),
        )

    def rating(self, value: object) -> float | None:
        """The rating of a value of its column; None for a row that is dropped."""
        rating = _rating(value, self.unrated)
        return None if isinstance(rating, Dropped) else as_number(rating)

    def time(self, value: object) -> float | None:
        """Seconds since 1970; None for a row that is dropped."""
        return seconds_of(self.dates.seconds(value)) if self.dates else 0.0

    def helpful(self, value: object) -> int:
        """A number of votes; of a list its first."""
        return whole_number(value[0] if isinstance(value, list) and value else value)

    def says(self) -> list[str]:
        """One line a role: its column, and what was guessed."""
        about = {"rating": f", {self.scale_says}"}
        if self.broken:
            about["text"] = (
                f", {self.broken:,} texts hold characters that are not UTF-8; save it as UTF-8"
            )
        if self.dates:
            about["time"] = f", {self.dates.says}"
        else:
            about["time"] = ": the split is at random for each user, not by time"
        if self.date_column:
            about["time"] += (
                f"; column {self.date_column} looks like dates: --time={self.date_column}"
            )
        return [f"  {role}: {self.columns.says(role)}{about.get(role, '')}" for role in ROLES]


def _date_column(
    names: Sequence[str], columns: Columns, rows: Iterable[Record | Dropped]
) -> str | None:
    """The first column without a role whose first values look like dates."""
    first = [row for row in islice(rows, 20) if not isinstance(row, Dropped)]
    free = [name for name in names if name not in columns.of.values()]
    return next((n for n in free if looks_like_dates([row.get(n) for row in first])), None)


def _rating(value: object, unrated: AbstractSet[str]) -> float | Dropped:
    if is_missing(value) or (unrated and text_of(value) in unrated):
        return Dropped("unrated")
    rating = rating_of(value)
    return Dropped("rating that is no number") if rating is None else rating


def _sample(
    rows: Iterable[Record | Dropped], columns: Columns, unrated: AbstractSet[str]
) -> tuple[Counter[float], list[object], int]:
    """Of the first rows the ratings, some times, and how many texts are broken.

    Raises: UsageError if few of the ratings can be read.
    """
    broken = 0
    ratings: Counter[float] = Counter()
    times: list[object] = []
    bad: list[object] = []
    for row in islice((row for row in rows if isinstance(row, dict)), LOOKED_AT):
        broken += "\ufffd" in str(row.get(columns.of.get("text", "")))
        value = row.get(columns.of["rating"])
        rating = _rating(value, unrated)
        if not isinstance(rating, Dropped):
            ratings[rating] += 1
        elif rating.reason != "unrated":
            bad.append(value)
        time = row.get(columns.of.get("time", ""))
        if len(times) < _DATES and not is_missing(time):
            times.append(time)
    if len(bad) > MOST_UNREADABLE * (len(bad) + ratings.total()) or not ratings:
        shown = ", ".join(f"{value!r:.30}" for value in bad[:3]) or "no values"
        raise UsageError(
            f"column {columns.of['rating']} holds {shown}: no ratings; name another one with "
            "--rating"
        )
    return ratings, times, broken
