"""What every store of answers can do, tried on a SQLite file and on a real PostgreSQL server."""

import json
import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recbole_exp3rt.llm.base import Completion, Failure, Message, Readout, Request, answer_all
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.claims import this_process
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.llm.store import open_store

ROOT = Path(__file__).parents[2]
REQUEST = Request((Message("user", "Was it good?"),), readout=Readout("Rating: ", ("0", "1")))
ANSWER = Completion(
    "Yes – très bon.\n", "length", 12, 34, (-0.1234567890123456, float("-inf")), missing_labels=1
)


def ask(text):
    return Request((Message("user", text),))


def change(place, damage, key):
    """Write `damage` into the row of `key`, behind the store's back."""
    if "://" not in place:
        with sqlite3.connect(place) as db:
            db.execute(f"UPDATE answers SET {damage} WHERE key = ?", (key,))
        return
    import psycopg

    with psycopg.connect(place) as db:
        db.execute(f"UPDATE exp3rt.answers SET {damage} WHERE key = %s", (key,))


def test_an_answer_comes_back_as_it_was_from_another_opening(place):
    open_store(place).put_many("m", {"k": (REQUEST, ANSWER)})
    store = open_store(place)
    assert store.get_many(["k", "unknown"]) == {"k": ANSWER}
    assert len(store) == 1 and store.size() > 1000 and not store.read_only


def test_the_question_can_be_read_beside_the_answer(place):
    store = open_store(place)
    store.put_many("model@1", {"k": (REQUEST, ANSWER)})
    store.put_many(
        "another", {"l": (ask("half \ud83d, nothing \0"), Completion("no", "stop", 1, 2))}
    )
    identity, request = store.asked("k")
    assert identity == "model@1"
    assert json.loads(request)["messages"] == [{"role": "user", "content": "Was it good?"}]
    assert json.loads(store.asked("l")[1])["messages"][0]["content"] == "half \ufffd, nothing \0"
    assert store.asked("unknown") is None
    assert store.identities() == ["another", "model@1"]
    held = [(h.identity, h.answers, h.prompt_tokens, h.new_tokens) for h in store.held()]
    assert held == [("another", 1, 1, 2), ("model@1", 1, 12, 34)]


def test_the_first_answer_stays_and_more_keys_than_one_query_takes(place):
    store = open_store(place)
    keys = [f"key {n}" for n in range(5_432)]
    store.put_many("m", {key: (REQUEST, Completion(key)) for key in keys[:2_000]})
    store.put_many("m", {key: (REQUEST, Completion(f"second {key}")) for key in keys})
    found = store.get_many(keys)
    assert [found[key].text for key in keys] == keys[:2_000] + [f"second {k}" for k in keys[2_000:]]
    assert [row.key for page in store.rows() for row in page] == sorted(keys)


@pytest.mark.parametrize("damage", ["label_logp = '[NaN, -2]'", "finish = 'perhaps'"])
def test_a_row_that_is_no_answer_is_named_and_the_next_answer_takes_its_place(place, damage):
    store, answer = open_store(place), Completion("x", label_logp=(-1.0, -2.0))
    keys = [f"key {n}" for n in range(9)]
    store.put_many("m", {key: (REQUEST, answer) for key in keys})
    change(place, damage, "key 3")
    with pytest.warns(UserWarning, match=r"^store .*: answer key 3 is damaged \(its") as said:
        found = store.get_many(keys)
        assert store.get_many(keys) == found
    texts = [str(one.message) for one in said if one.category is UserWarning]
    assert len(texts) == 1 and "\n" not in texts[0]
    assert found.keys() == set(keys) - {"key 3"}
    assert store.claim("me", keys, 9.0) == {"key 3"}
    better = Completion("better", label_logp=(-1.0, -2.0))
    store.put_many("m", {"key 3": (REQUEST, better)})
    assert open_store(place).get_many(keys)["key 3"] == better


# --- claims


def test_a_question_is_one_owners_until_it_is_answered_or_released(place):
    one, other = open_store(place), open_store(place)
    assert one.claim("one", ["a", "b", "c"], 9.0) == {"a", "b", "c"}
    assert one.claim("one", ["a"], 9.0) == {"a"}  # nobody waits for himself
    assert other.claim("other", ["a", "b", "c", "d"], 9.0) == {"d"}
    other.release("other", ["a", "d"])  # a is not its own
    one.release("one", ["b"])
    one.put_many("m", {"c": (REQUEST, ANSWER)})
    assert other.claim("other", ["a", "b", "c", "d"], 9.0) == {"b", "d"}


def test_claims_lapse_without_a_heartbeat_and_hold_with_one(place):
    one, other = open_store(place), open_store(place)
    one.claim("quick", ["a"], 0.6)
    one.claim("slow", ["b"], 0.6)
    for _ in range(4):
        time.sleep(0.2)
        one.renew("slow", 0.6)
        assert "b" not in other.claim("other", ["b"], 9.0)
    assert other.claim("other", ["a", "b"], 9.0) == {"a"}
    assert one.claim("quick", ["a"], 0.6) == set()


def test_claims_of_a_process_that_is_gone_lapse_at_once_if_it_is_of_this_machine(place):
    one, other = open_store(place), open_store(place)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    one._process = this_process().replace(f"/{os.getpid()}", f"/{child.pid}")
    one.claim("gone", ["a"], 1e6)
    one._process = f"another machine/{child.pid}"
    one.claim("elsewhere", ["b"], 1e6)
    boot = Path("/proc/sys/kernel/random/boot_id")  # names and numbers of two machines may be alike
    if boot.exists():
        alike = this_process().replace(boot.read_text().strip(), "another start")
        one._process = alike.replace(f"/{os.getpid()}", f"/{child.pid}")
        one.claim("alike", ["c"], 1e6)
        assert other.claim("other", ["c"], 9.0) == set()
    assert other.claim("other", ["a", "b"], 9.0) == {"a"}


# --- many processes


def _write(place, name, start):
    start.wait()
    store = open_store(place)
    for n in range(30):
        answer = (REQUEST, Completion(name))
        store.put_many(name, {f"{name} {n}": answer, f"both {n}": answer})


def test_processes_share_a_store_from_its_first_moment(place):
    context = multiprocessing.get_context("fork")
    start = context.Event()
    writers = [context.Process(target=_write, args=(place, name, start)) for name in "abcd"]
    for writer in writers:
        writer.start()
    start.set()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert len(open_store(place)) == 4 * 30 + 30


WORKER = """
import sys
from recbole_exp3rt.llm.base import Completion, Message, Request
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.llm.store import open_store

questions = [Request((Message("user", f"question {n}"),)) for n in range(3_000)]
llm = CachedLLM(ScriptedLLM(lambda r: "re " + r.messages[0].content), open_store(sys.argv[1]))
for position, answer in llm.generate(questions):
    print(position, flush=True)
"""


def test_kill_9_of_a_worker_loses_nothing_that_was_passed_on(place):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, place], env=environment, stdout=subprocess.PIPE, text=True
    )
    passed_on = [worker.stdout.readline() for _ in range(200)]
    os.kill(worker.pid, signal.SIGKILL)
    passed_on += worker.communicate()[0].splitlines()
    asked = {ask(f"question {int(n)}").key("scripted") for n in passed_on if n.strip()}
    assert len(asked) >= 200
    assert open_store(place).get_many(sorted(asked)).keys() == asked


def test_a_store_and_a_model_around_it_pickle_and_open_where_they_live(place):
    llm = CachedLLM(ScriptedLLM({"q": "a"}), open_store(place))
    answer_all(llm, [ask("q")])
    store, again = pickle.loads(pickle.dumps((llm.store, llm)))
    assert len(store) == 1 and store.name == llm.store.name
    assert answer_all(again, [ask("q")])[0].text == "a"
    assert (again.llm.calls, llm.llm.calls, again.hits) == (1, 1, 1)


# --- answers that arrive while others are committed


def test_all_answers_come_and_failures_are_not_kept(place):
    def reply(request):
        text = request.messages[0].content
        return Failure("busy") if text.endswith("7") else text.upper()

    llm = CachedLLM(ScriptedLLM(reply), open_store(place))
    questions = [ask(f"q{n}") for n in (*range(40), 3)]
    answers = answer_all(llm, questions)
    assert sum(isinstance(answer, Failure) for answer in answers) == 4
    assert answers[38].text == "Q38" and answers[40].text == "Q3"
    assert (llm.calls, llm.hits, len(open_store(place))) == (40, 1, 36)


def test_who_stops_reading_keeps_what_the_model_has_answered(place):
    store = open_store(place)

    def reply(request):
        if request.messages[0].content > "q100":  # no model is faster than all commits
            while not len(store):
                time.sleep(0.01)
            time.sleep(0.001)
        return "yes"

    inner = ScriptedLLM(reply)
    answers = CachedLLM(inner, open_store(place)).generate([ask(f"q{n}") for n in range(100, 600)])
    next(answers)
    answers.close()
    assert 1 <= len(store) == inner.calls < 500
    assert store.claim("another", ["k"], 9.0) == {"k"}
