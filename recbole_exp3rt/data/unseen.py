"""Users that no model has learned from: their ratings, and the other reviews that tell of them.

They are the users of `<data set>.unseen.inter`, which a converter writes of users below the
k-core; or, if RecBole filters users (`user_inter_num_interval`), the users that it leaves out.
RecBole never reads these rows. Paper: section 4.2.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_exp3rt.config.reader import Reader, read_scale
from recbole_exp3rt.data.review_file import read_sidecar, review_file_of
from recbole_exp3rt.data.slices import balanced_rows, sample_rows
from recbole_exp3rt.data.split import FILTERS, Split
from recbole_exp3rt.data.train_corpus import read_descriptions
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Description, Review

NATURAL, BALANCED = "unseen", "unseen, balanced"  # slices: drawn at random, and by rating level


@dataclass(frozen=True, slots=True)
class UnseenPair:
    """A pair to rate, and the other reviews of its user. The pair's own rating is not in it."""

    user: str
    item: str
    others: tuple[Review, ...]  # oldest first


@dataclass(frozen=True)
class Unseen:
    """The pairs to rate with their ratings [n_pairs], and which of them each slice has.

    `slices` maps a slice to a mask: [n_pairs]. `descriptions` are those of items that train does
    not have. `total` rows could have been drawn.
    """

    pairs: tuple[UnseenPair, ...]
    ratings: NDArray[np.float64]
    slices: Mapping[str, NDArray[np.bool_]]
    descriptions: Mapping[str, Description]
    total: int

    @property
    def tokens(self) -> list[tuple[str, str]]:
        """The raw user and item of each pair."""
        return [(pair.user, pair.item) for pair in self.pairs]

    @property
    def rounds(self) -> list[list[int]]:
        """Numbers of pairs in rounds without a user twice, so each user is known by one pair's
        other reviews."""
        rounds: dict[int, list[int]] = defaultdict(list)
        met: dict[str, int] = defaultdict(int)
        for number, pair in enumerate(self.pairs):
            rounds[met[pair.user]].append(number)
            met[pair.user] += 1
        return [rounds[key] for key in sorted(rounds)]


def load_unseen(split: Split, natural: int | None, balanced: int | None, seed: int) -> Unseen:
    """Draw rows of unseen users about items of the train part.

    `natural` rows are drawn at random, `balanced` rows with as many of each rating level; None:
    no row. Only users with another row are drawn. Warns where a level has too few rows.

    Raises: UsageError if the data set has no such rows.
    """
    rows, descriptions = _rows(split)
    by_user: dict[str, list[Review]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.timestamp, row.item)):
        by_user[row.user].append(row)
    known = {item for _, item in split.pairs("train")}
    pool = sorted(
        (row for row in rows if row.item in known and len(by_user[row.user]) > 1),
        key=lambda row: (row.user, row.item),
    )
    if not pool:
        raise UsageError(
            f"data set {split.config.dataset} has no unseen user with two reviews, one of them "
            "about an item of train; leave out unseen_rows and unseen_balanced"
        )
    ratings = np.array([row.rating for row in pool])
    chosen = {NATURAL: sample_rows(len(pool), natural, seed)} if natural else {}
    if balanced:
        scale = read_scale(split.config)
        levels = [scale.label_of(rating) for rating in ratings.tolist()]
        chosen[BALANCED] = drawn = balanced_rows(levels, scale.labels, balanced, seed)
        if len(drawn) < balanced // len(scale.labels) * len(scale.labels):
            rarest = min(scale.labels, key=levels.count)
            warnings.warn(
                f"unseen_balanced={balanced}: {len(drawn)} rows are drawn, because only "
                f"{levels.count(rarest)} rows of unseen users are rated {scale.level_of(rarest):g}",
                stacklevel=2,
            )
    taken = sorted({row for rows in chosen.values() for row in rows.tolist()})
    return Unseen(
        tuple(
            UnseenPair(
                row.user,
                row.item,
                tuple(other for other in by_user[row.user] if other.item != row.item),
            )
            for row in (pool[k] for k in taken)
        ),
        ratings[taken],
        {part: np.isin(taken, rows) for part, rows in chosen.items() if len(rows)},
        {item: text for item, text in descriptions.items() if item not in known},
        len(pool),
    )


def _rows(split: Split) -> tuple[list[Review], Mapping[str, Description]]:
    """All rows of unseen users with their texts, the latest of each pair; and descriptions."""
    config, dataset = split.config, split.dataset
    folder, name = Path(dataset.dataset_path), dataset.dataset_name
    prefix, given = f"{name}.unseen", None
    if not (folder / f"{prefix}.inter").is_file():
        filtered = config["user_inter_num_interval"] != FILTERS["user_inter_num_interval"]
        if not filtered or config["benchmark_filename"]:
            raise UsageError(
                f"data set {name} has no {prefix}.inter, the rows of users below the core; convert "
                "it again, or let RecBole filter users (user_inter_num_interval)"
            )
        prefix, given = name, Reader(config).text_or_none("review_file")
    table = _read_inter(split, folder / f"{prefix}.inter")
    ids = (dataset.uid_field, dataset.iid_field)
    wanted = set(zip(table[ids[0]], table[ids[1]], strict=True))
    fields = Reader(config).names("review_fields", "title and text to fields")
    time = dataset.time_field or "timestamp"
    file = review_file_of(folder, prefix, given)
    texts = read_sidecar(file, wanted, time, ids, fields) if file.is_file() else {}
    rows = []
    for user, item, rating, at in zip(
        *(table[column] for column in (*ids, "rating", "time")), strict=True
    ):
        title, text = max(texts.get((user, item), [(0.0, ("", ""))]), key=lambda one: one[0])[1]
        rows.append(Review(user, item, float(rating), text, title, float(at)))
    form = (dataset.config["field_separator"], dataset.config["encoding"])
    described = Reader(config).names("description_fields")
    path = folder / f"{prefix}.item"
    return rows, read_descriptions(path, described, ids[1], *form)


def _read_inter(split: Split, path: Path) -> pd.DataFrame:
    """User, item, `rating` and `time` of the rated rows of users that `split` does not have."""
    config, dataset = split.config, split.dataset
    users, items, rating = dataset.uid_field, dataset.iid_field, config["RATING_FIELD"]
    table = pd.read_csv(
        path,
        sep=config["field_separator"],
        dtype=str,
        keep_default_na=False,
        encoding=config["encoding"] or "utf-8-sig",
    )
    table = table.rename(columns=lambda column: str(column).split(":")[0])
    if absent := [name for name in (users, items, rating) if name not in table.columns]:
        raise UsageError(f"{path} has no column {absent[0]}; convert the data again")
    scale = read_scale(config)
    table["rating"] = pd.to_numeric(table[rating], errors="coerce")
    timed = dataset.time_field in table.columns
    table["time"] = pd.to_numeric(table[dataset.time_field], errors="coerce") if timed else 0.0
    table = table[table["rating"].between(scale.lowest, scale.highest)]
    table = table[~table[users].isin(split.user_ids)]
    table = table.fillna({"time": 0.0}).sort_values("time", kind="stable")
    return table.drop_duplicates([users, items], keep="last")
