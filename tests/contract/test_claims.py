"""Runs that share a store, over HTTP and killed for real: each question is paid once."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recbole_exp3rt.llm.base import Message, Request
from recbole_exp3rt.llm.store import open_store

ROOT = Path(__file__).parents[2]
UNDER_WAY = 4  # requests of one run

RUN = f"""
import json, sys, urllib.request
from concurrent.futures import ThreadPoolExecutor, as_completed
from recbole_exp3rt.llm.base import Completion, Failure, Message, Request
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.llm.store import open_store

url, store, first, last, order = sys.argv[1:]
open_url = urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open

def ask(request):
    said = open_url(url, request.messages[0].content.encode()).read().decode()
    return Completion(said) if said != "busy" else Failure(said)

class Served(ScriptedLLM):
    def generate(self, requests):
        with ThreadPoolExecutor({UNDER_WAY}) as pool:
            asked = {{pool.submit(ask, request): n for n, request in enumerate(requests)}}
            for done in as_completed(asked):
                yield asked[done], done.result()

requests = [Request((Message("user", f"question {{n}}"),)) for n in range(int(first), int(last))]
llm = CachedLLM(Served({{}}), open_store(store))
answers = llm.generate(requests[:: int(order)])
for position, answer in answers:
    print(json.dumps([requests[:: int(order)][position].messages[0].content, str(answer)]))
"""


class Counting:
    """A server that notes each question when it arrives, and answers after `slow` seconds."""

    def __init__(self):
        self.asked, self.slow, self.busy = [], 0.01, 0
        self.lock = threading.Lock()

    def answer(self, question):
        with self.lock:
            self.asked.append(question)
            busy, self.busy = self.busy > 0, max(self.busy - 1, 0)
        time.sleep(self.slow)
        return "busy" if busy else f"answer to {question}"

    def wait_for(self, count, run):
        while len(self.asked) < count and run.poll() is None:
            time.sleep(0.002)


@pytest.fixture
def server():
    counting = Counting()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_POST(self):
            question = self.rfile.read(int(self.headers["Content-Length"])).decode()
            said = counting.answer(question).encode()
            with suppress(OSError):  # whoever asked may be gone
                self.send_response(200)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    counting.url = f"http://127.0.0.1:{http.server_address[1]}"
    yield counting
    http.shutdown()
    http.server_close()


def start(server, path, first, last, order=1):
    command = [sys.executable, "-c", RUN, server.url, str(path), str(first), str(last), str(order)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def told(run):
    """What the run said, by question. It ended well."""
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    return dict(json.loads(line) for line in out.splitlines())


def stored(path, count):
    """Questions that have an answer in the store."""
    asked = {f"question {n}": Request((Message("user", f"question {n}"),)) for n in range(count)}
    keys = {request.key("scripted"): question for question, request in asked.items()}
    return {keys[key]: answer.text for key, answer in open_store(path).get_many(list(keys)).items()}


def test_many_kills_cost_only_what_was_in_flight(server, place):
    path, count, kills = place, 200, 6 if "://" in place else 20
    chance = random.Random(20)
    known = {}
    for _ in range(kills):
        before = len(server.asked)
        run = start(server, path, 0, count)
        server.wait_for(before + chance.randint(1, 12), run)
        time.sleep(chance.random() * 0.03)
        os.kill(run.pid, signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        run.stdout.close()
        time.sleep(2 * server.slow)  # the server is done with what was in flight
        assert not known.keys() & set(server.asked[before:])  # nothing known was asked again
        now = stored(path, count)
        assert known.items() <= now.items()
        lost = len(server.asked) - before - (len(now) - len(known))
        assert 0 <= lost <= 4 * UNDER_WAY
        known = now
    assert kills < len(known) < count
    before = len(server.asked)
    answers = told(start(server, path, 0, count))
    assert sorted(server.asked[before:]) == sorted(
        {f"question {n}" for n in range(count)} - known.keys()
    )
    assert len(answers) == count
    assert all(f"answer to {question}'" in answer for question, answer in answers.items())
    assert stored(path, count) == {f"question {n}": f"answer to question {n}" for n in range(count)}


@pytest.mark.parametrize("order", [1, -1])
def test_two_runs_beside_each_other_ask_each_question_once(server, place, order):
    """44 of the 88 are wanted by both; and all of them by both."""
    path, server.slow = place, 0.03
    runs = [
        start(server, path, 0, 66),
        start(server, path, 22, 88, order),
        start(server, path, 0, 88),
    ]
    answers = [told(run) for run in runs]
    assert [len(said) for said in answers] == [66, 66, 88]
    assert sorted(server.asked) == sorted(f"question {n}" for n in range(88))
    assert all("answer to" in text for said in answers for text in said.values())


def test_when_one_of_two_is_killed_the_other_finishes(server, place):
    path, server.slow = place, 0.03
    first = start(server, path, 0, 88)
    server.wait_for(10, first)
    second = start(server, path, 0, 88)
    server.wait_for(40, first)
    before = stored(path, 88)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    at_kill = stored(path, 88)
    assert before.items() <= at_kill.items() and len(at_kill) < 88
    assert len(told(second)) == 88 and len(stored(path, 88)) == 88
    twice = {question for question in server.asked if server.asked.count(question) > 1}
    assert len(server.asked) == 88 + len(twice) and len(twice) <= 4 * UNDER_WAY
    assert not twice & at_kill.keys()


def test_what_one_run_fails_to_get_the_other_asks_for_itself(server, place):
    path, server.slow, server.busy = place, 0.1, 8
    runs = [start(server, path, 0, 20), start(server, path, 0, 20)]
    failed = [sum("busy" in answer for answer in told(run).values()) for run in runs]
    assert sum(failed) == 8 and len(stored(path, 20)) >= 20 - min(failed)
    assert len(server.asked) <= 28
