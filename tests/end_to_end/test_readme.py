"""The README's Python examples run as they stand."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.splitlines()[0])
def test_an_example_of_the_readme_runs(home, monkeypatch, capsys, example):
    monkeypatch.chdir(home)
    exec(compile(example, str(README), "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_readme_has_examples():
    assert EXAMPLES
