"""The metamorphic leak test, for good: nothing that held-out rows say reaches a prompt.

Text, title, rating and votes of every validation and test row are changed; every prompt byte,
every average and every bias-only prediction has to stay the same. Once for each kind of split.
"""

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from worlds import write_fewer

from recbole_exp3rt.annotate import annotate
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.sample.oracle import OracleTeacher
from recbole_exp3rt.stages.pipeline import Models, Pipeline
from recbole_exp3rt.trainer.fitting import build_model

SPLITS = {
    "ratio by time": {"eval_args": {"split": {"RS": [8, 1, 1]}, "group_by": "user", "order": "TO"}},
    "ratio at random": {
        "eval_args": {"split": {"RS": [8, 1, 1]}, "group_by": "user", "order": "RO"}
    },
    "leave one out": {
        "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO"}
    },
    "benchmark files": {"benchmark_filename": ["train", "valid", "test"]},
}


class Recorder(OracleTeacher):
    """The oracle, keeping all that it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def generate(self, requests):
        self.asked += [repr(request) for request in requests]
        return super().generate(requests)


def observe(folder: Path, values: dict) -> dict:
    """All that a run would show or predict for the test pairs of this data."""
    split = load_split(config := Config("EXP3RT", "world", config_dict=settings(folder, values)))
    chosen = Settings.from_config(config)
    corpus = corpus_of(split.train, chosen.description_fields, chosen.review_file)
    recorder = Recorder()
    pipeline = Pipeline(corpus, Models(recorder, recorder, recorder), load_prompts(), chosen.stages)
    pairs = split.pairs("test")
    predictions = pipeline.rate(pairs)
    bias = build_model(config.for_model("Bias"), split.part("train"))
    return {
        "held out": [split.pairs("valid"), pairs],
        "train": split.pairs("train"),
        "prompts": recorder.asked,
        "averages": [(corpus.user_average(u), corpus.item_average(i)) for u, i in pairs],
        "ratings": [p.expected for p in predictions],
        "bias": bias.predict(split.test.inter_feat).tolist(),
        "constant": float(np.mean(split.ratings("train"))),
    }


def settings(folder: Path, values: dict) -> dict:
    return {"data_path": str(folder), "use_gpu": False, "refit": False, **values}


def change(folder: Path, rows: set[tuple[str, str]]) -> None:
    """Other texts, titles, ratings and votes for these (user, item) rows, in every file."""
    for file in (folder / "world").glob("*.inter"):
        table = pd.read_csv(file, sep="\t", dtype={"user_id:token": str, "item_id:token": str})
        keys = zip(table["user_id:token"], table["item_id:token"], strict=True)
        hit = np.array([key in rows for key in keys])
        table.loc[hit, "rating:float"] = 11 - table.loc[hit, "rating:float"]
        table.loc[hit, "helpful:float"] = table.loc[hit, "helpful:float"] + 1000
        table.to_csv(file, sep="\t", index=False)
    sidecar = folder / "world" / "world.reviews.jsonl"
    reviews = [json.loads(line) for line in sidecar.read_text().splitlines()]
    for review in reviews:
        if (review["user_id"], review["item_id"]) in rows:
            review |= {"title": "LEAK", "text": "LEAK of a held-out text."}
    sidecar.write_text("".join(json.dumps(review) + "\n" for review in reviews))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A small sample under the name `world`, with benchmark files beside the whole."""
    folder = tmp_path_factory.mktemp("leak")
    write_fewer(folder / "world")
    split = load_split(Config("EXP3RT", "world", config_dict=settings(folder, {})))
    whole = pd.read_csv(folder / "world" / "world.inter", sep="\t", dtype=str)
    keys = list(zip(whole["user_id:token"], whole["item_id:token"], strict=True))
    for part in ("train", "valid", "test"):
        rows = set(split.pairs(part))
        whole[[key in rows for key in keys]].to_csv(
            folder / "world" / f"world.{part}.inter", sep="\t", index=False
        )
    return folder


@pytest.mark.parametrize(
    ("kind", "item_profile"),
    [(kind, "all") for kind in SPLITS]
    + [("ratio by time", "helpful"), ("ratio by time", "neighbor"), ("leave one out", "neighbor")],
)
def test_held_out_rows_reach_no_prompt_no_average_and_no_bias(world, tmp_path, kind, item_profile):
    copy = tmp_path / "data"
    shutil.copytree(world, copy)
    values = SPLITS[kind] | {"item_profile": item_profile}
    before = observe(copy, values)
    valid, test = before.pop("held out")
    assert len(valid) >= 100 and len(test) >= 100
    change(copy, set(valid) | set(test))
    after = observe(copy, values)
    after.pop("held out")
    assert not any("LEAK" in prompt for prompt in after["prompts"])
    for what, value in before.items():
        assert after[what] == value, f"{what} changed with held-out rows"


@pytest.mark.parametrize("item_profile", ["all", "neighbor"])
def test_the_same_change_to_one_train_row_is_noticed(world, tmp_path, item_profile):
    """The test above can fail."""
    copy = tmp_path / "data"
    shutil.copytree(world, copy)
    values = {"item_profile": item_profile}
    before = observe(copy, values)
    change(copy, {next(pair for pair in before["train"] if pair[0] == before["held out"][1][0][0])})
    after = observe(copy, values)
    for what in ("prompts", "averages", "bias", "constant"):
        assert after[what] != before[what], what
    assert any("LEAK" in prompt for prompt in after["prompts"])


def asked_in_a_run(folder: Path, store: Path, **values) -> set[str]:
    """Every request of a whole run, as its store keeps them."""
    own = {"student": "oracle", "store_path": str(store), "generator": "BPR", "epochs": 1}
    own |= {"search": None}
    run("EXP3RT", "world", config_dict=settings(folder, own | values))
    with sqlite3.connect(store) as reader:
        return {request for (request,) in reader.execute("SELECT request FROM requests")}


@pytest.mark.parametrize("refit", [False, True])
def test_a_whole_run_asks_the_same_whatever_held_out_rows_say(world, tmp_path, refit):
    """With refit the validation rows are train rows, and only test rows are held out."""
    copy = tmp_path / "data"
    shutil.copytree(world, copy)
    rating = {"task": "rating", "eval_pairs": 60, "refit": refit}
    before = asked_in_a_run(copy, tmp_path / "before.sqlite", **rating)
    split = load_split(Config("EXP3RT", "world", config_dict=settings(copy, {})))
    change(copy, set(split.pairs("test")) | (set() if refit else set(split.pairs("valid"))))
    assert asked_in_a_run(copy, tmp_path / "after.sqlite", **rating) == before
    # which users have a relevant row depends on test ratings, so only what is told is compared
    rerank = {"task": "rerank", "rerank_users": 5, "refit": refit}
    told = asked_in_a_run(copy, tmp_path / "rerank.sqlite", **rerank)
    assert told and not any("LEAK" in request for request in told)


def test_calibration_reads_validation_out_of_train_and_never_a_test_row(world, tmp_path):
    """Other test ratings change no coefficient, nor does a refit; other validation ratings do."""

    def coefficients(refit: bool) -> dict:
        own = {"student": "oracle", "store_path": str(tmp_path / "answers.sqlite"), "refit": refit}
        own |= {"task": "rating", "baselines": [], "eval_pairs": 20}
        own |= {"calibration": "blend", "calibration_pairs": 60}
        return run("EXP3RT", "world", config_dict=settings(copy, {}) | own).about["calibration"]

    copy = tmp_path / "data"
    shutil.copytree(world, copy)
    before = coefficients(refit=False)
    assert before["pairs"] == before["answered"] == 60 and 0 < before["slope"] < 1
    assert coefficients(refit=True) == before
    split = load_split(Config("EXP3RT", "world", config_dict=settings(copy, {})))
    change(copy, set(split.pairs("test")))
    assert coefficients(refit=False) == coefficients(refit=True) == before
    change(copy, set(split.pairs("valid")))
    assert coefficients(refit=False) != before


def annotated(folder: Path, out: Path, **values) -> dict[str, bytes]:
    """The files of a folder of training data, its card without the digest of the split."""
    own = {"teacher": "oracle", "teacher_temperature": 0.0, "annotate_pairs": 40}
    own |= {"profile_reviews": 3}
    paths = {"annotate_dir": str(out), "store_path": str(out.with_suffix(".sqlite"))}
    annotate("world", config_dict=settings(folder, own | paths | values))
    files = {path.name: path.read_bytes() for path in out.glob("*.jsonl")}
    card = json.loads((out / "card.json").read_text())
    return files | {"card": {key: value for key, value in card.items() if key != "split"}}


@pytest.mark.parametrize(
    ("kind", "leave_out"), [(kind, number % 2 == 0) for number, kind in enumerate(SPLITS)]
)
def test_other_test_rows_change_no_byte_of_the_training_data(world, tmp_path, kind, leave_out):
    """Other validation rows change what is validated on, and nothing that is trained on."""
    copy = tmp_path / "data"
    shutil.copytree(world, copy)
    values = SPLITS[kind] | {"profile_leave_one_out": leave_out}
    before = annotated(copy, tmp_path / "before", **values)
    split = load_split(Config("EXP3RT", "world", config_dict=settings(copy, values)))
    change(copy, set(split.pairs("test")))
    assert annotated(copy, tmp_path / "test", **values) == before
    change(copy, set(split.pairs("valid")))
    after = annotated(copy, tmp_path / "valid", **values)
    assert {name for name in before if before[name] != after[name]} == {"rating.valid.jsonl"}
    change(copy, set(split.pairs("train")))
    assert b"LEAK" in annotated(copy, tmp_path / "train", **values)["preference.train.jsonl"]


def test_test_rows_that_are_not_there_are_missed_by_nobody(world, tmp_path):
    """Not even the order of the rows depends on them."""
    copy = tmp_path / "data"
    shutil.copytree(world, copy)
    values = SPLITS["benchmark files"]
    before = annotated(copy, tmp_path / "before", **values)
    file = copy / "world" / "world.test.inter"
    table = pd.read_csv(file, sep="\t", dtype=str)
    table.sample(frac=0.2, random_state=1).to_csv(file, sep="\t", index=False)
    assert annotated(copy, tmp_path / "after", **values) == before
