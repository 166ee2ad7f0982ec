"""What arrives during a commit goes into the next; nothing is given back before it is written."""

import threading

import pytest

from recbole_exp3rt.llm.grouped import Grouped


def test_at_once_each_item_is_its_own_commit():
    commits = []
    with Grouped(commits.append, beside=False) as grouped:
        assert [grouped.add(n) for n in range(3)] == [[0], [1], [2]]
        assert grouped.rest() == []
    assert commits == [[0], [1], [2]]


def test_what_arrives_during_a_commit_is_one_commit_and_comes_back_once_written():
    commits, begun, go_on = [], threading.Event(), threading.Event()

    def write(some):
        begun.set()
        assert go_on.wait(10)
        commits.append(some)

    with Grouped(write, beside=True) as grouped:
        assert grouped.add(0) == []
        assert begun.wait(10)
        assert grouped.add(1) == grouped.add(2) == []  # 0 is not written yet
        go_on.set()
        assert grouped.rest() == [0, 1, 2]
        assert grouped.rest() == []
    assert commits == [[0], [1, 2]]


def test_an_error_of_a_commit_is_raised_and_its_items_do_not_come_back():
    def write(some):
        raise OSError("no room")

    with Grouped(write, beside=True) as grouped:
        grouped.add(0)
        with pytest.raises(OSError, match="no room"):
            grouped.rest()
        with pytest.raises(OSError, match="no room"):
            grouped.add(1)


def test_leaving_writes_what_has_arrived():
    commits = []
    with pytest.raises(KeyboardInterrupt), Grouped(commits.append, beside=True) as grouped:
        for n in range(50):
            grouped.add(n)
        raise KeyboardInterrupt
    assert [n for some in commits for n in some] == list(range(50))
