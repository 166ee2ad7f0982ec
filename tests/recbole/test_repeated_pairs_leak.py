"""The leak test on repeated pairs: users who reviewed an item again, benchmark parts that overlap.

Held out are rows, not pairs: of one user and item an early row may be a train row and a later one
a test row. Text, title, rating and votes of every row outside of train are changed; every prompt
byte, every average and every bias-only prediction has to stay the same.
"""

import json
import shutil
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from test_exp3rt_leak import annotated, observe, settings

from dataset_converters.sample import make_sample
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.llm.card import pair_digest
from recbole_exp3rt.quick_start.quick_start import run

USERS, AGAIN = 60, 30
BY_TIME = {"eval_args": {"split": {"RS": [8, 1, 1]}, "group_by": "user", "order": "TO"}}
AT_RANDOM = {"eval_args": {"split": {"RS": [8, 1, 1]}, "group_by": "user", "order": "RO"}}
LAST = {"eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO"}}
PARTS = {"benchmark_filename": ["train", "valid", "test"]}
NAMES = ["user_id", "item_id", "rating", "timestamp", "helpful"]
HEADER = ["user_id:token", "item_id:token", *(f"{name}:float" for name in NAMES[2:])]


def own_text(row: pd.Series) -> str:
    return f"I loved the slow build. Said by {row.user_id} of {row.item_id} at {row.timestamp:.0f}."


def key(user: str, item: str, time: float) -> tuple[str, str, np.float32]:
    """RecBole holds times in single precision."""
    return user, item, np.float32(time)


def write(folder: Path, parts: dict[str, pd.DataFrame], sidecar: pd.DataFrame, timed: bool) -> None:
    for part, rows in parts.items():
        rows.to_csv(folder / f"world{part}.inter", sep="\t", index=False, header=HEADER)
    lines = []
    for row in sidecar.itertuples():
        line = {"user_id": row.user_id, "item_id": row.item_id, "text": own_text(row)}
        # `of` is read by this test alone
        lines.append(line | ({"timestamp": row.timestamp} if timed else {}) | {"of": row.timestamp})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "world.reviews.jsonl").write_text(text)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    """The sample's first users, whose first item is reviewed once more, last of all."""
    folder = tmp_path_factory.mktemp("repeated") / "world"
    make_sample(folder)
    table = pd.read_csv(folder / "world.inter", sep="\t", names=NAMES, header=0)
    table = table[table["user_id"].isin(sorted(table["user_id"].unique())[:USERS])]
    again = table.groupby("user_id").head(1).head(AGAIN).copy()
    again["timestamp"] = 1.6e9
    again["rating"] = 11 - again["rating"]
    return folder.parent, pd.concat([table, again], ignore_index=True)


@pytest.fixture
def make(rows, tmp_path):
    """make(timed=…, overlap=…) -> the folder of a data set whose pairs repeat."""

    def made(timed: bool, overlap: bool = False) -> Path:
        source, table = rows
        shutil.copytree(source, tmp_path / "data")
        folder = tmp_path / "data" / "world"
        parts, sidecar = {"": table}, table
        if overlap:  # the same rows in train and in test, and later rows of their pairs in test
            last = table.groupby("user_id").tail(1)
            valid = table.drop(last.index).groupby("user_id").tail(1)
            train = table.drop(last.index)
            parts = {".train": train, ".valid": valid, ".test": pd.concat([last, train[::9]])}
        write(folder, parts, sidecar, timed)
        return tmp_path / "data"

    return made


def outside_of_train(folder: Path, values: dict) -> set[tuple]:
    """The rows of the files that are in no train part, as `key`s."""
    split = load_split(Config("EXP3RT", "world", config_dict=settings(folder, values)))
    times = split.column("train", "timestamp").tolist()
    train = {key(*pair, time) for pair, time in zip(split.pairs("train"), times, strict=True)}
    if "benchmark_filename" not in values:
        table = pd.read_csv(folder / "world" / "world.inter", sep="\t", names=NAMES, header=0)
        return {key(r.user_id, r.item_id, r.timestamp) for r in table.itertuples()} - train
    rows = set()
    for part in ("valid", "test"):
        times = split.column(part, "timestamp").tolist()
        rows |= {key(*pair, time) for pair, time in zip(split.pairs(part), times, strict=True)}
    return rows


def change(folder: Path, held_out: set[tuple]) -> None:
    """Other texts, titles, ratings and votes for these rows, where they are held out."""
    for file in (folder / "world").glob("*.inter"):
        if file.name == "world.train.inter":
            continue
        table = pd.read_csv(file, sep="\t", names=NAMES, header=0)
        hit = [key(r.user_id, r.item_id, r.timestamp) in held_out for r in table.itertuples()]
        table.loc[hit, "rating"] = 11 - table.loc[hit, "rating"]
        table.loc[hit, "helpful"] += 1000
        table.to_csv(file, sep="\t", index=False, header=HEADER)
    sidecar = folder / "world" / "world.reviews.jsonl"
    lines = [json.loads(line) for line in sidecar.read_text().splitlines()]
    for line in lines:
        if key(line["user_id"], line["item_id"], line["of"]) in held_out:
            line |= {"title": "LEAK", "text": "LEAK of a held-out text."}
    sidecar.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize(
    "values",
    [
        BY_TIME,
        AT_RANDOM,
        LAST,
        BY_TIME | {"rm_dup_inter": "first"},
        BY_TIME | {"rm_dup_inter": "last"},
        BY_TIME | {"item_profile": "neighbor"},
        PARTS,
    ],
    ids=["time", "random", "last", "first kept", "last kept", "neighbor", "overlap"],
)
def test_a_later_row_of_a_pair_reaches_no_prompt(make, values, timed):
    folder = make(timed, overlap="benchmark_filename" in values)
    before = observe(folder, values)
    held_out = outside_of_train(folder, values)
    before.pop("held out")
    assert len(held_out) >= AGAIN
    change(folder, held_out)
    after = observe(folder, values)
    after.pop("held out")
    assert not any("LEAK" in prompt for prompt in after["prompts"])
    for what, value in before.items():
        assert after[what] == value, f"{what} changed with held-out rows"


@pytest.mark.parametrize("timed", [True, False])
def test_a_train_row_has_its_own_text_or_none(make, timed):
    """By time the early text is the train row's; without, it cannot be told, and is said."""
    folder = make(timed)
    config = Config("EXP3RT", "world", config_dict=settings(folder, BY_TIME))
    with pytest.warns(UserWarning, match=f"{AGAIN} of {USERS} test rows are of a user and item"):
        split = load_split(config)
    chosen = Settings.from_config(config)
    untold = f"{AGAIN} pairs have no text in train" if not timed else ""
    with pytest.warns(UserWarning, match=f"{AGAIN} train pairs occur again outside.*{untold}"):
        corpus = corpus_of(split.train, chosen.description_fields, chosen.review_file)
    tested = set(split.pairs("test"))
    for user, item in split.pairs("train"):
        (review,) = [review for review in corpus.user_reviews(user) if review.item == item]
        assert " at 16" not in review.text, "the later text"
        assert bool(review.text) is (timed or (user, item) not in tested)
        assert not review.text or f"Said by {user} of {item} at" in review.text


@pytest.mark.parametrize("timed", [True, False])
def test_refit_reads_validation_and_still_no_test_text(make, timed):
    folder = make(timed, overlap=True)
    config = Config("EXP3RT", "world", config_dict=settings(folder, PARTS))
    with pytest.warns(UserWarning):
        split = load_split(config)
        corpus = corpus_of(split.merged().train, {"title": "Title"}, None)
    later = [own_text(row) for row in held_rows(folder, "test")]
    read = {review.text for reviews in corpus.by_user.values() for review in reviews}
    assert len(read) > 100 and not read & set(later)
    only_valid = [own_text(row) for row in held_rows(folder, "valid")]
    assert read & set(only_valid)


def held_rows(folder: Path, part: str) -> list:
    table = pd.read_csv(folder / "world" / f"world.{part}.inter", sep="\t", names=NAMES, header=0)
    return list(table.itertuples())


def test_a_whole_run_says_how_many_and_counts_no_masked_item_as_a_hit(make, tmp_path):
    folder = make(timed=True)
    own = {"student": "oracle", "store_path": str(tmp_path / "answers.sqlite"), "generator": "BPR"}
    own |= {"epochs": 1, "search": None, "eval_pairs": 10, "baselines": [], "relevant_from": None}
    console = Console(file=StringIO(), width=500)
    results = run("EXP3RT", "world", config_dict=settings(folder, own), console=console)
    repeated = f"{AGAIN} of {USERS} test rows are of a user and item that train or validation has"
    said = console.file.getvalue()
    for text in (repeated, f"{AGAIN} train pairs occur again outside of train"):
        assert said.count(f"note: {text}") == 1
        assert any(note.startswith(text) for note in results.about["notes"])
    ranked = [row for row in results.rows if row.task == "rerank"]
    assert {row.n for row in ranked} == {USERS - AGAIN}


def test_training_data_holds_no_pair_of_the_test_part(make, tmp_path):
    """So that a student of this data may be measured here: its card lists pairs, not rows."""
    folder = make(timed=True)
    files = annotated(folder, tmp_path / "out", annotate_pairs=None)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    split = load_split(Config("EXP3RT", "world", config_dict=settings(folder, {})))
    assert not {pair_digest(*pair) for pair in split.pairs("test")} & set(card["train_pairs"])
    assert files["rating.train.jsonl"]


def test_the_digest_tells_which_row_of_a_pair_is_held_out(make):
    """Checkpoints, result files and training data of another split are known by it."""
    folder = make(timed=True)
    table = pd.read_csv(folder / "world" / "world.inter", sep="\t", names=NAMES, header=0)
    digests = set()
    for kept in ("first", "last"):
        test = table[table.duplicated(["user_id", "item_id"], keep=kept)]
        parts = {".train": table.drop(test.index), ".valid": test.head(0), ".test": test}
        write(folder / "world", parts, table, timed=True)
        config = Config("MF", "world", config_dict=settings(folder, PARTS))
        digests.add(load_split(config).digest)
    assert len(digests) == 2
