"""One budget on a real PostgreSQL server: processes that spend at the same time never cross it."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

psycopg = pytest.importorskip("psycopg")

from recbole_exp3rt.llm.base import Message, Request, answer_all  # noqa: E402
from recbole_exp3rt.llm.cost.budget import BudgetReached, MeteredLLM  # noqa: E402
from recbole_exp3rt.llm.cost.ledger import Charge  # noqa: E402
from recbole_exp3rt.llm.cost.opening import open_ledger  # noqa: E402
from recbole_exp3rt.llm.cost.prices import Prices  # noqa: E402
from recbole_exp3rt.llm.scripted import ScriptedLLM  # noqa: E402
from recbole_exp3rt.llm.store import open_store  # noqa: E402

ROOT = Path(__file__).parents[2]
GPT = "openai:gpt-4o-mini@gpt-4o-mini-2024-07-18+top"


def ask(text):
    return Request((Message("user", text),), max_new_tokens=4)


SPENDS = """
import sys, time
from pathlib import Path
from recbole_exp3rt.llm.base import Completion, Message, Request
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.cost.budget import BudgetReached, MeteredLLM
from recbole_exp3rt.llm.cost.opening import open_ledger
from recbole_exp3rt.llm.cost.prices import Prices
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.llm.store import open_store

url, prices, budget, name, slow = sys.argv[1:]

def reply(request):
    time.sleep(float(slow))
    return "as long as it may"

teacher = ScriptedLLM(reply, identity="openai:gpt-4o-mini@1+top")
metered = MeteredLLM(teacher, Prices.load(prices), open_ledger(url), float(budget))
llm = CachedLLM(metered, open_store(url))
asked = [Request((Message("user", f"{name} {n}"),), max_new_tokens=4) for n in range(300)]
print("ready", flush=True)
try:
    for _ in llm.generate(asked):
        print(teacher.calls, flush=True)
except BudgetReached as error:
    print("reached", error, flush=True)
"""


@pytest.fixture
def url(cluster):
    return cluster.database()


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SPENDS, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def prices(tmp_path):
    """A dollar a token."""
    file = tmp_path / "prices.yaml"
    file.write_text("as_of: 2026\nmodels: {gpt-4o-mini: {prompt: 1000000, new: 1000000}}")
    return file


def test_two_processes_share_one_budget_and_do_not_cross_it(url, prices):
    """A question of 2 words has a bound of $22 and costs $6."""
    first = open_ledger(url)
    runs = [run(url, prices, 900, name, 0.01) for name in ("one", "two")]
    most = 0.0
    while any(process.poll() is None for process in runs):
        most = max(most, first.total.cost)
        time.sleep(0.02)
    told = [process.communicate()[0] for process in runs]
    spent = first.total
    assert most <= spent.cost <= 900 and spent.cost == 6 * spent.calls
    assert spent.cost > 900 - 22  # nothing of it is left over for want of an owner
    assert all("reached the budget of $900.00 is reached" in text for text in told)
    answers = [len(text.splitlines()) - 2 for text in told]
    assert sum(answers) == spent.calls == len(open_store(url)) and min(answers) > 10


def test_what_a_killed_process_had_reserved_is_free_again(url, prices):
    killed = run(url, prices, 300, "killed", 0.2)
    while killed.stdout.readline().strip() in ("", "ready"):
        pass
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    other = run(url, prices, 300, "other", 0.0).communicate(timeout=60)[0]
    assert "budget of $300.00 is reached" in other
    assert 300 - 22 < open_ledger(url).total.cost <= 300


def test_what_one_reserves_another_waits_for(url):
    one, other = open_ledger(url), open_ledger(url)
    with one.reserve(100.0, [30.0] * 9, at_once=True) as held, ThreadPoolExecutor() as pool:
        assert held.count == 3
        one.add_all([Charge("m", 1, 1, 5.0, bound=30.0)], held)  # 5 spent, 60 reserved
        small = pool.submit(other.reserve, 100.0, [35.0], at_once=True)
        assert small.result(10).count == 1  # it fits beside
        large = pool.submit(other.reserve, 100.0, [36.0], at_once=True)
        with pytest.raises(TimeoutError):
            large.result(0.6)
        other.free(small.result())
        one.free(held)
        assert large.result(10).count == 1 and large.result().spent == 5.0
        assert one.reserve(5.0, [0.1], at_once=True).count == 0
        assert other.reserve(1000.0, [10.0] * 90, at_once=False).count == 23  # a quarter of 959


def test_reservations_at_the_same_moment_do_not_cross_the_budget(url):
    ledgers, barrier = [open_ledger(url) for _ in range(8)], threading.Barrier(8)

    def reserve(ledger):
        barrier.wait()
        return ledger.reserve(100.0, [30.0], at_once=True)

    pool = ThreadPoolExecutor(8)
    asked = [pool.submit(reserve, ledger) for ledger in ledgers]
    finished = 0
    while finished < 8:
        wait(asked, timeout=5.0, return_when=FIRST_COMPLETED)
        time.sleep(0.3)
        done = [one for one in asked if one.done()]
        assert 1 <= len(done) <= 3
        for one in done:
            ledgers[0].free(one.result())
            asked.remove(one)
        finished += len(done)


def test_two_lists_of_one_process_do_not_wait_for_each_other(url, prices):
    def metered():
        teacher = ScriptedLLM(lambda r: "as long as it may", identity=GPT)
        return MeteredLLM(teacher, Prices.load(prices), open_ledger(url), 90.0)

    unread = metered().generate([ask(f"one {n}") for n in range(50)])
    next(unread)
    with pytest.raises(BudgetReached):
        answer_all(metered(), [ask(f"two {n}") for n in range(50)])
    unread.close()
    assert len(open_ledger(url).by_model()) == 1


def test_a_ledger_sees_what_others_spend_and_pickles(url):
    one, other = open_ledger(url), pickle.loads(pickle.dumps(open_ledger(url)))
    other.add("m", 1, 1, 0.5)
    one.add("m", 2, 3, 0.25)
    one.add("free \0", 1, 1, None)
    assert one.total == other.total and one.total.cost == 0.75
    assert one.by_model()["m"].prompt_tokens == 3 and one.total.unpriced == 1
    assert "in all: 3 calls, 4 prompt and 5 new tokens, $0.75 (1 calls without" in str(one)
