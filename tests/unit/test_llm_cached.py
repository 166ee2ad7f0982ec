"""A cache is the model it wraps, and asks it each question once."""

import json
import sqlite3
import threading
import time
from contextlib import nullcontext

import pytest

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm import cached, claims
from recbole_exp3rt.llm.base import (
    LLM,
    Completion,
    Failure,
    LLMError,
    Message,
    Readout,
    Request,
    answer_all,
)
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.llm.store import Store


def ask(text, **settings):
    return Request((Message("user", text),), **settings)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "answers.sqlite")


def test_a_stored_answer_is_not_asked_for_again(store):
    inner = ScriptedLLM(lambda request: request.messages[0].content.upper())
    first, second = CachedLLM(inner, store), CachedLLM(inner, store)
    assert isinstance(first, LLM)
    asked = [ask("one"), ask("two"), ask("one")]
    assert [answer.text for answer in answer_all(first, asked)] == ["ONE", "TWO", "ONE"]
    assert (first.calls, first.hits, inner.calls) == (2, 1, 2)
    assert answer_all(second, asked) == answer_all(first, asked)
    assert (second.calls, second.hits, inner.calls) == (0, 3, 2)
    assert (first.prompt_tokens, first.new_tokens, second.new_tokens) == (2, 2, 0)


@pytest.mark.parametrize(
    "other",
    [
        ask("other"),
        ask("one", max_new_tokens=7),
        ask("one", prefill="So"),
        ask("one", stop=("x",)),
        ask("one", temperature=0.5),
        ask("one", seed=1),
        ask("one", readout=Readout("R: ", ("1", "2"))),
    ],
)
def test_every_part_of_a_request_makes_another_question(store, other):
    llm = CachedLLM(ScriptedLLM(lambda request: "x", scorer=lambda *_: (0.0, 0.0)), store)
    answer_all(llm, [ask("one")])
    answer_all(llm, [other])
    assert llm.calls == 2


def test_a_stored_answer_with_too_few_labels_is_named_and_asked_for_again(store):
    llm = CachedLLM(ScriptedLLM(lambda request: "x", scorer=lambda *_: (0.0, -1.0)), store)
    request = ask("one", readout=Readout("R: ", ("1", "2")))
    damaged = Completion("x", label_logp=(0.0,))
    store.put_many(llm.identity, {request.key(llm.identity): (request, damaged)})
    with pytest.warns(UserWarning, match=r"damaged .1 label probabilities for 2 labels"):
        (answer,) = answer_all(llm, [request])
    assert answer.label_logp == (0.0, -1.0)
    assert answer_all(CachedLLM(None, Store(store.path), identity="scripted"), [request]) == [
        answer
    ]


def test_another_model_is_another_question(store):
    for identity in ("a", "b"):
        llm = CachedLLM(ScriptedLLM(lambda _, who=identity: who, identity=identity), store)
        assert answer_all(llm, [ask("who")])[0].text == identity


def test_a_failure_is_passed_on_and_asked_again(store):
    replies = iter([Failure("busy"), Completion("now")])
    llm = CachedLLM(ScriptedLLM(lambda request: next(replies)), store)
    assert answer_all(llm, [ask("one"), ask("one")]) == [Failure("busy")] * 2
    assert answer_all(llm, [ask("one")])[0].text == "now"


def test_an_answer_is_stored_before_it_is_passed_on(store):
    llm = CachedLLM(ScriptedLLM(lambda request: "x"), store)
    answers = llm.generate([ask("one"), ask("two"), ask("three")])
    for seen, _ in enumerate(answers, start=1):
        assert len(Store(store.path)) == seen  # as another process finds it


def test_a_replay_needs_no_model_and_a_missing_answer_is_an_error(store):
    answer_all(CachedLLM(ScriptedLLM({"one": "x"}), store), [ask("one")])
    replay = CachedLLM(None, store, identity="scripted")
    assert answer_all(replay, [ask("one")])[0].text == "x"
    with pytest.raises(LLMError, match=r"1 of 2 answers are not in .*run once with the model"):
        answer_all(replay, [ask("one"), ask("two")])
    with pytest.raises(LLMError, match="count tokens"):
        replay.count_tokens("one two")


def test_a_script_without_an_answer_says_so():
    with pytest.raises(LLMError, match="no answer is written for 'two'"):
        answer_all(ScriptedLLM({"one": "x"}), [ask("two")])
    with pytest.raises(LLMError, match="does not score"):
        answer_all(ScriptedLLM({"one": "x"}), [ask("one", readout=Readout("R", ("1", "2")))])


# --- what cannot be kept


def test_half_characters_and_nul_are_replaced_counted_and_stay_the_same_in_a_replay(store):
    said = {"one": "good \ud83d film", "two": "b\0d", "three \ude00": "fine 😀", "four": "x"}
    llm = CachedLLM(ScriptedLLM(said, identity="model \udcff"), store)
    asked = [ask(text) for text in said]
    with pytest.warns(UserWarning, match="2 answers hold characters that cannot be stored"):
        texts = [answer.text for answer in answer_all(llm, asked)]
    assert texts == ["good \ufffd film", "b\ufffdd", "fine 😀", "x"] and llm.replaced == 2
    replay = CachedLLM(None, Store(store.path), identity=llm.identity)
    assert [answer.text for answer in answer_all(replay, asked)] == texts
    assert json.loads(store.asked(asked[2].key(llm.identity))[1])["messages"][0]["content"] == (
        "three \ufffd"
    )


def test_the_key_of_half_a_character_is_that_of_its_replacement_and_others_stay():
    assert ask("half \ud83d").key("m") == ask("half \ufffd").key("m")
    assert ask("Was it good? – sehr 😀").key("m") == (
        "36a9a5a18feee594dcac8fb894b2975302d764d45ad9b521ce939bc7b139f079"
    )


def test_an_answer_that_no_store_takes_costs_itself_only(store, monkeypatch):
    monkeypatch.setattr(cached, "MOST_CHARACTERS", 1000)
    numbers = {"nan": float("nan"), "inf": float("inf"), "good": -1.0, "impossible": -float("inf")}
    said = {
        "huge": Completion("x" * 1001),
        "counts": Completion("kept", prompt_tokens=2**70, new_tokens=-3),
        **{name: Completion("x", label_logp=(value, -2.0)) for name, value in numbers.items()},
    }

    class Odd(ScriptedLLM):  # what it says arrives as it is
        def generate(self, requests):
            yield from enumerate(said.values())

    labels = Readout("R: ", ("1", "2"))
    asked = [ask(text, readout=labels if text in numbers else None) for text in said]
    answers = dict(zip(said, answer_all(CachedLLM(Odd({}), store), asked), strict=True))
    assert "too long to be kept: 1,001 characters" in answers["huge"].reason
    assert answers["counts"] == Completion("kept")
    assert isinstance(answers["nan"], Failure) and isinstance(answers["inf"], Failure)
    kept = [answers["counts"], answers["good"], answers["impossible"]]
    replay = CachedLLM(None, Store(store.path), identity="scripted")
    assert answer_all(replay, [asked[1], asked[4], asked[5]]) == kept


def test_a_finished_run_replays_from_read_only_media_and_pays_for_nothing_new(small_disk):
    disk, change = small_disk
    store = Store(disk / "answers.sqlite")
    answer_all(CachedLLM(ScriptedLLM({"one": "x"}), store), [ask("one")])
    store.close()
    assert change("remount,ro")
    inner, store = ScriptedLLM({"one": "y", "two": "y"}), Store(store.path)
    llm = CachedLLM(inner, store)
    assert answer_all(llm, [ask("one")])[0].text == "x"
    with pytest.raises(UsageError, match=r"1 of 2 answers are not in .*which is read-only"):
        answer_all(llm, [ask("one"), ask("two")])
    assert inner.calls == 0
    store.close()


# --- questions under way


def test_threads_ask_each_question_once_and_each_hears_all_answers(store):
    asked, heard = [], {}

    def slow(request):
        asked.append(request.messages[0].content)
        time.sleep(0.01)
        return "to " + asked[-1]

    def run(first, last):
        llm = CachedLLM(ScriptedLLM(slow), Store(store.path) if first % 2 else store)
        heard[first] = answer_all(llm, [ask(f"{n}") for n in range(first, last)])

    threads = [threading.Thread(target=run, args=(first, first + 12)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(asked) == sorted(f"{n}" for n in range(15))
    assert [len(heard[first]) for first in range(4)] == [12] * 4
    assert all(isinstance(answer, Completion) for said in heard.values() for answer in said)


@pytest.mark.parametrize("end", ["error", "left"])
def test_what_a_run_leaves_open_is_free_at_once(store, end):
    def breaks(request):
        if request.messages[0].content == "two" and end == "error":
            raise LLMError("no more")
        return "x"

    answers = CachedLLM(ScriptedLLM(breaks), store).generate([ask("one"), ask("two"), ask("3")])
    next(answers)
    with pytest.raises(LLMError) if end == "error" else nullcontext():
        next(answers)
    answers.close()
    free = {ask(text).key("scripted") for text in ("one", "two", "3")}
    left = Store(store.path).claim("another", sorted(free), 9.0)
    assert len(left) == (2 if end == "error" else 1)


def test_what_one_run_fails_to_get_is_free_while_it_goes_on(store):
    replies = {"one": Failure("busy"), "two": Completion("x"), "three": Completion("x")}
    said = ScriptedLLM(lambda request: replies[request.messages[0].content])
    answers = CachedLLM(said, store).generate([ask(text) for text in replies])
    assert [next(answers)[1], next(answers)[1].text] == [Failure("busy"), "x"]
    keys = {text: ask(text).key("scripted") for text in replies}
    assert Store(store.path).claim("another", list(keys.values()), 9.0) == {keys["one"]}
    answers.close()
    with sqlite3.connect(store.path) as db:  # nothing is left behind
        assert db.execute("SELECT key, owner FROM claims").fetchall() == [(keys["one"], "another")]


def test_a_list_that_is_not_read_to_its_end_blocks_nobody_of_its_own_thread(store):
    llm = CachedLLM(ScriptedLLM(lambda request: "x"), store)
    unread = llm.generate([ask("one"), ask("two")])
    next(unread)
    assert len(answer_all(llm, [ask("one"), ask("two")])) == 2
    unread.close()


def test_a_slow_answer_is_kept_from_others_by_its_heartbeat_and_taken_over_without(
    store, monkeypatch
):
    monkeypatch.setattr(claims, "LAPSE_SECONDS", 1.2)
    asked = []

    def slow(request):
        asked.append(threading.current_thread().name)
        time.sleep(2.0)
        return "slow"

    first = threading.Thread(
        target=lambda: answer_all(CachedLLM(ScriptedLLM(slow), store), [ask("one")]), name="first"
    )
    first.start()
    while not asked:
        time.sleep(0.01)
    other = CachedLLM(ScriptedLLM(slow), Store(store.path))
    assert answer_all(other, [ask("one")])[0].text == "slow"
    assert asked == ["first"] and (other.calls, other.hits) == (0, 1)
    first.join(10)

    Store(store.path).claim("somebody who is stopped", [ask("two").key("scripted")], 0.4)
    start = time.monotonic()
    assert answer_all(CachedLLM(ScriptedLLM(lambda _: "taken over"), store), [ask("two")])
    assert 0.2 < time.monotonic() - start < 5
