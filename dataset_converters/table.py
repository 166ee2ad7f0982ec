"""Any table of reviews: a file (CSV, TSV, JSON, parquet) or a data frame.

Columns, dates and the rating scale are guessed where they are not named, and every guess is said.
The common names and the presets stand in `table.yaml`.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import pandas as pd

from dataset_converters.base import How, convert, drop_lines
from dataset_converters.blocks import Progress
from dataset_converters.cleaning import Dropped
from dataset_converters.columns import (
    ROLES,
    common,
    descriptions_of,
    first_of,
    item_word_of,
    preset_of,
)
from dataset_converters.engine import Engine
from dataset_converters.guesses import Options, Reading
from dataset_converters.pieces import pieces_of
from dataset_converters.reading import Reader
from dataset_converters.rows import Table
from dataset_converters.scale import with_scale
from dataset_converters.table_reader import TableReader
from dataset_converters.values import id_of, text_of
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review
from recbole_exp3rt.stages.untrusted import harmless
from recbole_exp3rt.text import without_surrogates

_LONGEST_WORD = 60  # characters of a word or a label in a prompt
_ITEM_IDS = ("id", "key", "code")  # of an item file, after the names of the reviews


class TableSource:
    """Reviews of one table, with the descriptions of another one or of its own columns.

    Raises: UsageError for a file or a column that is not there.
    """

    def __init__(self, reviews: Path, items: Path | None, options: Options) -> None:
        self.table = Table(reviews)
        self.files = [reviews]
        self.reading = Reading.of(self.table.columns, self.table.rows, options, f"{reviews}")
        self.items_table = Table(items, "items") if items else self.table
        names, item = self.items_table.columns, self.reading.columns.of["item"]
        self.item_id = _item_id(names, item, options.items_id, f"{items}") if items else item
        others = [name for name in names if name != self.item_id]
        if not items:
            others = [name for name in others if name not in self.reading.columns.of.values()]
        known = preset_of(options.preset).get("descriptions", {})
        found = others if not options.description else names
        self.labels = descriptions_of(
            found, options.description, known, not items, f"{items or reviews}"
        )
        if not options.description:
            self.labels = _titled(self.labels, self.item_id)
        for label in self.labels.values():
            _word(label, "description")
        self.fields = dict(zip(_slugs(self.labels), self.labels, strict=True))
        self.inputs = [reviews, *([items] if items else [])]
        self.described: set[str] = set()  # items of which something was found

    def reader(self, engine: Engine, progress: Progress) -> Reader | None:
        """See `ReaderSource`: None for reviews inside records and for values of rare types."""
        pieces = pieces_of(self.table, self.reading.columns.of, engine, progress)
        return TableReader(pieces, self.reading, engine) if pieces else None

    def reviews(self) -> Iterator[Review | Dropped]:
        """Every row of the table."""
        return (review for _, review in self.placed())

    def placed(self) -> Iterator[tuple[int, Review | Dropped]]:
        """Every row of the table with its place."""
        for number, row in self.table.numbered():
            yield number, row if isinstance(row, Dropped) else self.reading.review(row)

    def items(self, wanted: AbstractSet[str]) -> Iterator[tuple[str, Mapping[str, str]] | Dropped]:
        """The descriptions of the wanted items."""
        own = self.items_table is self.table
        for row in self.items_table.rows() if self.labels else ():
            if isinstance(row, Dropped):
                if not own:
                    yield row
                continue
            item = str(id_of(row.get(self.item_id)) or "").strip()
            if item in wanted:
                values = {field: text_of(row.get(name)) for field, name in self.fields.items()}
                if any(values.values()) and not (own and item in self.described):
                    self.described.add(item)
                    yield item, values


def _item_id(names: Sequence[str], item: str, told: str | None, where: str) -> str:
    """The id column of an item file."""
    found = told if told in names else None
    if told is None:
        found = (
            item if item in names else first_of([*common()["columns"]["item"], *_ITEM_IDS], names)
        )
    if found is None:
        raise UsageError(
            f"{where} lacks {told or f'the item id ({item})'}; its columns are {', '.join(names)}; "
            "name it with --items_id COLUMN"
        )
    return found


def _titled(labels: Mapping[str, str], item: str) -> dict[str, str]:
    """The title comes first: an item without one goes by its id."""
    if labels and "Title" not in labels.values():
        return {item: "Title", **labels}
    return dict(labels)


def _slugs(names: Iterable[str]) -> list[str]:
    """Names of columns as an atomic file can have them, each once."""
    found: dict[str, None] = {}
    for number, name in enumerate(names, start=1):
        slug = re.sub(r"\W+", "_", name.lower()).strip("_") or "column"
        found[f"{slug}_{number}" if slug in found or slug == "item_id" else slug] = None
    return list(found)


def _word(text: str, option: str) -> str:
    """A word of the prompts. Raises: UsageError for one that is long or looks like a prompt."""
    if not text.isprintable() or len(text) > _LONGEST_WORD or harmless(text) != text:
        raise UsageError(f"{option}={text!r:.80} is no word or two for the prompts; change it")
    return text


def convert_table(
    reviews: Path,
    items: Path | None,
    options: Options,
    output_path: Path | None = None,
    k_core: int = 5,
    how: How | None = None,
) -> str:
    """Write a table of reviews as a data set; return what was read, and the next command to type.

    `how`: see `convert`. Raises: UsageError for what cannot be read, or has to be said.
    """
    output_path = output_path or default_output(reviews)
    source = TableSource(reviews, items, options)
    preset, reading = preset_of(options.preset), source.reading
    told = options.item_word or preset.get("item_word")
    guess = item_word_of(reading.columns.of["item"])
    word = _word(without_surrogates(told or guess or "item"), "item_word")
    properties = with_scale(common()["properties"], reading.scale)
    properties["item_word"] = word
    if source.labels:
        properties["description_fields"] = dict(
            zip(source.fields, source.labels.values(), strict=True)
        )
    if reading.dates is None:
        properties["eval_args"] = {**properties["eval_args"], "order": "RO"}
        properties["load_col"] = {"inter": ["user_id", "item_id", "rating", "helpful"]}
    report = convert(source, output_path, properties, k_core, how=how)
    lines = [f"{reviews}: {source.table.form}", *reading.says()]
    lines.append(f"  item word: {word}" + ("" if told else " (guessed; --item_word WORD)"))
    if source.labels:
        listed = ", ".join(f"{name}={label}" for name, label in source.labels.items())
        of = f"{items}, by {source.item_id}" if items else "the same table"
        guessed = "" if options.description or options.preset else " (guessed)"
        lines.append(f"  descriptions: {listed}{guessed} of {of}; {len(source.described):,} items")
    after = [] if how and how.dry_run else ["", "Next:", next_command(output_path)]
    return "\n".join([*lines, report, *after])


def default_output(reviews: Path) -> Path:
    """`dataset/<name of the file without endings>`."""
    stem = reviews.name.removesuffix(".gz")
    stem = re.sub(r"[^\w-]+", "_", Path(stem).stem).strip("_")
    return Path("dataset") / (stem or "reviews")


def next_command(output_path: Path) -> str:
    """The command that runs on the data set."""
    folder = output_path.resolve()
    usual = folder.parent == Path("dataset").resolve()
    where = "" if usual else f" --data_path={shlex.quote(str(output_path.parent))}"
    return f"exp3rt run --dataset={shlex.quote(folder.name)}{where}"


def reviews_of(
    frame: pd.DataFrame, options: Options
) -> tuple[list[Review], dict[str, dict[str, str]], Sequence[float], list[str]]:
    """The reviews of a data frame, the descriptions in its columns, the scale, what is to be said.

    Raises: UsageError as `Reading.of` does, or if no row can be read.
    """
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        raise UsageError(f"the data frame has columns of one name: {', '.join(names)}")
    columns = {name: frame.iloc[:, at].tolist() for at, name in enumerate(names)}
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    where = "the data frame"
    try:
        reading = Reading.of(names, lambda: rows, options, where)
        own = [name for name in names if name not in reading.columns.of.values()]
        labels = descriptions_of(own, options.description, {}, True, where)
        labels = _titled(labels, reading.columns.of["item"])
    except UsageError as error:
        raise UsageError(_in_python(str(error))) from None
    dropped: Counter[str] = Counter()
    reviews = []
    descriptions: dict[str, dict[str, str]] = {}
    for row in rows:
        review = reading.review(row)
        if isinstance(review, Dropped):
            dropped[review.reason] += 1
        elif not review.user.strip() or not review.item.strip():
            dropped["no user or no item"] += 1
        else:
            reviews.append(review)
            lines = {label: text_of(row[name]) for name, label in labels.items()}
            descriptions.setdefault(review.item, lines)
    if not reviews:
        raise UsageError("; ".join(["the data frame has no readable row", *drop_lines(dropped)]))
    said = [f"{role}={reading.columns.of[role]!r}" for role in ROLES if _guessed(reading, role)]
    said += [f"rating_scale={list(reading.scale)}"] if not options.rating_scale else []
    doubt = reading.dates.says if reading.dates and "guess" in reading.dates.says else ""
    notes = [f"guessed {', '.join(said)}; name them to be sure"] if said else []
    notes += [f"time: {_in_python(doubt)}"] if doubt else []
    notes += [line.strip() for line in drop_lines(dropped)]
    return reviews, descriptions, reading.scale, notes


def _guessed(reading: Reading, role: str) -> bool:
    return role in reading.columns.guessed and role in reading.columns.of


def _in_python(text: str) -> str:
    """A message that names options, as it names arguments in Python."""
    text = re.sub(r"--(\w+) (day|month|none|COLUMN)\b", r"\1='\2'", text)
    text = re.sub(r"--rating_scale .*?, such as.*", "rating_scale=(1, 5), or with a step", text)
    return re.sub(r"--(\w+)", r"\1=…", text)
