"""A table of one's own reviews: converted, and run by the command that the converter prints."""

import json
import shlex
from pathlib import Path

import pytest

from recbole_exp3rt.cli.main import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "restaurants.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for the data set and the answers of this file's tests."""
    return tmp_path_factory.mktemp("own")


@pytest.fixture
def command(folder, monkeypatch, capsys):
    """The words of the next command that the conversion of the example prints."""
    monkeypatch.chdir(folder)
    assert main(["convert", "table", str(EXAMPLE), "--overwrite"]) == 0
    return shlex.split(capsys.readouterr().out.splitlines()[-1])


def overall(result):
    rows = json.loads(Path(result).read_text(encoding="utf-8"))["rows"]
    return {row["name"]: row for row in rows if row["slice"] == "all"}


def test_the_printed_command_runs_on_the_data_set(command, capsys):
    assert command[0] == "exp3rt"
    arguments = ["--model=Bias", "--use_gpu=False", "--result_file=bias.json"]
    assert main([*command[1:], *arguments]) == 0
    assert "60 users, 30 items; 479 train, 60 valid, 60 test" in capsys.readouterr().out
    rows = overall("bias.json")
    assert rows["Bias"]["n"] == 60, "each guest has a test row"
    assert rows["Bias"]["metrics"]["rmse"] < rows["constant"]["metrics"]["rmse"]


def test_a_server_rates_pairs_of_the_data_set(command, llama_server, capsys):
    server = ["--rating_model=openai:smollm2", f"--base_url={llama_server}"]
    small = ["--eval_pairs=2", "--max_new_tokens=6", "--baselines=[]", "--use_gpu=False"]
    steps = ["--model=EXP3RT", "--task=rating", "--student=oracle", "--result_file=served.json"]
    assert main([*command[1:], *steps, *server, *small]) == 0
    assert "rating by openai:smollm2@" in capsys.readouterr().out
    row = overall("served.json")["EXP3RT"]
    assert row["coverage"] == 1.0 and row["readout"] == "exact"
