"""What every LLM does, whatever is behind it. A backend that joins the table has to pass."""

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from batch_stand_in import batches

from recbole_exp3rt.llm.base import LLM, Completion, Message, Readout, Request, answer_all, score
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.names import load_llm
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.llm.server.openai_llm import HTTPOptions
from recbole_exp3rt.llm.store import Store

LABELS = tuple("0123456789")
CUE = "\nPredicted User Rating: "
LIKES = ["slow comedies", "loud robots", "old westerns with long shots and little talk", "cats"]


def ask(text, **settings):
    settings = {"max_new_tokens": 12, **settings}
    return Request((Message("system", "Answer briefly."), Message("user", text)), **settings)


def scripted():
    """Says the last word of the question again and again; prefers the label of its length."""

    def reply(request):
        return " ".join([request.messages[-1].content.split()[-1]] * 30)

    def scorer(request, text):
        return [-abs(k - len(request.messages[-1].content) % 10) - 1.0 for k in range(len(LABELS))]

    return ScriptedLLM(reply, scorer=scorer)


# and where they are made
BACKENDS = {"transformers": "smollm2", "served": "served", "batch": "batch"}


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """A model behind a stand-in of OpenAI's Batch routes."""
    with batches() as (_, url):
        folder = str(tmp_path_factory.mktemp("batches"))
        options = HTTPOptions((url,), batch_dir=folder, batch_poll_seconds=0.01)
        yield load_llm("batch:teacher", options)


# A store does not know what is behind it: two are enough, one that answers in order and one that
# answers as batches end.
@pytest.fixture(params=["scripted", *BACKENDS, "cached scripted", "cached batch"])
def llm(request, tmp_path):
    name = request.param.removeprefix("cached ")
    inner = request.getfixturevalue(BACKENDS[name]) if name in BACKENDS else scripted()
    cached = name != request.param
    return CachedLLM(inner, Store(tmp_path / "answers.sqlite")) if cached else inner


def alike(one, other):
    """The same answer; label probabilities to 1e-4, since batches add up in another order."""
    assert replace(one, label_logp=None) == replace(other, label_logp=None)
    assert (one.label_logp is None) == (other.label_logp is None)
    if one.label_logp is not None:
        assert one.label_logp == pytest.approx(other.label_logp, abs=1e-4)


def test_it_is_an_llm_with_a_stable_identity(llm):
    assert isinstance(llm, LLM)
    assert llm.identity and llm.identity == llm.identity
    assert llm.count_tokens("a b c") > llm.count_tokens("a b") > llm.count_tokens("") == 0


def test_nothing_asked_nothing_answered(llm):
    assert list(llm.generate([])) == []


def test_every_request_is_answered_once(llm):
    requests = [ask(f"Do you like {what}?") for what in LIKES] + [ask("Do you like cats?")]
    answers = list(llm.generate(requests))
    assert sorted(position for position, _ in answers) == list(range(len(requests)))
    assert all(isinstance(answer, Completion) and answer.text for _, answer in answers)


def test_an_answer_depends_neither_on_its_batch_nor_on_its_place(llm):
    requests = [ask(f"Why do people like {what}?", readout=Readout(CUE, LABELS)) for what in LIKES]
    requests.append(ask("Name a colour.", max_new_tokens=3, prefill="My colour is"))
    requests.append(ask("What then?", max_new_tokens=0, readout=Readout("Rating: ", LABELS)))
    fresh = llm.llm if isinstance(llm, CachedLLM) else llm
    alone = [answer_all(fresh, [request])[0] for request in requests]
    order = list(range(len(requests)))
    random.Random(3).shuffle(order)
    together = answer_all(llm, [requests[k] for k in order])
    for k, answer in zip(order, together, strict=True):
        alike(answer, alone[k])


def test_asked_again_it_says_the_same(llm):
    requests = [ask("Tell me a story.", temperature=0.8, seed=seed) for seed in (1, 2)]
    first = answer_all(llm, requests)
    assert answer_all(llm, requests) == first


def test_the_text_ends_before_a_stop_string(llm):
    whole = answer_all(llm, [ask("Count aloud: one two three four five")])[0].text
    stop = whole.split()[2][:3]  # ends inside a word, and so inside a token
    cut = answer_all(llm, [ask("Count aloud: one two three four five", stop=("#", stop))])[0]
    assert cut.finish == "stop"
    assert cut.text == whole[: whole.index(stop)]


def test_no_more_than_max_new_tokens(llm):
    answer = answer_all(llm, [ask("Tell me a long story about robots", max_new_tokens=5)])[0]
    assert (answer.finish, answer.new_tokens) == ("length", 5)
    assert answer.prompt_tokens >= 7


def test_a_readout_scores_every_label_and_no_other_request_gets_one(llm):
    requests = [ask("A film"), ask("A film", readout=Readout(CUE, LABELS))]
    plain, scored = answer_all(llm, requests)
    assert plain.label_logp is None
    assert plain.text == scored.text
    assert len(scored.label_logp) == len(LABELS)
    assert all(logp < 0 for logp in scored.label_logp)


def test_labels_are_scored_without_generating(llm):
    requests = [ask(f"Rate {what}.") for what in LIKES]
    rows = score(llm, requests, Readout("Rating: ", LABELS))
    assert [len(row) for row in rows] == [len(LABELS)] * len(LIKES)
    assert answer_all(
        llm, [replace(requests[0], max_new_tokens=0, readout=Readout("Rating: ", LABELS))]
    )[0].text == ""  # fmt: skip


def test_the_prefill_is_not_in_the_text(llm):
    answer = answer_all(llm, [ask("What is the capital of France?", prefill="The capital of")])[0]
    assert answer.text and not answer.text.startswith("The capital of")
