"""Runs with the Batch route that are killed: they go on, and nothing is paid twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from batch_stand_in import QUESTIONS, notes

from recbole_exp3rt.llm.base import Completion
from recbole_exp3rt.llm.base import answer_all as ask_all
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.server import batch_route
from recbole_exp3rt.llm.store import Store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(batch_server):
    return batch_server


RUN = """
import os, signal, sys
from recbole_exp3rt.llm.base import Message, Request
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.server.openai_batch import OpenAIBatch
from recbole_exp3rt.llm.server.openai_llm import HTTPOptions
from recbole_exp3rt.llm.store import Store

url, folder, most = sys.argv[1], sys.argv[2], int(sys.argv[3])
requests = [
    Request((Message("user", f"Do you like film{n}"),), max_new_tokens=4) for n in range(12)
]
options = HTTPOptions((url,), batch_dir=folder + "/batches", batch_poll_seconds=0.02)
llm = CachedLLM(OpenAIBatch("teacher", options), Store(folder + "/answers.sqlite"))
for n, answer in enumerate(llm.generate(requests)):
    if n == most:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def start(server, tmp_path, most=99):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN, server.url, str(tmp_path), str(most)]
    return subprocess.Popen(command, env=environment)


@pytest.mark.parametrize("moment", ["uploaded", "created", "looked", "half"])
def test_a_run_killed_there_goes_on_and_pays_nothing_twice(
    server, to, tmp_path, moment, monkeypatch
):
    monkeypatch.setattr(batch_route, "SETTLE", 10.0)  # the first list does not show the batch
    server.stop_at, server.lag = moment, 1
    run = start(server, tmp_path)
    assert server.reached.wait(60)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    server.resume()
    before = len(server.batches)
    assert before == (0 if moment == "uploaded" else 1)
    llm = CachedLLM(to(), Store(tmp_path / "answers.sqlite"))
    assert all(isinstance(answer, Completion) for answer in ask_all(llm, QUESTIONS))
    assert len(server.batches) == 1
    assert len(server.paid) == 12 and set(server.paid.values()) == {1}


def test_a_run_killed_while_it_collects_asks_for_nothing_again(server, to, tmp_path):
    run = start(server, tmp_path, most=7)
    assert run.wait(60) == -signal.SIGKILL
    store = Store(tmp_path / "answers.sqlite")
    assert len(store) == 8 and len(server.batches) == 1
    llm = CachedLLM(to(), store)
    assert all(isinstance(answer, Completion) for answer in ask_all(llm, QUESTIONS))
    assert (llm.hits, llm.calls) == (8, 4)
    assert len(server.batches) == 1 and set(server.paid.values()) == {1}


def test_two_runs_at_once_share_their_batch(server, tmp_path):
    server.stop_at = "uploaded"
    runs = [start(server, tmp_path)]
    assert server.reached.wait(60)
    probed = server.asked["POST", "/v1/chat/completions"]
    runs.append(start(server, tmp_path))
    while server.asked["POST", "/v1/chat/completions"] < 2 * probed:
        time.sleep(0.01)
    time.sleep(0.5)  # the second has nothing to do but to submit the same questions
    server.resume()
    assert [run.wait(60) for run in runs] == [0, 0]
    assert len(server.paid) == 12 and set(server.paid.values()) == {1}


@pytest.mark.parametrize("moment", ["uploaded", "looked"])
def test_a_run_that_waits_for_a_killed_one_takes_its_batch_over(server, tmp_path, moment):
    server.stop_at = moment
    first = start(server, tmp_path)
    assert server.reached.wait(60)
    probed = server.asked["POST", "/v1/chat/completions"]
    second = start(server, tmp_path)
    while server.asked["POST", "/v1/chat/completions"] < 2 * probed:
        time.sleep(0.01)
    time.sleep(0.5)
    assert len(server.files) == 1  # the second waits
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    server.resume()
    assert second.wait(60) == 0
    assert len(Store(tmp_path / "answers.sqlite")) == 12
    assert len(server.paid) == 12 and set(server.paid.values()) == {1}


def test_answers_that_a_run_did_not_take_wait_for_the_next(server, to, tmp_path):
    server.stop_at = "created"
    run = start(server, tmp_path)
    assert server.reached.wait(60)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    server.resume()
    for some in (QUESTIONS[:5], QUESTIONS[5:]):
        assert all(isinstance(answer, Completion) for answer in ask_all(to(), some))
    assert len(server.batches) == 1 and notes(tmp_path) == []
