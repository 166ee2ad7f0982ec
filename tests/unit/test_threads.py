"""The threads of a local model: fewer while others take cores, all again afterwards."""

import os
import subprocess
import sys
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest

from recbole_exp3rt.llm.local import threads, waiting
from recbole_exp3rt.llm.local.threads import Threads, busy_seconds


class Machine:
    """Cores and a clock of its own: `others` is how many cores others use from now on."""

    def __init__(self, cores, count=None, quota=None):
        self.now = self.all = self.ours = 0.0
        self.others = 0.0
        self.count = count or cores
        self.looks = 0
        self.threads = Threads(
            lambda: self.count,
            self.set,
            cores=cores,
            quota=quota or cores,
            busy=self.busy,
            own=lambda: self.ours,
            clock=lambda: self.now,
        )

    def set(self, count):
        self.count = count

    def busy(self):
        self.looks += 1
        return self.all

    def steps(self, look, seconds, step=0.1):
        """So many seconds of steps with a look before each; the counts that were in use."""
        counts = []
        for _ in range(round(seconds / step)):
            look()
            counts.append(self.count)
            self.now += step
            self.ours += step * self.count
            self.all += step * (self.count + self.others)
        return counts


def test_a_neighbour_gets_its_core_and_when_it_ends_the_thread_is_back():
    machine = Machine(cores=2)
    with machine.threads.shared() as look:
        assert set(machine.steps(look, 10)) == {2}
        machine.others = 1
        assert machine.steps(look, 10)[-1] == 1
        machine.others = 0
        assert machine.steps(look, 10)[-1] == 2


def test_a_neighbour_that_gets_two_thirds_of_a_core_beside_two_threads_is_noticed():
    # three that want two cores get two thirds each
    machine = Machine(cores=2)
    with machine.threads.shared() as look:
        machine.others = 2 / 3
        assert machine.steps(look, 10)[-1] == 1


@pytest.mark.parametrize(("others", "left"), [(0.4, 8), (1, 7), (3, 5), (7, 1), (8, 1), (0.8, 7)])
def test_as_many_threads_stay_as_cores_are_left(others, left):
    machine = Machine(cores=8)
    with machine.threads.shared() as look:
        machine.others = others
        assert machine.steps(look, 10)[-1] == left


def test_half_a_core_of_work_does_not_move_a_thread_to_and_fro():
    machine = Machine(cores=2)
    counts = []
    with machine.threads.shared() as look:
        for others in [0.45, 0.55] * 20:
            machine.others = others
            counts += machine.steps(look, 3)
    changes = sum(a != b for a, b in pairwise(counts))
    assert changes == 1 and counts[-1] == 1


def test_it_looks_every_two_seconds_at_most():
    machine = Machine(cores=2)
    with machine.threads.shared() as look:
        machine.steps(look, 20, step=0.01)
    assert machine.looks == pytest.approx(20 / threads.SECONDS, abs=1)


def test_never_more_threads_than_at_the_start():
    machine = Machine(cores=8, count=3)
    with machine.threads.shared() as look:
        assert set(machine.steps(look, 10)) == {3}
        machine.others = 7
        assert machine.steps(look, 10)[-1] == 1
        machine.others = 0
        assert machine.steps(look, 10)[-1] == 3


def test_never_more_threads_than_the_container_grants():
    machine = Machine(cores=64, quota=2)
    with machine.threads.shared() as look:
        assert set(machine.steps(look, 10)) == {2}
        machine.others = 63
        assert machine.steps(look, 10)[-1] == 1
    assert machine.count == 64, "outside of the engine the number is not ours"


def test_between_two_questions_torch_has_all_threads_and_the_next_starts_with_fewer():
    machine = Machine(cores=2)
    with machine.threads.shared() as look:
        machine.others = 1
        machine.steps(look, 10)
    assert machine.count == 2
    with machine.threads.shared() as look:
        assert set(machine.steps(look, 10)) == {1}


def test_two_engines_at_once_leave_the_number_as_it_was():
    machine = Machine(cores=2)
    machine.others = 1
    first, second = machine.threads.shared(), machine.threads.shared()
    machine.steps(first.__enter__(), 10)
    machine.steps(second.__enter__(), 10)
    first.__exit__(None, None, None)
    assert machine.count == 1
    second.__exit__(None, None, None)
    assert machine.count == 2


def test_what_happened_during_a_long_pause_says_nothing_of_now():
    machine = Machine(cores=2)
    with machine.threads.shared() as look:
        machine.steps(look, 10)
        machine.now += 3600
        machine.all += 3600
        assert set(machine.steps(look, 10)) == {2}


def test_a_process_that_works_is_seen_in_the_real_times():
    others, start = busy_seconds() - time.process_time(), time.monotonic()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        time.sleep(1.0)
        neighbour.kill()
    share = (busy_seconds() - time.process_time() - others) / (time.monotonic() - start)
    assert share > 0.2


def test_cores_of_others_are_not_counted(monkeypatch):
    times = [SimpleNamespace(user=1.0, idle=50.0), SimpleNamespace(user=20.0, steal=3.0)]
    monkeypatch.setattr("psutil.cpu_times", lambda percpu: times)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1}, raising=False)
    assert busy_seconds() == 23.0


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, False),
        ({"OMP_NUM_THREADS": ""}, False),
        ({"OMP_NUM_THREADS": "2"}, True),
        ({"MKL_NUM_THREADS": "1"}, True),
    ],
)
def test_the_environment_says_how_many_threads_the_user_wants(environment, said):
    assert waiting.threads_are_said(environment) is said


def test_a_number_that_was_taken_from_the_container_is_not_the_users(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(waiting, "usable_cores", lambda: 64)
    monkeypatch.setattr(waiting, "cpu_quota", lambda: 2)
    monkeypatch.setattr(waiting, "_granted", None)
    environment = {}
    waiting.choose(environment)
    assert environment["OMP_NUM_THREADS"] == "2"
    assert not waiting.threads_are_said(environment)
