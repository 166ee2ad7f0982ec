"""Teacher data by its command, on the sample: killed and gone on with, and what it refuses."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recbole_exp3rt import annotate
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.distill.annotate.examples import read_examples
from recbole_exp3rt.distill.annotate.training_data import read_card
from recbole_exp3rt.llm.card import pair_digest

ROOT = Path(__file__).parents[2]
FEW = ["--annotate_pairs=40", "--profile_reviews=3", "--use_gpu=False"]


def stored(store: Path) -> int:
    """Answers in the store of a running process."""
    if not store.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as reader:
            return int(reader.execute("SELECT COUNT(*) FROM answers").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def calls(output: str) -> int:
    (line,) = (line for line in output.splitlines() if "calls of the teacher" in line)
    return int(line.split()[0].replace(",", ""))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(home):
    """The folder of an undisturbed run."""
    os.chdir(home)
    assert annotate.main([*FEW, "--annotate_dir=whole", "--store_path=whole.sqlite"]) == 0
    return home / "whole"


@pytest.fixture(autouse=True)
def at_home(home, monkeypatch):
    monkeypatch.chdir(home)


def test_the_folder_holds_every_task_and_says_where_it_comes_from(whole):
    data, card = read_examples(whole), read_card(whole)
    train, valid = data["rating"]
    assert (len(train), len(valid)) == (40, 6)
    assert set(data) == {"preference", "user_profile", "item_profile", "rating"}
    assert card["synthetic"] is True and card["dataset"] == "sample"
    assert set(card["teacher"].values()) == {"sample-oracle (synthetic)"}
    for example in (*train, *valid):
        reasoning, rating = example.answer.split("\n")
        assert reasoning.startswith("Reasoning: ") and rating.startswith("Predicted User Rating: ")
        assert "Recommended" not in example.answer
        assert "<User Rating>" not in example.messages[-1].content
    assert not (whole / "rejected.jsonl").read_text()


def test_train_knows_no_validation_and_no_test_interaction(whole):
    split = load_split(Config("EXP3RT", "sample", config_dict={"use_gpu": False}))
    card = read_card(whole)
    assert card["split"] == split.digest
    of = {part: {pair_digest(*pair) for pair in split.pairs(part)} for part in ("valid", "test")}
    seen = set(card["train_pairs"])
    assert seen and not seen & of["valid"] and not seen & of["test"]
    assert seen <= {pair_digest(*pair) for pair in split.pairs("train")}


def test_after_kill_9_a_run_goes_on_and_pays_for_nothing_twice(home, whole, capsys):
    arguments = [*FEW, "--annotate_dir=killed", "--store_path=killed.sqlite"]
    command = [sys.executable, "-m", "recbole_exp3rt.annotate", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    store = home / "killed.sqlite"
    run = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while stored(store) < 5 and time.monotonic() < deadline:
        assert run.poll() is None
        time.sleep(0.001)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    kept, total = stored(store), stored(home / "whole.sqlite")
    assert 5 <= kept < total and not (home / "killed").exists()

    assert annotate.main(arguments) == 0
    assert calls(capsys.readouterr().out) == total - kept
    assert contents(home / "killed") == contents(whole)
    assert annotate.main(arguments) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert annotate.main([*arguments, "--overwrite=True"]) == 0
    assert calls(capsys.readouterr().out) == 0
    assert contents(home / "killed") == contents(whole)
    assert not list(home.glob(".killed*"))


def test_what_will_be_asked_is_said_first_and_what_came_of_it_last(home, whole, capsys):
    assert annotate.main([*FEW, "--annotate_dir=said", "--store_path=said.sqlite"]) == 0
    out = capsys.readouterr().out
    before, after = out.split("Reading reviews")
    for step in ("preferences: ", "profiles: ", "rationales: 46 calls; about "):
        assert f"\n  {step}" in before
    assert "rating: 46 asked for, 46 kept; 40 train and 6 valid examples" in after
    assert f"{stored(home / 'said.sqlite'):,} calls of the teacher" in after


def test_answers_that_are_there_teach_without_who_gave_them(home, whole, capsys):
    own = ["--teacher=store:sample-oracle (synthetic)", "--annotate_dir=replayed"]
    assert annotate.main([*FEW, *own, "--store_path=whole.sqlite"]) == 0
    assert calls(capsys.readouterr().out) == 0
    assert read_examples(home / "replayed") == read_examples(whole)
    assert read_card(home / "replayed")["synthetic"] is True
    more = [*own, "--overwrite", "--annotate_pairs=41", "--profile_reviews=3", "--use_gpu=False"]
    assert annotate.main([*more, "--store_path=whole.sqlite"]) == 2
    assert "answers are not in whole.sqlite; run once with the model" in capsys.readouterr().err


# Each new surprise joins: arguments, what the line says.
MISTAKES = [
    (["--teacher=./no-such-model"], "no-such-model", "hub id"),
    (["--teacher=store:nobody"], "teacher=store:nobody", "has no answers of this name"),
    (["--annotate_pairs=0"], "annotate_pairs=0", "from 1 on"),
    (["--annotate_retries=-1"], "annotate_retries=-1", "from 0 on"),
    (["--teacher_temperature=3"], "teacher_temperature=3", "between 0 and 2"),
    (["--teacher_temprature=1"], "teacher_temprature", "did you mean teacher_temperature"),
    (["--recommend_from=1"], "recommend_from=1", "1–10"),
    (["--annotate_dir=dataset"], "annotate_dir=dataset", "another folder"),
    (["--annotate_dir=whole.sqlite"], "annotate_dir=whole.sqlite", "name a folder"),
    (["--annotate_dir=/proc/none/x"], "/proc/none/x", "can be written"),
    (["--max_prompt_tokens=200"], "max_prompt_tokens=200", "give at least"),
    (["--prompt_dir=nowhere"], "prompt_dir=nowhere", "not a folder"),
    (["--dataset=nowhere"], "nowhere", "exp3rt convert"),
]


@pytest.mark.parametrize(("arguments", "thing", "remedy"), MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    home, whole, capsys, arguments, thing, remedy
):
    given = {argument.split("=")[0] for argument in arguments}
    rest = [a for a in [*FEW, "--annotate_dir=wrong"] if a.split("=")[0] not in given]
    assert annotate.main([*rest, "--store_path=wrong.sqlite", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and thing in line and remedy in line
    assert not (home / "wrong").exists() and not list(home.glob(".*partial"))


def test_a_teacher_without_a_key_is_told_which_variable_to_set(home, monkeypatch, capsys):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    arguments = [*FEW, "--teacher=openai:gpt-3.5-turbo", "--annotate_dir=wrong"]
    assert annotate.main(arguments) == 2
    assert "OPENAI_API_KEY" in capsys.readouterr().err


def test_the_files_load_as_a_trainer_loads_them(whole, tmp_path):
    datasets = pytest.importorskip("datasets")
    for path in whole.glob("*.*.jsonl"):
        rows = datasets.load_dataset(
            "json", data_files=str(path), split="train", cache_dir=str(tmp_path)
        )
        assert rows.column_names == ["messages"] and len(rows) > 0
        assert rows[0]["messages"][-1]["role"] == "assistant"
