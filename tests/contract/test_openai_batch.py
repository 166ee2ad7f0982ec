"""The Batch route over real HTTP: what is answered, what is never paid twice."""

import json
import logging
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from batch_stand_in import QUESTIONS, ask, notes
from batch_stand_in import chat as batch_reply

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Completion, Failure, LLMError, Readout
from recbole_exp3rt.llm.base import answer_all as ask_all
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.cost.budget import BudgetReached, MeteredLLM
from recbole_exp3rt.llm.cost.ledger import Ledger
from recbole_exp3rt.llm.cost.prices import Prices
from recbole_exp3rt.llm.names import load_llm
from recbole_exp3rt.llm.server import openai_batch
from recbole_exp3rt.llm.server.batch_jobs import Job, Jobs
from recbole_exp3rt.llm.server.openai_batch import OpenAIBatch
from recbole_exp3rt.llm.server.openai_llm import HTTPOptions
from recbole_exp3rt.llm.store import Store

ROOT = Path(__file__).parents[2]
KEY = "sk-most-secret-0123456789"
CUE = Readout("\nPredicted User Rating: ", tuple("0123456789"))


@pytest.fixture
def server(batch_server):
    return batch_server


def test_a_batch_is_answered_and_leaves_nothing_behind(server, to, tmp_path):
    answers = ask_all(to(), QUESTIONS)
    assert [a.text for a in answers[:2]] == [
        "0film0 1film0 2film0 3film0",
        "0film1 1film1 2film1 3film1",
    ]
    assert {(a.finish, a.prompt_tokens, a.new_tokens) for a in answers} == {("length", 12, 4)}
    assert len(server.batches) == 1 and set(server.paid.values()) == {1}
    assert notes(tmp_path) == []


def test_answers_are_those_of_the_same_model_by_chat(server, to, tmp_path):
    chat = load_llm("openai:teacher", HTTPOptions((server.url,)))
    batch = load_llm("batch:teacher", to().options)
    assert batch.identity == chat.identity == "openai:teacher@teacher-2026-01-01+top"
    both = [ask(1), ask(2, readout=CUE), ask(3, max_new_tokens=0, readout=CUE)]
    assert ask_all(batch, both) == ask_all(chat, both)
    store = Store(tmp_path / "a.sqlite")
    ask_all(CachedLLM(chat, store), QUESTIONS)
    ask_all(CachedLLM(batch, store), QUESTIONS)
    assert len(server.paid) == len(both)  # the rest was in the store


def test_a_file_holds_no_more_questions_or_bytes_than_allowed(server, to, monkeypatch):
    ask_all(to(batch_requests=5), QUESTIONS)
    sizes = [b["request_counts"]["total"] for b in server.batches.values()]
    assert sizes == [5, 5, 2]
    line = max(map(len, server.files["file-in0"].splitlines(keepends=True)))
    monkeypatch.setattr(openai_batch, "MOST_BYTES", 3 * line)
    ask_all(to(), [ask(n) for n in range(90, 99)])
    uploaded = [content for name, content in server.files.items() if name.startswith("file-in")]
    assert all(len(content) <= 3 * line for content in uploaded[3:])
    assert set(server.paid.values()) == {1}


def test_the_same_question_twice_is_paid_once(server, to):
    one, other = ask_all(to(), [ask(1), ask(1)])
    assert one == other and sum(server.paid.values()) == 1


@pytest.mark.parametrize("plan", ["expire", "errors"])
def test_what_a_batch_left_open_is_asked_in_another(server, to, plan):
    server.plans = [plan]
    answers = ask_all(to(), QUESTIONS)
    assert all(isinstance(answer, Completion) for answer in answers)
    sizes = [b["request_counts"]["total"] for b in server.batches.values()]
    assert sizes == [12, 6]


def test_empty_answers_are_paid_with_what_follows_them(server, to):
    usual = ask_all(to(), QUESTIONS)
    server.plans = ["empty"]
    answers = ask_all(to(), QUESTIONS)
    assert [answer.text for answer in answers] == [answer.text for answer in usual]
    twice = [a.prompt_tokens == 2 * u.prompt_tokens for a, u in zip(answers, usual, strict=True)]
    assert twice.count(True) == 6


def test_a_question_is_in_three_batches_at_most(server, to, tmp_path):
    server.plans = ["expire"] * 9
    answers = ask_all(to(), QUESTIONS)
    assert answers.count(Failure("the batch expired before it was answered")) == 2
    assert len(server.batches) == 3 and notes(tmp_path) == []


@pytest.mark.parametrize(
    ("plan", "answered", "reason"),
    [
        ("fail", 0, "the batch failed: no good"),
        ("cancel", 6, "the batch was cancelled"),
        ("refused", 6, "the server refuses the request (400): content_filter: no"),
        ("too many", 0, "the batch failed: Enqueued token limit"),
        ("limit", 0, "no batch was created: the server refuses the request (400): Billing hard"),
    ],
)
def test_what_will_not_be_answered_is_a_failure_with_its_reason(
    server, to, tmp_path, plan, answered, reason
):
    server.plans = [plan]
    answers = ask_all(to(), QUESTIONS)
    failures = [answer for answer in answers if isinstance(answer, Failure)]
    assert len(failures) == 12 - answered
    assert all(failure.reason.startswith(reason) for failure in failures)
    assert notes(tmp_path) == []
    assert not any(isinstance(answer, Failure) for answer in ask_all(to(), QUESTIONS))


def test_what_does_not_fit_into_the_accounts_queue_waits_for_its_turn(server, to):
    server.plans = ["complete", "too many", "complete"]
    answers = ask_all(to(batch_requests=4), QUESTIONS)
    assert all(isinstance(answer, Completion) for answer in answers)
    assert set(server.paid.values()) == {1}


def test_a_refused_parameter_is_learned_before_the_batch(server, to):
    server.refuses = ("max_tokens", "temperature", "seed")
    answers = ask_all(to(), QUESTIONS)
    assert len(server.batches) == 1
    assert all(isinstance(answer, Completion) for answer in answers)


def test_the_server_is_looked_at_with_growing_pauses(server, to, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    server.looks = 9
    ask_all(to(batch_poll_seconds=10.0), QUESTIONS)
    assert pauses[:3] == [10.0, 15.0, 22.5] and max(pauses) == pauses[-1] == 100.0


def test_a_limited_server_is_asked_no_faster(server):
    options = HTTPOptions((server.url,), requests_per_minute=1200)
    llm = load_llm("openai:teacher", options)
    start = time.monotonic()
    ask_all(llm, QUESTIONS)
    assert time.monotonic() - start > 11 * 0.05


# --- lost replies


@pytest.mark.parametrize("moment", ["uploaded", "created", "looked", "half"])
def test_a_lost_reply_costs_nothing(server, to, moment):
    server.lose, server.lag = [moment], 2
    answers = ask_all(to(), QUESTIONS)
    assert all(isinstance(answer, Completion) for answer in answers)
    assert len(server.batches) == 1 and set(server.paid.values()) == {1}


def test_a_batch_that_was_not_created_is_asked_for_again(server, to):
    server.plans = ["broken", "broken"]
    assert all(isinstance(answer, Completion) for answer in ask_all(to(), QUESTIONS))
    assert len(server.batches) == 1


# --- what goes wrong


def test_a_server_that_goes_is_one_line_and_the_batch_is_collected_later(
    server, to, tmp_path, monkeypatch
):
    monkeypatch.setattr(openai_batch, "MISSED", 2)
    llm = to(max_retries=0)
    server.lose = ["looked"] * 3
    with pytest.raises(LLMError, match="they continue there, and the same command collects them"):
        ask_all(llm, QUESTIONS)
    assert len(notes(tmp_path)) == 1
    server.lose = ["half"]
    with pytest.raises(LLMError, match="has answers and does not send them"):
        ask_all(llm, QUESTIONS)
    assert all(isinstance(answer, Completion) for answer in ask_all(llm, QUESTIONS))
    assert set(server.paid.values()) == {1}


def test_answers_that_are_gone_are_asked_for_again(server, to, tmp_path):
    llm = to()
    next(llm.generate(QUESTIONS))  # and the batch is there
    server.files = {name: b for name, b in server.files.items() if name.startswith("file-in")}
    assert all(isinstance(answer, Completion) for answer in ask_all(llm, QUESTIONS))
    assert len(server.batches) == 2


def test_a_batch_that_the_server_does_not_know_is_asked_for_again(server, to, tmp_path):
    next(to().generate(QUESTIONS))  # and its note is there
    server.batches.clear()
    time.sleep(0.6)  # a new one could be unknown for a moment
    assert all(isinstance(answer, Completion) for answer in ask_all(to(), QUESTIONS))
    assert len(server.batches) == 1 and notes(tmp_path) == []


def test_a_server_without_batches_is_one_line(llama_server, tmp_path):
    options = HTTPOptions((llama_server,), batch_dir=str(tmp_path))
    with pytest.raises(LLMError, match="takes no batches"):
        ask_all(OpenAIBatch("smollm2", options), QUESTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": ("http://a", "http://b")}, "batch:m takes one base_url, not 2"),
        ({"base_url": ("http://a",), "readout": "exact"}, "batch:m reads no labels exactly"),
        ({"api_key_env": "UNSET_KEY"}, "needs a key: set the environment variable UNSET_KEY"),
    ],
)
def test_what_cannot_be_is_one_line(options, message):
    with pytest.raises(LLMError, match=message):
        load_llm("batch:m", HTTPOptions(**options))


def test_a_damaged_note_is_one_line(tmp_path):
    jobs = Jobs(tmp_path)
    job = Job("a1", "http://x", "file-1", 1.5, ("k",))
    jobs.keep(job)
    assert jobs.all() == [job]
    note = json.loads((tmp_path / "a1.json").read_text())
    spoilt = [{**note, "asked_at": "x"}, {**note, "mark": "../a1"}, {**note, "keys": [1]}, [note]]
    for text in ("{", "[" * 100_000, *map(json.dumps, spoilt)):
        (tmp_path / "a1.json").write_text(text)
        with pytest.raises(UsageError, match=r"a1.json is no note of a batch: move it away"):
            jobs.all()
    with pytest.raises(UsageError, match="cannot be used"):
        Jobs(tmp_path / "a1.json" / "below")


# --- money and secrets


def test_a_batch_costs_half_and_a_budget_is_kept(server, to, tmp_path):
    """12 prompt and 4 new tokens: $16 by chat, $8 in a batch."""
    (tmp_path / "p.yaml").write_text(
        "models: {teacher: {prompt: 1000000, new: 1000000, batch_discount: 0.5}}"
    )
    prices, ledger = Prices.load(tmp_path / "p.yaml"), Ledger(tmp_path / "l.jsonl")
    store = Store(tmp_path / "a.sqlite")
    with pytest.raises(BudgetReached):
        ask_all(CachedLLM(MeteredLLM(to(), prices, ledger, 80.0), store), QUESTIONS)
    assert ledger.total.cost == 8.0 * len(store) <= 80.0
    assert 4 <= len(store) <= 10
    ask_all(CachedLLM(MeteredLLM(to(), prices, ledger, 200.0), store), QUESTIONS)
    assert ledger.total.cost == 8.0 * 12 and set(server.paid.values()) == {1}


def test_the_key_is_sent_and_kept_nowhere_else(server, to, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    server.plans = ["errors", "fail"]
    server.reply = lambda body: {**batch_reply(body), "x": KEY}
    llm = to(api_key_env="MY_KEY")
    ledger = Ledger(tmp_path / "l.jsonl")
    answers = llm.generate(QUESTIONS)
    next(answers)  # the note of a batch is there
    assert len(notes(tmp_path)) == 2  # and the answers that are being read
    kept = b"".join(p.read_bytes() for p in (tmp_path / "batches").glob("*.json"))
    metered = MeteredLLM(llm, Prices.load(), ledger)
    answers = ask_all(CachedLLM(metered, Store(tmp_path / "a.sqlite")), [ask(77), *QUESTIONS])
    assert {h.get("authorization") for h in server.headers} == {f"Bearer {KEY}"}
    for path in (ledger.path, *tmp_path.glob("a.sqlite*"), *tmp_path.glob("batches/*.json")):
        kept += path.read_bytes()
    assert len(kept) > 1000 and KEY.encode() not in kept
    assert KEY not in caplog.text and KEY not in repr(answers) and KEY not in llm.identity
    assert KEY not in repr(llm.jobs.all())
