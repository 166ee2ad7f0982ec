"""The README's Python example runs as it stands, and its commands for reviews of one's own."""

import re
import shlex
from pathlib import Path

import pytest

from recbole_exp3rt.cli.main import main

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.splitlines()[0])
def test_an_example_of_the_readme_runs(home, monkeypatch, capsys, example):
    monkeypatch.chdir(home)
    exec(compile(example, str(README), "exec"), {})
    assert "likes=('" in capsys.readouterr().out  # the profile says something


def test_the_readme_has_an_example_of_ten_lines_or_so():
    (example,) = EXAMPLES
    assert len([line for line in example.splitlines() if line]) <= 12


def test_the_file_that_comes_along_becomes_a_data_set_and_is_rated(tmp_path, monkeypatch, capsys):
    """The oracle takes the place of the server; a few pairs will do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(README.parent / "examples")
    convert, run = re.findall(r"^exp3rt (.*restaurants.*)$", TEXT, re.MULTILINE)
    assert main(shlex.split(convert)) == 0
    assert "60 users, 30 items" in capsys.readouterr().out
    other = ("--student", "--base_url", "--eval_pairs")
    words = [word for word in shlex.split(run) if not word.startswith(other)]
    few = ["--student=oracle", "--baselines=[]", "--eval_pairs=5", "--use_gpu=False"]
    assert main([*words, *few]) == 0
    assert "Rating prediction: 5 of" in capsys.readouterr().out
