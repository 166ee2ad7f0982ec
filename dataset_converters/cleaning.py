"""What every row has to be: ids that RecBole reads back as they are, plain texts, a time.

A row that cannot become an interaction is `Dropped`, with the reason.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, replace

from dataset_converters.read import as_id, as_number, as_text, whole_number
from recbole_exp3rt.records import Review
from recbole_exp3rt.text import without_surrogates

# Texts that pandas, and so RecBole's reader, reads as missing, and RecBole's padding token.
READS_AS_MISSING = frozenset(
    [
        "[PAD]",
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # some readers of tables stop at them
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_LINES = re.compile(r"\n{3,}")
_LONGEST_VALUE = 100_000  # RecBole's reader refuses a field beyond 131,072 characters
LONGEST_ID = 1_000  # characters
_MILLISECONDS = 1e11  # a larger time is in milliseconds; in seconds it would be after the year 5138
UNUSABLE_ID = (
    f"unusable id (empty, over {LONGEST_ID:,} characters, control character, or read as missing, "
    "like 'NA')"
)
HALF_CHARACTER = "half a character (lone surrogate) replaced by U+FFFD"
_UNRATED = ("", "Null", "None")
SPACES = "spaces around an id left out"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that cannot become an interaction."""

    reason: str  # printed in the statistics


def review_of(
    user: object,
    item: object,
    rating: object,
    time: object,
    title: object,
    text: object,
    helpful: object,
) -> Review | Dropped:
    """Make a review of the values of one row, or say why it is dropped.

    `time` is in seconds or milliseconds since 1970; values of a wrong type are not converted.
    """
    if rating is None or (isinstance(rating, str) and rating.strip() in _UNRATED):
        return Dropped("unrated")
    names, stars, seconds = (as_id(user), as_id(item)), as_number(rating), seconds_of(time)
    texts = as_text(title), as_text(text)
    if None in names or None in texts or stars is None:
        return Dropped("malformed")
    if seconds is None:
        return Dropped("unreadable date")
    return Review(
        user=names[0] or "",
        item=names[1] or "",
        rating=stars,
        text=plain_text(texts[1] or ""),
        title=plain_title(texts[0] or ""),
        timestamp=seconds,
        helpful=whole_number(helpful),
    )


def seconds_of(time: object) -> float | None:
    """Seconds since 1970 of a number of seconds or milliseconds; None for other values."""
    seconds = as_number(time)
    if seconds is not None and abs(seconds) >= _MILLISECONDS:
        seconds /= 1000
    return None if seconds is None or abs(seconds) >= _MILLISECONDS else seconds


def usable(review: Review) -> tuple[Review | Dropped, list[str]]:
    """A review with ids and texts as they are written, and notes of what was changed."""
    user, item = review.user.strip(), review.item.strip()
    if unusable_id(user) or unusable_id(item):
        return Dropped(UNUSABLE_ID), []
    title, text = without_surrogates(review.title), without_surrogates(review.text)
    notes = [SPACES] if (user, item) != (review.user, review.item) else []
    notes += [HALF_CHARACTER] if (title, text) != (review.title, review.text) else []
    return (
        replace(review, user=user, item=item, title=title, text=text) if notes else review
    ), notes


def unusable_id(token: str) -> bool:
    """Whether RecBole's reader would change an id or read it as missing."""
    return (
        not token or len(token) > LONGEST_ID or token in READS_AS_MISSING or not token.isprintable()
    )


def plain_title(title: str) -> str:
    """A title as `plain_text` on one line."""
    return " ".join(plain_text(title).split())


def one_line(value: str) -> str:
    """A metadata value on one line, without markup; empty if RecBole would read it as missing."""
    line = " ".join(_CONTROL.sub(" ", without_surrogates(plain_text(value))).split())[
        :_LONGEST_VALUE
    ]
    return "" if line in READS_AS_MISSING else line


def plain_text(text: str) -> str:
    """Replace HTML breaks and entities, strip each line, keep at most one empty line in a row."""
    text = html.unescape(_BREAK.sub("\n", text) if "<" in text else text)
    text = "\n".join([line.strip() for line in text.splitlines()]).strip()
    return _LINES.sub("\n\n", text) if "\n\n\n" in text else text
