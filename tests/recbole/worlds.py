"""Rows of small worlds, and how they become atomic files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dataset_converters.base import convert
from dataset_converters.imdb import ImdbSource
from dataset_converters.write import load_properties
from recbole_exp3rt.sample.world import make_world, write_world

Row = Sequence[object]  # user, item[, rating[, timestamp]]
COLUMNS = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
LOADED = {"inter": ["user_id", "item_id", "rating", "timestamp"]}
SETTINGS = {  # of a script that ranks
    "load_col": LOADED,
    "epochs": 2,
    "show_progress": False,
    "topk": [5, 20],
    "metrics": ["Recall", "NDCG"],
    "valid_metric": "NDCG@5",
}

# A world of a few rows, with texts and descriptions: `write_small`
SMALL_TRAIN: list[Row] = [
    ("ann", "a", 5, 1),
    ("ann", "b", 2, 2),
    ("ann", "c", 4, 3),
    ("bob", "a", 1, 1),
    ("bob", "e", 2, 2),
]
SMALL_TEST: list[Row] = [("ann", "d", 3, 9), ("cat", "a", 4, 9)]
SMALL = {
    "rating_scale": [1, 5],
    "benchmark_filename": ["train", "valid", "test"],
    "description_fields": {"title": "Title", "kind": "Kind", "plot": "Plot"},
    "load_col": LOADED,
}


def write_small(
    folder: Path,
    train: Sequence[Row] = SMALL_TRAIN,
    test: Sequence[Row] = SMALL_TEST,
    valid: Sequence[Row] = (),
    texts: Mapping[tuple[object, object, object], str] | None = None,
) -> None:
    """Write a data set `world` of benchmark files; `texts`: (user, item, time) -> review.

    Other reviews say whose they are; with `texts` each has its text in capitals as title.
    """
    for part, rows in (("train", train), ("valid", valid), ("test", test)):
        if rows:
            write_inter(folder / f"world.{part}.inter", rows)
    lines = []
    for user, item, _, time in [*train, *valid, *test]:
        text = (texts or {}).get((user, item, time), f"Text of {user} on {item}.")
        line = {"user_id": user, "item_id": item, "timestamp": time, "text": text}
        lines.append(json.dumps({**line, "title": text.upper() if texts else ""}))
    (folder / "world.reviews.jsonl").write_text("\n".join(lines), encoding="utf-8")
    items = "item_id:token\ttitle:token\tkind:token\tplot:token_seq\n" + "\n".join(
        f"{i}\tTitle {i}\tKind {i}\tPlot of {i}." for i in "abcde"
    )
    (folder / "world.item").write_text(items + "\n", encoding="utf-8")


def write_fewer(folder: Path) -> None:
    """Write a data set like the sample, with a third of its users."""
    with tempfile.TemporaryDirectory() as source:
        write_world(make_world(users=100, exactly_5=30, unseen=15), Path(source))
        convert(ImdbSource(Path(source)), folder, load_properties("sample"))


def write_inter(path: Path, rows: Sequence[Row], width: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([list(row)[:width] for row in rows], columns=list(COLUMNS[:width]))
    table.to_csv(path, sep="\t", index=False)


def structured_rows(
    n_users: int = 60, n_items: int = 40, seed: int = 0, per_user: int = 15
) -> list[Row]:
    """Ratings 1..5 of user leniency + item quality + match of two tastes + noise."""
    random = np.random.default_rng(seed)
    leniency = random.normal(0, 0.5, n_users)
    quality = random.normal(0, 0.7, n_items)
    user_taste, item_taste = random.integers(0, 2, n_users), random.integers(0, 2, n_items)
    rows: list[Row] = []
    for user in range(n_users):
        # Users mostly choose what is to their taste: that is what a ranking can learn.
        weights = np.where(item_taste == user_taste[user], 4.0, 1.0)
        chosen = random.choice(n_items, per_user, replace=False, p=weights / weights.sum())
        for time, item in enumerate(chosen):
            match = 0.8 if item_taste[item] == user_taste[user] else -0.8
            value = 3.2 + leniency[user] + quality[item] + match + random.normal(0, 0.3)
            rows.append((f"u{user}", f"i{item}", float(np.clip(round(value), 1, 5)), time))
    return rows


def prepare(model, dataset="world", **settings):
    """What a user of RecBole writes: config, train, valid and test data, a model."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import init_seed

    config = Config(model, dataset, config_dict={**SETTINGS, **settings})
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    return config, train, valid, test, config.model_class(config, train.dataset)


class Evil:
    """A pickle of it makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return Path.mkdir, (self.folder,)
