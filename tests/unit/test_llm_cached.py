"""A cache is the model it wraps, and asks it each question once."""

import pytest

from recbole_exp3rt.errors import UsageError
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


def test_a_stored_answer_with_too_few_labels_is_named_as_damaged(store):
    llm = CachedLLM(ScriptedLLM(lambda request: "x", scorer=lambda *_: (0.0, 0.0)), store)
    request = ask("one", readout=Readout("R: ", ("1", "2")))
    damaged = Completion("x", label_logp=(0.0,))
    store.put_many(llm.identity, {request.key(llm.identity): (request, damaged)})
    with pytest.raises(UsageError, match=r"damaged: 1 label probabilities for 2 labels.*move it"):
        answer_all(llm, [request])


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
