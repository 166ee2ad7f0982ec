"""The parts that a protocol draws before a run: halves of the top ratings, users below the core."""

import json

import pandas as pd
import pytest
import yaml

from dataset_converters.__main__ import main
from dataset_converters.engine import Engine
from dataset_converters.halves import Halves
from dataset_converters.scale import Scale
from dataset_converters.unseen import draw_unseen
from recbole_exp3rt.data.slices import balanced_rows
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review

TEN, FIVE = Scale(1, 10), Scale(1, 5)


def table(*rows):
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])


def pairs(part):
    return set(zip(part["user_id"], part["item_id"], strict=True))


def test_highest_ratings_are_halved_and_low_ones_are_gone():
    ratings = {"a": 10, "b": 9, "c": 9, "d": 8, "e": 6, "f": 5}
    rows = table(*(("ann", item, rating, 0) for item, rating in ratings.items()))
    rows = pd.concat([rows, table(("bob", "a", 9, 0), ("bob", "b", 7, 0))])
    parts = Halves().split(rows, TEN)
    assert {name: len(part) for name, part in parts.items()} == {"train": 6, "valid": 0, "test": 1}
    assert set(parts["test"]["user_id"]) == {"ann"}, "a single highest rating stays in train"
    assert parts["test"]["rating"].min() >= 9 and parts["train"]["rating"].min() == 6
    assert not pairs(parts["train"]) & pairs(parts["test"])


def test_a_tenth_of_what_is_left_is_validation_out_of_the_highest():
    rows = table(
        *(("ann", f"h{k}", 9, 0) for k in range(4)), *(("ann", f"l{k}", 7, 0) for k in range(4))
    )
    parts = Halves().split(rows, TEN)  # 2 of 4 are test; of 6 left, 1 is validation
    assert [len(parts[name]) for name in ("train", "valid", "test")] == [5, 1, 2]
    assert parts["valid"]["rating"].tolist() == [9]


def test_another_user_changes_no_draw():
    own = [("ann", f"h{k}", 9, 0) for k in range(9)]
    alone = Halves().split(table(*own), TEN)
    beside = Halves().split(table(*(("aaa", f"h{k}", 10, 0) for k in range(5)), *own[::-1]), TEN)
    assert pairs(alone["test"]) == {pair for pair in pairs(beside["test"]) if pair[0] == "ann"}


@pytest.mark.parametrize(
    ("scale", "low", "high"),
    [(TEN, 6, 9), (FIVE, 3, 5), (Scale(0.5, 5, 0.5), 3.0, 4.5), (Scale(0, 1), 1, 1)],
)
def test_values_go_with_the_scale(scale, low, high):
    assert Halves().values(scale) == (low, high)
    assert Halves(kept_from=high).values(scale) == (high, high)


def test_values_outside_of_the_scale_are_the_users_error():
    with pytest.raises(UsageError, match="kept_from=7 and halved_from=6 do not rise"):
        Halves(7, 6).values(TEN)
    with pytest.raises(UsageError, match="halved_from=11"):
        Halves(halved_from=11).values(TEN)


def test_a_converter_writes_the_parts_and_names_them(tmp_path, capsys):
    out = tmp_path / "top"
    assert main(["sample", "--output_path", str(out), "--split", "topk-halves"]) == 0
    settings = yaml.safe_load((out / "top.yaml").read_text())
    assert settings["benchmark_filename"] == ["train", "valid", "test"]
    assert settings["relevant_from"] == 9 and "eval_args" not in settings
    read = {p: pd.read_csv(out / f"top.{p}.inter", sep="\t") for p in ("train", "valid", "test")}
    assert read["test"]["rating:float"].min() == read["valid"]["rating:float"].min() == 9
    assert read["train"]["rating:float"].min() == 6
    of = {
        p: part[part["rating:float"] >= 9].groupby("user_id:token").size()
        for p, part in read.items()
    }
    high = pd.concat(of).groupby(level=1).sum()
    assert of["test"].sub(high // 2, fill_value=0).eq(0).all()
    reviews = [json.loads(line) for line in (out / "top.reviews.jsonl").read_text().splitlines()]
    assert len(reviews) == sum(map(len, read.values()))
    assert not list(out.glob("*.unseen.*"))
    assert "test: " in capsys.readouterr().out


def test_options_of_halves_need_the_split(tmp_path, capsys):
    assert main(["sample", "--output_path", str(tmp_path / "a"), "--kept_from", "7"]) == 2
    assert "kept_from belongs to --split topk-halves" in capsys.readouterr().err


def test_users_below_the_core_with_two_reviews_are_kept_beside(tmp_path, capsys):
    core = [(user, item) for user in "xy" for item in "ab"]
    others = [("two", "a"), ("two", "q"), ("one", "a"), ("off", "q"), ("off", "r")]
    for most, expected in ((10, {("two", "a"), ("two", "q")}), (0, set())):
        engine = Engine(tmp_path)
        engine.add([(n, Review(*pair, rating=1)) for n, pair in enumerate(core + others)], [])
        engine.code()
        assert engine.k_core(2) == len(others)
        draw_unseen(engine, most)
        assert pairs(engine.frame("unseen")) == expected
    out = tmp_path / "sample"
    assert main(["sample", "--output_path", str(out), "--unseen_users", "7"]) == 0
    read = {p: pd.read_csv(out / f"sample{p}.inter", sep="\t") for p in ("", ".unseen")}
    users = {p: set(part["user_id:token"]) for p, part in read.items()}
    assert len(users[".unseen"]) == 7 and not users[""] & users[".unseen"]
    texts = (out / "sample.unseen.reviews.jsonl").read_text().splitlines()
    assert len(texts) == len(read[".unseen"])
    files = (file for file in out.iterdir() if file.name != "dataset.json")
    whole = {file.name: file.read_bytes() for file in files if ".unseen" not in file.name}
    assert main(["sample", "--output_path", str(out), "--unseen_users", "0", "--overwrite"]) == 0
    (out / "dataset.json").unlink()
    assert {file.name: file.read_bytes() for file in out.iterdir()} == whole


def test_a_balanced_draw_by_hand():
    levels = list("1123335")
    assert balanced_rows(levels, "123", 3, seed=0).size == 3
    drawn = balanced_rows(levels, "123", 99, seed=0)
    assert [levels[k] for k in drawn] == ["1", "2", "3"], "as many as the rarest has"
    assert balanced_rows(levels, "1234", 99, seed=0).size == 0
