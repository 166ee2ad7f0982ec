"""The steps of every conversion: read, keep rated rows, take the k-core, write.

A source yields `Review` records, or `Dropped` for a row that cannot be used. It is read twice:
first for ids, ratings and times, then for the texts of the rows that are kept. So the texts are
never all in memory. This module does not know the format of a source.
"""

from __future__ import annotations

import html
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from dataset_converters.halves import Halves
from dataset_converters.read import as_id, as_number, as_text, whole_number
from dataset_converters.scale import Scale
from dataset_converters.unseen import USERS, Unseen, unseen_line, unseen_rows
from dataset_converters.write import Sidecar, write_dataset
from recbole_exp3rt.errors import UsageError
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
_LONGEST_VALUE = 100_000  # RecBole's reader refuses a field beyond 131,072 characters
LONGEST_ID = 1_000  # characters
MOST_OUTSIDE = 0.05  # share of rated rows outside the scale; with more, the scale must be wrong
_MILLISECONDS = 1e11  # a larger time is in milliseconds; in seconds it would be after the year 5138
UNUSABLE_ID = (
    f"unusable id (empty, over {LONGEST_ID:,} characters, control character, or read as missing, "
    "like 'NA')"
)
HALF_CHARACTER = "half a character (lone surrogate) replaced by U+FFFD"
_UNRATED = ("", "Null", "None")
COLUMNS = ["user_id", "item_id", "rating", "timestamp", "helpful"]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that cannot become an interaction."""

    reason: str  # printed in the statistics


class Source(Protocol):
    """Reviews and item metadata of one data set. Each method can be called several times."""

    def reviews(self) -> Iterator[Review | Dropped]:
        """Yield every row of the input, in the same order each time."""
        ...

    def items(self, wanted: AbstractSet[str]) -> Iterator[tuple[str, Mapping[str, str]] | Dropped]:
        """Yield (item id, column -> value) for items in `wanted`; an item's first row counts."""
        ...


Split = Callable[[pd.DataFrame], dict[str, pd.DataFrame]]


def convert(
    source: Source,
    output_path: Path,
    properties: Mapping[str, Any],
    k_core: int = 5,
    split: Split | None = None,
    *,
    halves: Halves | None = None,
    unseen_users: int = USERS,
) -> str:
    """Write `source` as a data set into the folder `output_path`; return printable statistics.

    `properties` are the settings of the data set: `rating_scale` is the range of ratings,
    `description_fields` names the item columns. `split` returns the parts of a data set with a
    fixed split; without it RecBole splits. `halves` makes the paper's top-k split. At most
    `unseen_users` users below the core are kept in files beside the data set, see `unseen.py`.

    Raises: UsageError if no row is readable, if the k-core is empty, or if more than the share
    MOST_OUTSIDE of the ratings is outside the scale.
    Paper: section 4.1.1.
    """
    dropped: Counter[str] = Counter()
    noted: Counter[str] = Counter()
    scale = Scale.read(properties["rating_scale"])
    rows = _collect(source, scale, dropped, noted)
    if rows.empty:
        counts = "; ".join(drop_lines(dropped)) or "the input is empty"
        raise UsageError(
            f"{output_path.name}: no readable row with a rating ({counts}); check the input"
        )
    rows = latest_of_each_pair(rows, dropped)
    every, rows = rows, k_core_of(rows, k_core, dropped)
    if rows.empty:
        raise UsageError(f"k_core={k_core} leaves no row of {output_path.name}; use a smaller one")
    rows = rows.sort_values(["user_id", "timestamp", "item_id"], ignore_index=True)
    parts = split(rows) if split else {"": rows}
    beside = unseen_rows(every, rows, unseen_users)
    if halves:
        parts, properties = halves.split(rows, scale), halves.properties(properties)
        rows, beside = pd.concat(parts.values()), beside[:0]  # its train rows are high ratings only
        for name, part in parts.items():
            if part.empty and name != "valid":
                raise UsageError(f"the {name} part has no row; name other ratings as kept_from")

    wanted, own = set(rows["item_id"]), set(beside["item_id"])
    items = _item_table(source, wanted | own, list(properties["description_fields"]), noted)
    of_core = items["item_id"].isin(wanted)
    unseen = None if beside.empty else Unseen(beside[COLUMNS], items[~of_core])
    sidecar = _sidecar(source, set(rows["row"]), set(beside["row"]), unseen)
    tables = {name: part[COLUMNS] for name, part in parts.items()}
    write_dataset(output_path, tables, items[of_core], sidecar, properties, unseen)
    lines = [table_2(output_path.name, rows), *part_lines(parts), *drop_lines(dropped)]
    lines += [unseen_line(beside, rows)] if unseen else []
    return "\n".join([*lines, *drop_lines(noted, "noted")])


def _sidecar(source: Source, kept: set[int], beside: set[int], unseen: Unseen | None) -> Sidecar:
    """Yield the reviews of the rows `kept`; put those of the rows `beside` into `unseen`."""
    for row, review in _usable(source, Counter(), Counter()):
        if row in kept:
            yield review
        elif unseen and row in beside:
            unseen.reviews.append(review)


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
    names, stars, seconds = (as_id(user), as_id(item)), as_number(rating), as_number(time)
    texts = as_text(title), as_text(text)
    if None in names or None in texts or stars is None:
        return Dropped("malformed")
    if seconds is not None and abs(seconds) >= _MILLISECONDS:
        seconds /= 1000
    if seconds is None or abs(seconds) >= _MILLISECONDS:
        return Dropped("unreadable date")
    return Review(
        user=names[0] or "",
        item=names[1] or "",
        rating=stars,
        text=plain_text(texts[1] or ""),
        title=" ".join(plain_text(texts[0] or "").split()),
        timestamp=seconds,
        helpful=whole_number(helpful),
    )


def _usable(
    source: Source, dropped: Counter[str], noted: Counter[str]
) -> Iterator[tuple[int, Review]]:
    """Yield the rows with usable ids, and their numbers in the source."""
    for number, review in enumerate(source.reviews()):
        if isinstance(review, Dropped):
            dropped[review.reason] += 1
            continue
        user, item = review.user.strip(), review.item.strip()
        title, text = without_surrogates(review.title), without_surrogates(review.text)
        if unusable_id(user) or unusable_id(item):
            dropped[UNUSABLE_ID] += 1
            continue
        noted["spaces around an id left out"] += (user, item) != (review.user, review.item)
        noted[HALF_CHARACTER] += (title, text) != (review.title, review.text)
        yield number, replace(review, user=user, item=item, title=title, text=text)


def _collect(
    source: Source, scale: Scale, dropped: Counter[str], noted: Counter[str]
) -> pd.DataFrame:
    """A table of the usable rows without texts; `row` is the number of a row in the source."""
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    user, item, row, helpful = array("l"), array("l"), array("q"), array("l")
    rating, timestamp = array("d"), array("d")
    outside: list[float] = []  # the lowest and the highest, for the error message
    for number, review in _usable(source, dropped, noted):
        if not scale.has(review.rating):
            dropped[f"rating outside {scale}"] += 1
            outside = [min([review.rating, *outside]), max([review.rating, *outside])]
            continue
        noted[f"rating between two levels of {scale}, kept as it is"] += not scale.is_level(
            review.rating
        )
        user.append(users.setdefault(review.user, len(users)))
        item.append(items.setdefault(review.item, len(items)))
        rating.append(review.rating)
        timestamp.append(review.timestamp)
        helpful.append(review.helpful)
        row.append(number)
    count = dropped[f"rating outside {scale}"]
    if count > MOST_OUTSIDE * (count + len(row)):
        raise UsageError(
            f"{count:,} of {count + len(row):,} ratings ({count / (count + len(row)):.0%}) are "
            f"outside the scale {scale}, from {min([*outside, *rating]):g} to "
            f"{max([*outside, *rating]):g}; give --rating_scale LOWEST HIGHEST [STEP]"
        )
    return pd.DataFrame(
        {
            "user_id": np.array(list(users), dtype=object)[np.asarray(user, dtype=int)],
            "item_id": np.array(list(items), dtype=object)[np.asarray(item, dtype=int)],
            "rating": np.asarray(rating, dtype=float),
            "timestamp": np.asarray(timestamp, dtype=float),
            "helpful": np.asarray(helpful, dtype=int),
            "row": np.asarray(row, dtype=int),
        }
    )


def latest_of_each_pair(rows: pd.DataFrame, dropped: Counter[str]) -> pd.DataFrame:
    """Keep one row of each (user, item): the latest; of equal times the one read last."""
    kept = rows.sort_values(["timestamp", "row"], kind="stable")
    kept = kept.drop_duplicates(["user_id", "item_id"], keep="last").sort_values("row")
    dropped["duplicate (user, item), an earlier one"] += len(rows) - len(kept)
    return kept


def k_core_of(rows: pd.DataFrame, k: int, dropped: Counter[str]) -> pd.DataFrame:
    """Keep the largest part where every user and every item has at least k rows; 0 keeps all."""
    user, item = pd.factorize(rows["user_id"])[0], pd.factorize(rows["item_id"])[0]
    kept = np.ones(len(rows), dtype=bool)
    while kept.any():
        users, items = np.bincount(user[kept]), np.bincount(item[kept])
        weak = np.zeros(len(rows), dtype=bool)
        weak[kept] = (users[user[kept]] < k) | (items[item[kept]] < k)
        if not weak.any():
            break
        kept &= ~weak
    dropped[f"below the {k}-core"] += int((~kept).sum())
    return rows[kept]


def _item_table(
    source: Source, wanted: AbstractSet[str], columns: list[str], noted: Counter[str]
) -> pd.DataFrame:
    """Metadata of every wanted item, each value on one line: [n_items, 1 + n_columns], strings.

    If an item has no metadata, or a title that RecBole would read as missing, its id is its title.
    """
    found: dict[str, Mapping[str, str]] = {}
    for row in source.items(wanted):
        if isinstance(row, Dropped):
            noted[f"metadata row left out: {row.reason}"] += 1
        else:
            found.setdefault(*row)
    lines = []
    for item in sorted(wanted):
        values = [found.get(item, {}).get(column, "") for column in columns]
        noted[HALF_CHARACTER] += any(without_surrogates(value) != value for value in values)
        cells = [one_line(value) for value in values]
        lines.append([item, cells[0] or item, *cells[1:]])
    return pd.DataFrame(lines, columns=["item_id", *columns])


def unusable_id(token: str) -> bool:
    """Whether RecBole's reader would change an id or read it as missing."""
    return (
        not token or len(token) > LONGEST_ID or token in READS_AS_MISSING or not token.isprintable()
    )


def one_line(value: str) -> str:
    """A metadata value on one line, without markup; empty if RecBole would read it as missing."""
    line = " ".join(_CONTROL.sub(" ", without_surrogates(plain_text(value))).split())[
        :_LONGEST_VALUE
    ]
    return "" if line in READS_AS_MISSING else line


def plain_text(text: str) -> str:
    """Replace HTML breaks and entities, strip each line, keep at most one empty line in a row."""
    lines = [line.strip() for line in html.unescape(_BREAK.sub("\n", text)).splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def table_2(name: str, rows: pd.DataFrame) -> str:
    """Number of users, items and interactions, and density, as in the paper's Table 2."""
    users, items = rows["user_id"].nunique(), rows["item_id"].nunique()
    density = len(rows) / (users * items)
    return (
        f"{name}: {users:,} users, {items:,} items, {len(rows):,} interactions, "
        f"density {density:.4f}"
    )


def part_lines(parts: Mapping[str, pd.DataFrame]) -> list[str]:
    """One line for each named part: its number of rows."""
    return [f"  {name}: {len(part):,} rows" for name, part in parts.items() if name]


def drop_lines(dropped: Mapping[str, int], word: str = "dropped") -> list[str]:
    """One line for each reason, the most frequent first."""
    ordered = sorted(dropped.items(), key=lambda pair: -pair[1])
    return [f"  {word} {count:,}: {reason}" for reason, count in ordered if count]
