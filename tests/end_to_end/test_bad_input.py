"""What the user gets wrong is one line with the thing, the value and the remedy; exit code 2."""

import json
import os

import pytest

from recbole_exp3rt.card import CARD, pair_digest
from recbole_exp3rt.quick_start import main


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the sample in it, made by a run."""
    folder = tmp_path_factory.mktemp("home")
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert main(["--model=Bias", "--use_gpu=False"]) == 0
    finally:
        os.chdir(before)
    return folder


QUICK = ["--use_gpu=False", "--student=oracle", "--eval_pairs=3", "--baselines=[]", "--task=rating"]

# Each new surprise joins: arguments, what the line says.
MISTAKES = [
    (["--modle=EXP3RT"], "modle", "model"),
    (["--eval_pair=3"], "eval_pair", "did you mean eval_pairs"),
    (["--learning_rte=3"], "learning_rte", "did you mean learning_rate"),
    (["--eval_pairs", "3"], "'--eval_pairs'", "--key=value"),
    (["--model=EXPERT"], "model=EXPERT", "did you mean EXP3RT"),
    (["--eval_pairs=-1"], "eval_pairs=-1", "from 1 on"),
    (["--task=rerank", "--rerank_depth=5"], "rerank_depth=5", "max(topk)=20"),
    (["--dataset=nowhere"], "nowhere", "dataset_converters"),
    (["--rating_model=./no-such-model"], "no-such-model", "hub id"),
    (["--prompt_dir=nowhere"], "prompt_dir=nowhere", "not a folder"),
    (["--task=rerank", "--generator=LightGNC"], "LightGNC", "did you mean LightGCN"),
    (["--task=rerank", "--generator=none.pth"], "none.pth", "does not exist"),
    (["--task=rerank", "--model=EXP3RT", "--relevant_from=99"], "relevant_from=99", "1–10"),
    (["--baselines=[LightGCN]"], "LightGCN predicts no ratings", "MF"),
    (["--baselines=[BPRX]"], "BPRX", "MF"),
    (["--model=BPR", "--task=rating"], "BPR", "MF, WDL, Bias"),
    (["--config_files=nowhere.yaml"], "nowhere.yaml", "config_files"),
    (["--review_file=nowhere.jsonl"], "nowhere.jsonl", "review_file=PATH"),
]


@pytest.mark.parametrize(("arguments", "thing", "remedy"), MISTAKES)
def test_a_mistake_is_one_line_and_nothing_half_written(
    home, monkeypatch, capsys, arguments, thing, remedy
):
    monkeypatch.chdir(home)
    result = home / "result.json"
    quick = [] if arguments[0].startswith("--model=BPR") else QUICK
    given = {argument.split("=")[0] for argument in arguments}
    rest = [argument for argument in quick if argument.split("=")[0] not in given]
    assert main([*rest, *arguments, f"--result_file={result}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and thing in line and remedy in line
    assert not result.exists() and not list(home.glob("**/*.part"))


def test_a_missing_sidecar_stops_a_model_that_reads_text_and_no_other(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    sidecar = home / "dataset" / "sample" / "sample.reviews.jsonl"
    hidden = sidecar.rename(sidecar.with_suffix(".hidden"))
    try:
        assert main(QUICK) == 2
        assert str(sidecar.name) in capsys.readouterr().err
        assert main(["--model=Bias", "--use_gpu=False"]) == 0
    finally:
        hidden.rename(sidecar)


def test_a_student_that_has_seen_test_pairs_is_refused(home, monkeypatch, capsys, tmp_path):
    from recbole_exp3rt.config import Config
    from recbole_exp3rt.data.split import load_split

    monkeypatch.chdir(home)
    split = load_split(Config("EXP3RT", "sample", config_dict={"use_gpu": False}))
    for pairs, refused in ((split.pairs("train"), False), (split.pairs("test")[:2], True)):
        seen = [pair_digest(*pair) for pair in pairs]
        (tmp_path / CARD).write_text(json.dumps({"train_pairs": seen}))
        code = main([*QUICK, f"--adapter={tmp_path}"])
        assert code == (2 if refused else 0)
    assert "was trained on 2 of the 366 test pairs" in capsys.readouterr().err


def test_a_single_pair_is_rated_and_measured(home, monkeypatch):
    monkeypatch.chdir(home)
    arguments = [argument for argument in QUICK if "eval_pairs" not in argument]
    assert main([*arguments, "--eval_pairs=1", "--result_file=one.json"]) == 0
    rows = json.loads((home / "one.json").read_text())["rows"]
    errors = [row["metrics"] for row in rows if row["slice"] == "all"]
    assert all(error["rmse"] == error["mae"] > 0 for error in errors)
