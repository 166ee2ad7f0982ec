"""The split at random as named settings; a student of one split is refused on another."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from dataset_converters.__main__ import main
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.card import CARD, pair_digest
from recbole_exp3rt.quick_start.quick_start import run

OWN = {"use_gpu": False, "search": None, "epochs": 1, "fit_cache": None, "explanations": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The sample twice: for ratings, and in halves for ranking."""
    folder = tmp_path_factory.mktemp("splits")
    assert main(["sample", "--output_path", str(folder / "sample")]) == 0
    assert main(["sample", "--output_path", str(folder / "top"), "--split", "topk-halves"]) == 0
    return folder


def split_of(data, name="sample", files=(), **settings):
    given = {"data_path": str(data), **OWN, **settings}
    return load_split(Config("Bias", name, config_file_list=list(files), config_dict=given))


def test_another_seed_is_another_split_at_random_and_the_same_by_time(data):
    named = ["random-8-1-1"]
    first, same, other = (split_of(data, files=named, seed=s) for s in (1, 1, 2))
    assert first.digest == same.digest != other.digest
    assert len({split_of(data, seed=s).digest for s in (1, 2)}) == 1
    by_time = split_of(data)
    assert [first.size(p) for p in ("train", "valid", "test")] == [
        by_time.size(p) for p in ("train", "valid", "test")
    ]


def test_a_run_takes_it_by_name(data):
    given = {"data_path": str(data), **OWN, "baselines": ["MF"], "task": "rating"}
    given |= {"unseen_rows": 5, "seed": 1}
    results = run("Bias", "sample", config_files=["random-8-1-1"], config_dict=given)
    assert results.split_digest == split_of(data, files=["random-8-1-1"], seed=1).digest
    assert {row.slice for row in results.rows} == {"all", "warm", "cold", "unseen"}


def card_of(folder: Path, split) -> Path:
    """A student's folder that says what it was trained on."""
    folder.mkdir(exist_ok=True)
    pairs = [pair_digest(*pair) for pair in split.pairs("train")]
    (folder / CARD).write_text(json.dumps({"train_pairs": pairs, "split": split.digest}))
    return folder


def test_a_student_of_the_rating_split_is_refused_on_the_topk_split(data, tmp_path):
    """Most of what the one split trains on, the other tests on."""
    student = card_of(tmp_path / "student", split_of(data))
    top = split_of(data, "top")
    given = {"data_path": str(data), **OWN, "student": str(student)}
    train = set(split_of(data).pairs("train"))
    leaked = sum(pair in train for pair in top.pairs("test"))
    assert leaked > top.size("test") / 2
    for system in ("EXP3RT", "LLMRec"):
        with pytest.raises(UsageError, match=f"trained on {leaked} of the {top.size('test')} test"):
            run("BPR", "top", config_dict={**given, "reranker": system})


def test_a_student_of_another_split_without_a_test_pair_is_told(data, tmp_path):
    """And with a calibration, which is fitted on validation, it must not know validation either."""
    by_time = split_of(data)
    student = card_of(tmp_path / "student", by_time)
    card = json.loads((student / CARD).read_text())
    (student / CARD).write_text(json.dumps({**card, "split": "feed" * 16}))
    given = {"data_path": str(data), **OWN, "student": str(student), "task": "rating"}
    console = Console(file=io.StringIO(), width=500)
    with pytest.raises(LLMError):  # there are no weights in this folder
        run("EXP3RT", "sample", config_dict=given, console=console)
    assert "was trained on another split (feedfeedfeed)" in console.file.getvalue()
    seen = [pair_digest(*pair) for pair in by_time.pairs("valid")]
    (student / CARD).write_text(json.dumps({"train_pairs": seen}))
    with pytest.raises(LLMError):
        run("EXP3RT", "sample", config_dict=given)
    with pytest.raises(UsageError, match="validation pairs of this split"):
        run("EXP3RT", "sample", config_dict={**given, "calibration": "affine"})


def test_a_validation_part_of_one_row_is_enough(tmp_path):
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    rows = [
        f"u{u}\ti{i}\t{1 + (u + 2 * i) % 5}\t{u * 10 + i}\n" for u in range(6) for i in range(5)
    ]
    folder = tmp_path / "one"
    folder.mkdir()
    for name, part in (("train", rows[6:]), ("valid", rows[:1]), ("test", rows[1:6])):
        (folder / f"one.{name}.inter").write_text(head + "".join(part))
    (folder / "one.yaml").write_text(
        "benchmark_filename: [train, valid, test]\nrating_scale: [1, 5]\n"
        "load_col: {inter: [user_id, item_id, rating, timestamp]}\n"
    )
    given = {"data_path": str(tmp_path), **OWN, "task": "rating"}
    results = run("MF", "one", config_dict=given, console=Console(quiet=True))
    assert {row.name for row in results.rows} == {"constant", "Bias", "MF"}
