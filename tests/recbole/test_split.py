"""One split for all models: by ratio and time, leave-one-out, benchmark files."""

from __future__ import annotations

import pickle
import time
from collections import Counter

import pytest
from worlds import Evil, structured_rows

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import load_split, rebuild_split
from recbole_exp3rt.errors import UsageError

TIMED = [("u", f"i{k}", float(1 + k % 5), time) for k, time in enumerate([5, 3, 9, 1, 7])]
OTHERS = [(f"v{k}", f"i{k}", 3.0, 0) for k in range(5)]


def items_of(split, part, user="u"):
    return [item for owner, item in split.pairs(part) if owner == user]


def test_ratio_per_user_by_time(make_world):
    split = load_split(make_world(structured_rows(per_user=10)))
    assert [split.size(part) for part in ("train", "valid", "test")] == [480, 60, 60]
    times = {part: split.column(part, "timestamp") for part in ("train", "valid", "test")}
    assert set(times["train"]) == set(range(8))
    assert set(times["valid"]) == {8} and set(times["test"]) == {9}
    assert set(Counter(user for user, _ in split.pairs("train")).values()) == {8}


def test_leave_one_out_takes_the_newest(make_world):
    config = make_world(TIMED + OTHERS, eval_args={"split": {"LS": "valid_and_test"}})
    split = load_split(config)
    assert items_of(split, "test") == ["i2"] and items_of(split, "valid") == ["i4"]
    assert items_of(split, "train") == ["i3", "i1", "i0"]


def test_benchmark_files_are_taken_as_they_are(make_world):
    parts = {"train": TIMED[:3], "valid": TIMED[3:4], "test": TIMED[4:]}
    split = load_split(make_world(parts))
    for part, rows in parts.items():
        assert split.pairs(part) == [(user, item) for user, item, *_ in rows]
        assert split.ratings(part).tolist() == [row[2] for row in rows]


@pytest.mark.parametrize("valid", ["header only", "no file"])
def test_benchmark_without_validation_rows(make_world, valid, tmp_path):
    config = make_world({"train": TIMED[:3], "valid": [], "test": TIMED[3:]})
    if valid == "no file":
        (tmp_path / "dataset" / "world" / "world.valid.inter").unlink()
    split = load_split(config)
    assert [split.size(part) for part in ("train", "valid", "test")] == [3, 0, 2]
    assert split.merged().pairs("train") == split.pairs("train")


def test_an_empty_test_part_is_an_error(make_world):
    config = make_world({"train": TIMED, "valid": TIMED[:1], "test": []})
    with pytest.raises(UsageError, match="its test part has no rows"):
        load_split(config)


def test_a_split_by_time_needs_times(make_world):
    columns = {"inter": ["user_id", "item_id", "rating"]}
    with pytest.raises(UsageError, match="world has no times"):
        load_split(make_world(TIMED, load_col=columns))


def test_ratings_that_are_not_there(make_world):
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    split = load_split(make_world(TIMED + OTHERS, model="BPR", load_col=columns))
    assert not split.has_ratings
    with pytest.raises(UsageError, match="world has no ratings"):
        split.ratings("test")


def test_merged_holds_every_row_once(make_world):
    split = load_split(make_world(structured_rows()))
    merged = split.merged()
    assert sorted(merged.pairs("train")) == sorted(split.pairs("train") + split.pairs("valid"))
    assert merged.size("valid") == 0 and merged.pairs("test") == split.pairs("test")
    assert split.size("valid") == 60, "the split itself stays as it was"


def test_digest_is_of_the_rows_and_nothing_else(make_world):
    rows = structured_rows()
    digest = load_split(make_world(rows)).digest
    assert digest == load_split(make_world(rows, model="BPR", seed=5)).digest
    assert digest == load_split(make_world(rows[::-1])).digest
    split = load_split(make_world(rows))
    assert digest != split.merged().digest
    other = load_split(make_world(rows, eval_args={"split": {"RS": [6, 2, 2]}}))
    assert other.digest != digest


def test_tokens_and_inner_ids_both_ways(make_world):
    split = load_split(make_world(structured_rows()))
    for user, (token, _) in zip(split.users("test"), split.pairs("test"), strict=True):
        assert split.user_tokens[user] == token and split.user_ids[token] == user
    assert split.item_tokens[split.item_ids["i3"]] == "i3"


def test_readers_may_sort_their_part(make_world):
    """RecBole's loaders sort the rows they are given, and add fields."""
    split = load_split(make_world(structured_rows()))
    before = split.pairs("test")
    part = split.part("test")
    part.sort(by="user_id")
    part.copy_field_property("neg_item_id", "item_id")
    assert split.pairs("test") == before
    assert "neg_item_id" not in split.test.field2type


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"USER_ID_FIELD": "nope"}, "data set world .*no 'nope'"),
        ({"load_col": "abc"}, "data set world"),
        ({"val_interval": "abc"}, "data set world"),
        ({"rating_scale": [2, 5]}, "rating 1 outside rating_scale=.2, 5."),
    ],
)
def test_settings_that_do_not_fit_the_data_are_told_in_one_line(make_world, settings, message):
    rows = [("u", f"i{k}", float(1 + k % 5), k) for k in range(20)]
    with pytest.raises(UsageError, match=message):
        load_split(make_world(rows, **settings))


def test_an_empty_file_is_named(make_world, tmp_path):
    make_world(structured_rows())
    (tmp_path / "dataset" / "world" / "world.inter").write_text("")
    with pytest.raises(UsageError, match=r"world\.inter is empty"):
        Config("BPR", "world")


def test_a_pickle_beside_the_checkpoints_is_not_read(make_world, tmp_path):
    config, executed = make_world(structured_rows()), tmp_path / "executed"
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "world-Dataset.pth").write_bytes(pickle.dumps(Evil(executed)))
    assert load_split(config).size("test") and rebuild_split(config, time.time() + 1).size("test")
    assert not executed.exists()
    with pytest.raises(UsageError, match=r"dataset_save_path=x.pth: .*leave it out"):
        load_split(make_world(structured_rows(), dataset_save_path="x.pth"))


def test_filters_that_do_nothing_to_fixed_parts_are_told(make_world):
    parts = {"train": TIMED[:3], "valid": [], "test": TIMED[3:]}
    with pytest.warns(UserWarning, match="rm_dup_inter=first has no effect: the parts"):
        load_split(make_world(parts, rm_dup_inter="first"))
