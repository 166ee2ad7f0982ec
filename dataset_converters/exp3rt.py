"""The data that the paper's authors released, with their split (`benchmark_filename`).

`topk`: train.txt and test.txt in LightGCN's text format (a user, then items, as numbers), with
user_list.txt and item_list.txt (org_id remap_id). There are no ratings and no times.
`aligned`: interactions.jsonl, where a row with `exp3rt_test_score` is a test row, and
item_descriptions.jsonl.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pandas as pd

from dataset_converters.base import drop_lines, k_core_of, part_lines, table_2
from dataset_converters.cleaning import Dropped, unusable_id
from dataset_converters.imdb import review_of
from dataset_converters.manifest import Manifest
from dataset_converters.read import as_id, as_text, lines, numbered_records, record, records
from dataset_converters.write import write_dataset
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review

SEED = 2024


class AlignedSource:
    """Reviews with the authors' split. `reviews()` fills `test_pairs`, which `split` uses."""

    def __init__(self, input_path: Path, labels: Mapping[str, str]) -> None:
        """`labels` maps columns to the labels of description lines, such as `Genres: Drama`."""
        self.interactions = _file(input_path / "interactions.jsonl")
        self.descriptions = _file(input_path / "item_descriptions.jsonl")
        self.files = [self.interactions]
        self.inputs = [*self.files, self.descriptions]
        self.columns = {label: column for column, label in labels.items()}
        self.test_pairs: set[tuple[str, str]] = set()

    def reviews(self) -> Iterator[Review | Dropped]:
        """Yield every row of interactions.jsonl."""
        return (review for _, review in self.placed())

    def placed(self) -> Iterator[tuple[int, Review | Dropped]]:
        """Yield every row with its place."""
        for number, found in numbered_records(self.interactions):
            row = found if isinstance(found, dict) else {}
            review = review_of(row, row.get("user_id"), row.get("item_id")) if row else None
            if isinstance(review, Review) and row.get("exp3rt_test_score") is not None:
                self.test_pairs.add((review.user.strip(), review.item.strip()))
            yield number, review or Dropped("malformed")

    def items(self, wanted: AbstractSet[str]) -> Iterator[tuple[str, Mapping[str, str]] | Dropped]:
        """Yield id and description of the wanted items in item_descriptions.jsonl."""
        for found in records(self.descriptions):
            row = found if isinstance(found, dict) else {}
            item = (as_id(row.get("item_id")) or "").strip()
            if not item:
                yield Dropped("no record with an item id")
            elif item in wanted:
                yield item, self._description(row)

    def _description(self, row: Mapping[str, Any]) -> dict[str, str]:
        """The authors' description lines; the metadata if there are none."""
        values: dict[str, str] = {}
        column = ""
        for line in (as_text(row.get("exp3rt_item_description")) or "").splitlines():
            label, colon, value = line.partition(":")
            if colon and label in self.columns:
                column = self.columns[label]
                values[column] = value
            elif column:
                values[column] += " " + line
        if values:
            return values
        movie = record(row.get("metadata"))
        texts = {column: as_text(movie.get(column)) or "" for column in self.columns.values()}
        year = as_text(movie.get("year"))
        title = texts["title"] or Path(as_text(row.get("file")) or "").stem
        return texts | {
            "title": f"{title} ({year})" if year else title,
            "description": as_text(movie.get("plot")) or "",
        }

    def split(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Split the rows: test is the authors' test part.

        Of the other rows, the last of each user, by time and then item, is validation, unless it
        is the user's only one.
        """
        pairs = pd.Series(zip(rows["user_id"], rows["item_id"], strict=True), index=rows.index)
        is_test = pairs.isin(self.test_pairs)
        rest = rows[~is_test].sort_values(["user_id", "timestamp", "item_id"])
        groups = rest.groupby("user_id")
        is_last = (groups.cumcount(ascending=False) == 0) & (groups["row"].transform("size") > 1)
        return {"train": rest[~is_last], "valid": rest[is_last], "test": rows[is_test]}


def convert_topk(
    input_path: Path,
    output_path: Path,
    properties: Mapping[str, Any],
    k_core: int = 0,
    about: Mapping[str, Any] | None = None,
) -> str:
    """Write the authors' top-k split; return printable statistics. `about`: see `Manifest`.

    Test is the authors' test part. Their train part becomes train and validation: about one row
    in ten of each user is drawn at random for validation, none of a user with fewer than 5 rows.
    """
    named = [input_path / f"{name}.txt" for name in ("user_list", "item_list", "train", "test")]
    if not named[1].is_file() and (older := input_path / "org" / named[1].name).is_file():
        named[1] = older  # the release has one list of the items for both of its splits
    users, items = _remap(_file(named[0])), _remap(_file(named[1]))
    dropped: Counter[str] = Counter()
    train = _pairs(_file(named[2]), users, items, "train", dropped)
    test = _pairs(_file(named[3]), users, items, "test", dropped)
    generator = random.Random(SEED)
    for _, rows in train.groupby("user_id", sort=False):
        drawn = generator.sample(list(rows.index), (len(rows) + 5) // 10)
        train.loc[drawn, "part"] = "valid"
    rows = pd.concat([train, test], ignore_index=True)
    rows = k_core_of(rows, k_core, dropped)
    if rows.empty:
        raise UsageError(f"input_path={input_path}: no row is left; check k_core={k_core}")
    parts = {name: rows[rows["part"] == name] for name in ("train", "valid", "test")}
    tables = {f"{name}.inter": part[["user_id", "item_id"]] for name, part in parts.items()}
    users_there, items_there = rows["user_id"].nunique(), rows["item_id"].nunique()
    counts: dict[str, Any] = {"users": users_there, "items": items_there, "interactions": len(rows)}
    counts |= {"parts": {name: len(part) for name, part in parts.items()}}
    counts |= {"dropped": {reason: n for reason, n in dropped.items() if n}}
    manifest = Manifest("exp3rt", about or {}, named, counts)
    write_dataset(output_path, tables, None, properties, manifest=manifest)
    return "\n".join(
        [
            table_2(output_path.name, users_there, items_there, len(rows)),
            *part_lines(parts),
            *drop_lines(dropped),
        ]
    )


def _pairs(
    path: Path, users: Mapping[str, str], items: Mapping[str, str], part: str, dropped: Counter[str]
) -> pd.DataFrame:
    """Rows of raw ids from lines `user item item …`; a number without a raw id is malformed."""
    rows = []
    for line in lines(path):
        user, *numbers = line.split() or [""]
        for item in numbers:
            if user in users and item in items:
                rows.append((users[user], items[item], part))
            else:
                dropped["malformed"] += 1
    if not rows:
        raise UsageError(f"{path} has no readable line 'user item item …'; check the input")
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "part"])
    unique = table.drop_duplicates(["user_id", "item_id"], ignore_index=True)
    dropped["duplicate (user, item), an earlier one"] += len(table) - len(unique)
    return unique


def _remap(path: Path) -> dict[str, str]:
    """Number -> raw id, from lines 'org_id remap_id'; a number with two raw ids is left out."""
    found: dict[str, str] = {}
    twice = set()
    for line in lines(path):
        raw, number = (*line.split(), "", "")[:2]
        if len(line.split()) == 2 and number != "remap_id" and not unusable_id(raw):
            twice |= {number} & found.keys()
            found[number] = raw
    return {number: raw for number, raw in found.items() if number not in twice}


def _file(path: Path) -> Path:
    """`path`. Raises: UsageError if it is not a file."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist; name its folder as --input_path")
    return path
