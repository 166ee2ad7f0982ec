"""Each kind of server is asked by its own means, and says what the same model says elsewhere."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from stand_ins import VLLM, Plain, SGLang, playing

from recbole_exp3rt.llm.base import LLMError, Message, Readout, Request, answer_all
from recbole_exp3rt.llm.server.openai_llm import HTTPOptions, OpenAIHTTP
from recbole_exp3rt.stages.rating import CUE, REASONING

LABELS = tuple("0123456789")
READOUT = Readout(f"\n{CUE} ", LABELS)
ASKED = (Message("system", "You rate movies."), Message("user", "Film: Rain"))
REQUESTS = [
    Request(ASKED, 4, prefill=REASONING, stop=(CUE,), readout=READOUT),
    Request(ASKED, 0, readout=Readout(f"{CUE} ", ("1", "2", "10"))),
]


def to(url, **options):
    return OpenAIHTTP("smollm2", HTTPOptions(base_url=(url,), **options))


def same(one, other):
    assert replace(one, label_logp=None) == replace(other, label_logp=None)
    assert one.label_logp == pytest.approx(other.label_logp, abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "traits"), [(VLLM, {}), (VLLM, {"old": True}), (SGLang, {})], ids=str
)
def test_a_kind_reads_every_label_exactly_by_its_own_means(llama_server, served, kind, traits):
    with playing(kind, llama_server, **traits) as (part, url):
        llm = to(url)
        assert llm.readout == "exact" and llm.count_tokens("a film") == served.count_tokens(
            "a film"
        )
        for one, other in zip(answer_all(llm, REQUESTS), answer_all(served, REQUESTS), strict=True):
            same(one, other)
        by_ids = [body for _, body in part.asked if "logprob_token_ids" in body]
        assert not traits or len(by_ids) == 1  # an old vLLM is asked in the new way only once


def test_a_vllm_that_tells_masked_probabilities_is_not_believed(llama_server):
    refused = pytest.raises(LLMError, match=r"readout=exact: .* cannot read labels so")
    with playing(VLLM, llama_server, old=True, masked=True) as (_, url), refused:
        to(url, readout="exact")


def test_openai_answers_by_chat_and_the_rating_is_read_where_it_was_written():
    top = {"7": math.log(0.6), "8": math.log(0.2), " 7": math.log(0.1), "x": math.log(0.05)}
    steps = [("Reasoning", {"R": -1, "x": -2}), (": fine.\n", {"a": -1, "x": -2})]
    steps += [("**Predicted User Rating:** ", {"a": -1, "x": -2}), ("7", top), ("/9", top)]
    answer = "".join(token for token, _ in steps)
    with playing(Plain, answer=answer, steps=steps) as (part, url):
        llm = to(url)
        assert llm.readout == "top" and llm.identity == "openai:smollm2@smollm2-2026-01-01+top"
        assert llm.count_tokens("x" * 30) == 10
        (said,) = answer_all(llm, REQUESTS[:1])
        body = part.asked[-1][1]
    assert "stop" not in body  # it would end the answer before its rating
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert said.text == "Reasoning: fine." and (said.prompt_tokens, said.new_tokens) == (11, 5)
    assert said.missing_labels == 8
    probability = [math.exp(logp) for logp in said.label_logp]
    assert probability[7] == pytest.approx(0.7) and probability[8] == pytest.approx(0.2)
    assert probability[0] == pytest.approx(0.05 / 8)  # what is left, shared; below 0.05, the least


def test_without_top_probabilities_the_number_is_parsed():
    with playing(Plain, answer="Reasoning: fine.\nPredicted User Rating: 3") as (_, url):
        llm = to(url)
        assert llm.readout == "parsed" and llm.identity.endswith("+parsed")
        (said,) = answer_all(llm, REQUESTS[:1])
    assert said.label_logp[3] == 0.0 and said.missing_labels == 9


def test_an_answer_without_a_rating_is_an_answer_without_labels():
    with playing(Plain, answer="I would rather not say 7 of 9.") as (_, url):
        (said,) = answer_all(to(url), REQUESTS[:1])
    assert said.text == "I would rather not say 7 of 9." and said.label_logp is None


def test_parameters_that_a_server_refuses_are_said_in_its_words():
    refuses = ("max_tokens", "temperature", "seed", "logprobs")
    with playing(Plain, answer="1", refuses=refuses) as (part, url):
        llm = to(url)
        answer_all(llm, REQUESTS[:1])  # finds out
        answer_all(llm, REQUESTS)
        asked = [body for _, body in part.asked]
    assert llm.readout == "parsed"
    assert all(not set(refuses) & set(body) for body in asked[-2:])
    assert asked[-1]["max_completion_tokens"] >= 24
    lengths = {"max_tokens", "max_completion_tokens"}
    assert all(lengths & set(body) for body in asked), "nothing is asked without a limit"
    assert sum("max_tokens" in body for body in asked) == 1, "what was learned is kept"


def test_requests_under_way_at_once_all_learn_the_servers_words():
    with playing(Plain, answer="1", refuses=("max_tokens", "seed"), slow=0.1) as (part, url):
        llm = to(url, readout="parsed")
        llm.servers[0].refused.clear()
        part.asked.clear()
        requests = [Request((Message("user", f"Film {k}"),), 4) for k in range(8)]
        answers = answer_all(llm, requests)
    assert sum("max_tokens" in body for _, body in part.asked) > 1, "more than one at once"
    assert [answer.text for answer in answers] == ["1"] * 8
