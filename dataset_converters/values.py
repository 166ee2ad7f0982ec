"""The values of a table's columns: ratings, ids, dates; the form of each column is guessed once.

A value that cannot be read is None, for the caller to count.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from dateutil import parser

from dataset_converters.read import as_id, as_number, as_text
from recbole_exp3rt.errors import UsageError

DATE_ORDERS = ("day", "month")
MOST_UNREADABLE = 0.5  # of a column's values: above, it is another column

_THUMBS = {
    **dict.fromkeys(("true", "yes", "recommended", "positive", "up", "like", "thumbs up"), 1.0),
    **dict.fromkeys(("false", "no", "not recommended", "negative", "down", "dislike"), 0.0),
    **dict.fromkeys(("thumbs down",), 0.0),
}
_STARS = re.compile(
    r"([+-]?[0-9]+(?:[.,][0-9]+)?)\s*(?:(?:/|out of|of)\s*[0-9]+\s*)?(?:stars?|points?)?", re.I
)
_PARTED = re.compile(r"\s*([0-9]{1,2})([/.-])([0-9]{1,2})\2(?:[0-9]{2}|[0-9]{4})(?![0-9/.-])")
_COMPACT = re.compile(r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])")
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")
_UTC = dt.timezone.utc
# The scales that are obvious from the data, the first one that fits: lowest, highest, step, and
# from where up to where the ratings must reach for it.
_SCALES = ((0, 1, 1), (1, 5, 1), (1, 5, 0.5), (0.5, 5, 0.5), (1, 10, 1), (1, 10, 0.5))


def id_of(value: object) -> object:
    """An id as text: numbers of a table with missing values are floats, 7.0 is the id "7"."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return as_id(value)


def is_missing(value: object) -> bool:
    """Whether there is nothing: None, NaN, NaT, or blank text."""
    return value is None or (isinstance(value, str) and not value.strip()) or value != value


def rating_of(value: object) -> float | None:
    """A number, `4/5`, `4 out of 5`, `4 stars`, `4,5`, `★★★★`, or a thumb (1 up, 0 down)."""
    if isinstance(value, bool):
        return float(value)
    number = as_number(value)
    if number is not None or not isinstance(value, str):
        return number
    text = value.strip().lower()
    if text in _THUMBS:
        return _THUMBS[text]
    if text and set(text) <= set("★☆⭐"):
        return float(len(text) - text.count("☆"))
    match = _STARS.fullmatch(text)
    return float(match[1].replace(",", ".")) if match else None


def text_of(value: object) -> str:
    """A value as one text; the parts of a list joined with commas; '' for anything else."""
    if isinstance(value, list | tuple):
        return ", ".join(text for part in value if (text := text_of(part)))
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return (as_text(value) or "").strip()


def guess_scale(ratings: Counter[float], column: str) -> list[float]:
    """[lowest, highest] or [lowest, highest, step], where the ratings leave no doubt.

    `ratings` counts the values of the column. The highest level has to occur, and the lowest one
    or the one above it.
    Raises: UsageError that asks for the scale, with the ratings found.
    """
    found = sorted(ratings)
    for lowest, highest, step in _SCALES:
        levels = {lowest + k * step for k in range(round((highest - lowest) / step) + 1)}
        full = step == 1 or any(rating % 1 for rating in found)
        if found and full and set(found) <= levels and found[-1] == highest:
            if highest == 10 and found[0] > 5:
                break
            return [lowest, highest] if step == 1 else [lowest, highest, step]
    shown = ", ".join(f"{rating:g} ({ratings[rating]:,})" for rating in found[:12])
    more = f", … {found[-1]:g}" if len(found) > 12 else ""
    zero = found[:1] == [0] and len(found) > 2
    hint = "; where 0 means unrated, add --unrated 0" if zero else ""
    raise UsageError(
        f"the rating scale is not obvious from column {column}, which holds {shown}{more}; "
        f"give --rating_scale LOWEST HIGHEST [STEP], such as 1 5 or 0.5 5 0.5{hint}"
    )


@dataclass(frozen=True)
class Dates:
    """How a column of times is read. `unit` is seconds of one unit of a number; 0: no numbers."""

    says: str
    unit: float = 0.0
    form: str = ""  # of a number that is a date: %Y%m%d or %Y
    day_first: bool = False

    @classmethod
    def guess(cls, values: Sequence[object], column: str, order: str | None = None) -> Dates:
        """By a sample of the column. `order` says which of 03/04/2021 comes first.

        Raises: UsageError where most values are no dates, or days and months change places.
        """
        given = [value for value in values if not is_missing(value)]
        texts = [str(value).strip() for value in given]
        numbers = [number for value in given if (number := as_number(value)) is not None]
        if given and len(numbers) > MOST_UNREADABLE * len(given):
            dates = _of_numbers(numbers, [text.removesuffix(".0") for text in texts])
        else:
            dates = _of_texts(texts, column, order)
        bad = [text for text, v in zip(texts, given, strict=True) if dates.seconds(v) is None]
        if not given or len(bad) > MOST_UNREADABLE * len(given):
            shown = ", ".join(repr(text[:30]) for text in bad[:3]) or "nothing"
            raise UsageError(
                f"column {column} holds {shown}: no dates; name another one with --time, or "
                "--time none"
            )
        return dates

    def seconds(self, value: object) -> float | None:
        """Seconds since 1970, UTC; a date without a time zone is taken as UTC. None: no date."""
        if is_missing(value):
            return None
        if isinstance(value, dt.datetime):
            return _timestamp(value)
        if isinstance(value, dt.date):
            return _timestamp(dt.datetime(value.year, value.month, value.day))
        if self.unit or self.form:
            number = as_number(value)
            if number is None or not self.form:
                return None if number is None else number * self.unit
            try:
                return _timestamp(dt.datetime.strptime(f"{number:.0f}", self.form))
            except ValueError:
                return None
        return _parsed(value.strip(), self.day_first) if isinstance(value, str) else None


def _of_numbers(numbers: list[float], texts: list[str]) -> Dates:
    for pattern, form, name in ((_COMPACT, "%Y%m%d", "YYYYMMDD"), (_YEAR, "%Y", "years")):
        if all(pattern.fullmatch(text) for text in texts):
            return Dates(name, form=form)
    middle = sorted(map(abs, numbers))[len(numbers) // 2]
    for least, unit, name in ((1e17, 1e-9, "nano"), (1e14, 1e-6, "micro"), (1e11, 1e-3, "milli")):
        if middle >= least:
            return Dates(f"{name}seconds since 1970", unit=unit)
    return Dates("seconds since 1970", unit=1.0)


def _of_texts(texts: list[str], column: str, order: str | None) -> Dates:
    parted = [match for text in texts if (match := _PARTED.match(text))]
    example = f"dates such as {texts[0]!r:.40}" if texts else "dates"
    if not parted:
        return Dates(example, day_first=order == "day")
    first = [match for match in parted if int(match[1]) > 12]  # must be days
    second = [match for match in parted if int(match[3]) > 12]
    if order is None and first and second:
        raise UsageError(
            f"column {column}: in {first[0][0].strip()} the day comes first, in "
            f"{second[0][0].strip()} the month; say which with --date_order day or month"
        )
    dotted = parted[0][2] == "."
    day_first = order == "day" if order else bool(first) or (dotted and not second)
    name = "day before month" if day_first else "month before day"
    doubt = "" if order or first or second else ", a guess: no day is over 12"
    other = "month" if day_first else "day"
    hint = f"; --date_order {other} reads the {other} first" if doubt else ""
    return Dates(f"{example}, {name}{doubt}{hint}", day_first=day_first)


def looks_like_dates(values: Sequence[object]) -> bool:
    """Whether a column's values, at least three, are written as dates: 21.07.2024, 2024-07-21."""
    texts = [text_of(value) for value in values if not is_missing(value)]
    dates = [text for text in texts if re.search(r"\d[-./ ]", text) and _parsed(text, True)]
    return len(texts) >= 3 and len(dates) == len(texts)


@lru_cache(maxsize=100_000)
def _parsed(text: str, day_first: bool) -> float | None:
    """A date written in any usual form; one that names no year is none."""
    if len(text) > 100 or not any(character.isdigit() for character in text):
        return None
    try:
        return _timestamp(parser.isoparse(text))
    except (ValueError, OverflowError):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names of time zones that are not known
        try:
            one, other = (
                parser.parse(text.rstrip("."), dayfirst=day_first, default=dt.datetime(year, 1, 1))
                for year in (1972, 1976)
            )
        except (ValueError, OverflowError, TypeError):
            return None
    return _timestamp(one) if one.year == other.year else None


def _timestamp(moment: dt.datetime) -> float | None:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=_UTC)
    try:
        seconds = (moment - dt.datetime(1970, 1, 1, tzinfo=_UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None
