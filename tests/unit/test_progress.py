"""Long steps say how far they are and how long it still takes, where there is no terminal too."""

import io

from rich.console import Console

from recbole_exp3rt.display import progress
from recbole_exp3rt.llm.base import Completion


def test_the_time_left_is_that_of_whole_bursts(monkeypatch):
    clock = iter([0.0, 10.0, 10.0, 30.0, 30.0, 40.0, 40.0])  # start, answers, end
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    out = Console(file=io.StringIO(), width=80)
    answers = [(k, Completion("")) for k in range(5)]
    passed = list(progress.ConsoleProgress(out)(iter(answers), 5, "Rating pairs"))
    assert passed == answers
    lines = out.file.getvalue().splitlines()
    assert lines[0] == "Rating pairs: 2 of 5, about 0:00:15 left"  # two answers took 10 s
    assert lines[-1] == "Rating pairs: 5 of 5 in 0:00:40"


def test_a_few_first_answers_do_not_tell_how_long_the_rest_takes(monkeypatch):
    clock = iter([0.0, 29.0, 29.0, 45.0, 45.0])  # the first waits for all prompts of its batch
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    out = Console(file=io.StringIO(), width=80)
    answers = progress.ConsoleProgress(out)(((k, Completion("")) for k in range(2)), 100, "Rating")
    next(answers), next(answers)
    assert out.file.getvalue() == "Rating: 1 of 100\n"


def test_answers_of_the_store_do_not_tell_how_long_the_rest_takes(monkeypatch):
    clock = iter([0.0, 0.1, 0.2, 20.0, 40.0, 60.0, 80.0, 80.0])  # two of the store, four asked
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    out = Console(file=io.StringIO(), width=80)
    answers = ((k, Completion("")) for k in range(6))
    list(progress.ConsoleProgress(out)(answers, 6, "Rating"))
    lines = out.file.getvalue().splitlines()
    assert lines[0] == "Rating: 2 of 6"
    assert lines[1] == "Rating: 3 of 6, about 0:01:00 left"  # one asked answer took 20 s
