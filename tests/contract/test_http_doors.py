"""What servers may do to a client: send it elsewhere, drown it, tell nonsense beside an answer."""

import gzip
import json
import math
import sys
import threading
import tracemalloc
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from faulty_proxy import FAULTS, KEPT, LOST, between, say
from stand_ins import Plain, Refused, playing

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Failure, LLMError, Message, Readout, Request, answer_all
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.cost.budget import MeteredLLM
from recbole_exp3rt.llm.cost.ledger import Ledger
from recbole_exp3rt.llm.cost.prices import Price, Prices
from recbole_exp3rt.llm.server import endpoint, http_client
from recbole_exp3rt.llm.server.chat_route import fewer_than
from recbole_exp3rt.llm.server.openai_llm import HTTPOptions, OpenAIHTTP
from recbole_exp3rt.llm.store import Store

READOUT = Readout("Predicted User Rating: ", tuple("0123456789"))


def ask(text, **settings):
    return Request((Message("user", text),), **{"max_new_tokens": 8, **settings})


def to(url, **options):
    return OpenAIHTTP("smollm2", HTTPOptions((url,), **options))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(endpoint, "LONGEST_WAIT", 0.05)


# --- likeliest tokens


class Allows(Plain):
    """Takes at most `most` likeliest tokens, and says so in the `words` of a kind of server."""

    def post(self, path, body):
        if body.get("top_logprobs", 0) > self.traits["most"]:
            raise Refused(400, self.traits["words"].format(body["top_logprobs"]))
        return super().post(path, body)


@pytest.mark.parametrize(
    ("most", "words", "asked_for"),
    [
        (5, "Requested sample logprobs of {}, which is greater than max allowed: 5", [20, 5]),
        (8, "Invalid value for 'top_logprobs': must be less than or equal to 8.", [20, 8]),
        (10, "top_logprobs must be in [0, 10]", [20, 10]),
        (4, "top_logprobs: {} is not in the range 0-4", [20, 4]),
        (7, "top_logprobs must be less than 8", [20, 8, 5]),
        (5, "Bad request", [20, 10, 8, 5]),  # no number is said: step by step
    ],
)
def test_a_server_is_asked_for_as_many_likeliest_tokens_as_it_allows(most, words, asked_for):
    top = {"7": math.log(0.6), "8": math.log(0.3), "x": math.log(0.1)}
    steps = [("Predicted User Rating: ", {"a": -1.0, "x": -2.0}), ("7", top)]
    answer = "Predicted User Rating: 7"
    with playing(Allows, most=most, words=words, answer=answer, steps=steps) as (part, url):
        llm = to(url)
        before = len(part.asked)
        first, second = answer_all(llm, [ask(t, readout=READOUT) for t in ("Rain", "Steel")])
        tops = [body["top_logprobs"] for _, body in part.asked if "top_logprobs" in body]
    assert llm.readout == "top" and first.missing_labels == second.missing_labels == 8
    assert [math.exp(first.label_logp[k]) for k in (7, 8)] == pytest.approx([0.6, 0.3])
    assert len(part.asked) == before + 2, "what was learned is kept for the run"
    assert list(dict.fromkeys(tops)) == asked_for


def test_a_server_that_allows_fewer_from_now_on_loses_no_answer():
    words = "top_logprobs of {} is over the limit of 6"
    steps = [("Predicted User Rating: ", {"a": -1.0, "x": -2.0}), ("7", {"7": -0.1, "8": -3.0})]
    traits = {"answer": "Predicted User Rating: 7", "steps": steps}
    with playing(Allows, most=20, words=words, **traits) as (part, url):
        llm = to(url)
        part.traits["most"] = 6
        answers = answer_all(llm, [ask(f"Film {n}", readout=READOUT) for n in range(20)])
        assert [answer.label_logp[7] for answer in answers] == pytest.approx([-0.1] * 20)
        assert part.asked[-1][1]["top_logprobs"] == 6


@pytest.mark.parametrize(
    ("said", "allowed"),
    [("model gpt-4 allows 5", 5), ("no", 10), ("http://10.0.0.8:9 (400): no", 9), ("v3: 1.5", 10)],
)
def test_the_number_in_a_refusal(said, allowed):
    assert fewer_than(20, said) == allowed
    assert fewer_than(2, said) is None


# --- a server that answers as it likes


@contextmanager
def serving(post):
    """A server whose POSTs `post(handler, body)` answers. Yields (its base URL, the requests)."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_GET(self):
            say(self, 200, {"data": [{"id": "smollm2"}]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            post(self, body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()


def chat(text="Fine.", usage=None, **more):
    choice = {"message": {"content": text}, "finish_reason": "stop", **more}
    return {
        "model": "m",
        "choices": [choice],
        "usage": {"prompt_tokens": 3} if usage is None else usage,
    }


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_review_texts_do_not_follow_a_redirect_to_another_host(monkeypatch, status):
    monkeypatch.setenv("MY_KEY", "sk-most-secret")
    with serving(lambda handler, body: say(handler, 200, chat())) as (other, stolen):
        moved = {"Location": f"{other}/chat/completions"}
        with serving(lambda handler, body: say(handler, status, "", moved)) as (url, _):
            with pytest.raises(LLMError) as caught:
                to(url, readout="parsed", api_key_env="MY_KEY")
            places = url.removesuffix("/v1"), other.removesuffix("/v1")
    assert not stolen and all(place in str(caught.value) for place in places)


def test_a_redirect_in_the_middle_of_a_run_ends_it_and_one_at_home_is_followed():
    homely = {"Location": "/v1/elsewhere"}

    def post(handler, body):
        if "Steel" in str(body):
            say(handler, 307, "", {"Location": "https://127.0.0.1/v1/chat/completions"})
        elif handler.path.endswith("/elsewhere"):
            say(handler, 200, chat())
        else:
            say(handler, 307, "", homely)

    with serving(post) as (url, _):
        llm = to(url, readout="parsed")
        assert answer_all(llm, [ask("Rain")])[0].text == "Fine."
        with pytest.raises(LLMError, match=r"sends what it is asked on to https://127\.0\.0\.1;"):
            answer_all(llm, [ask("Steel")])


def large(handler, size, packed=False, chunked=False):
    """100 MB of answer, of zeros where it is packed."""
    handler.send_response(200)
    if packed:
        body = gzip.compress(bytes(size))
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return
    name, value = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(size))
    handler.send_header(name, value)
    handler.end_headers()
    piece = b" " * 2**20
    for _ in range(size >> 20):
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)


@pytest.mark.parametrize("how", [{}, {"chunked": True}, {"packed": True}], ids=str)
def test_a_body_of_100_mb_is_an_error_in_little_memory(how):
    def post(handler, body):
        if "Steel" not in str(body):
            return say(handler, 200, chat())
        try:
            large(handler, 100 * 2**20, **how)
        except OSError:
            handler.close_connection = True  # the client has gone

    with serving(post) as (url, asked):
        llm = to(url, readout="parsed")
        tracemalloc.start()
        rain, steel = answer_all(llm, [ask("Rain"), ask("Steel")])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert rain.text == "Fine." and steel == Failure("the server's answer is over 32 MB")
    assert sum("Steel" in str(body) for _, _, body in asked) == 1, "it would come again"
    assert peak < 4 * http_client.MOST_BYTES


def test_a_body_packed_in_another_way_is_not_unpacked():
    odd = {"Content-Encoding": "br"}
    with serving(lambda handler, body: say(handler, 200, b"\x00", odd)) as (url, asked):
        with pytest.raises(LLMError, match="packed as 'br'"):
            to(url, readout="parsed")
        assert asked[0][1]["accept-encoding"] == "gzip"


BAD = [
    {"prompt_tokens": None, "completion_tokens": -1},
    {"prompt_tokens": "3", "completion_tokens": math.nan},
    {"prompt_tokens": 10**30, "completion_tokens": math.inf},
    {"prompt_tokens": [1], "completion_tokens": True},
    [],
    "free",
    7,
]


@pytest.mark.parametrize("usage", BAD, ids=str)
def test_an_answer_with_a_bad_usage_is_kept_and_its_cost_estimated(tmp_path, usage):
    prices = Prices("today", {"smollm2": (Price(1.0, 1.0), 0.0)})
    with serving(lambda handler, body: say(handler, 200, chat(usage=usage))) as (url, asked):
        metered = MeteredLLM(to(url, readout="parsed"), prices, Ledger(tmp_path / "ledger"))
        asked.clear()
        store = Store(tmp_path / "answers.sqlite")
        request = ask("A film about the rain")
        (answer,) = answer_all(CachedLLM(metered, store), [request])
        assert answer.text == "Fine." and len(asked) == 1
        assert answer_all(CachedLLM(metered, store), [request]) == [answer] and len(asked) == 1
    assert metered.estimated == 1 and 0 < metered.spent.cost < 1e-3
    assert metered.spent.prompt_tokens >= 7 and metered.spent.new_tokens >= 2


NONSENSE = [
    {"logprobs": {"content": [{"token": "7", "top_logprobs": None}]}},
    {"logprobs": {"content": [{"token": "7", "top_logprobs": [{"token": "7", "logprob": "x"}]}]}},
    {"logprobs": {"content": 5}},
    {"logprobs": {"content": [{"token": "7", "top_logprobs": [{"token": "7", "logprob": 1e999}]}]}},
    {"finish_reason": None},
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda n: json.dumps(n)[:60])
def test_nonsense_beside_an_answer_is_no_reason_to_pay_for_it_again(nonsense):
    likely = [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -2.0}]
    good = {"logprobs": {"content": [{"token": "a", "top_logprobs": likely}]}}

    def post(handler, body):
        said = chat("Predicted User Rating: 7", **(nonsense if "Rain" in str(body) else good))
        say(handler, 200, said)

    with serving(post) as (url, asked):
        llm = to(url, readout="top")
        asked.clear()
        (answer,) = answer_all(llm, [ask("Rain", readout=READOUT)])
    assert len(asked) == 1 and answer.label_logp[7] == 0.0 and answer.missing_labels == 9


def test_half_a_character_is_replaced_and_counted_and_loses_no_other_answer(tmp_path):
    def post(handler, body):
        said = json.dumps(chat("Half \ud83d here." if "Rain" in str(body) else "Caf\u00e9."))
        if "Tea" in str(body):
            said = said.replace("\\u00e9", "\u00e9").encode("latin-1")  # no UTF-8
        say(handler, 200, said)

    with serving(post) as (url, asked):
        llm = to(url, readout="parsed")
        asked.clear()
        texts = ("Rain", "Steel", "Tea", "An emoji cut in two: \ud83c")
        answers = answer_all(llm, [ask(text) for text in texts])
        assert llm.count_tokens("\ud83c") == 1
    assert [a.text for a in answers] == ["Half \ufffd here.", "Café.", "Caf\ufffd.", "Café."]
    assert llm.mended == 2 and len(asked) == 4
    sent = {body["messages"][0]["content"] for _, _, body in asked}
    assert "An emoji cut in two: \ufffd" in sent


# --- passwords


def test_a_password_in_the_url_is_sent_and_shown_nowhere(caplog):
    caplog.set_level("DEBUG")
    echo = {"error": {"message": "no such: me:pa-ss-word and k-e-y-1"}}

    def post(handler, body):
        say(handler, 400, echo) if "Steel" in str(body) else say(handler, 200, chat())

    with serving(lambda handler, body: say(handler, 200, chat())) as (url, asked):
        whole = url.replace("http://", "http://me:pa-ss-word@") + "?key=k-e-y-1&v=2"
        llm = to(whole, readout="parsed")
        path, headers, _ = asked[0]
        assert headers["authorization"].startswith("Basic ") and path.endswith("?key=k-e-y-1&v=2")
    shown = [caplog.text, llm.identity, llm.servers[0].name, repr(llm.servers[0].url)]
    with serving(post) as (url, _):
        other = to(
            url.replace("http://", "http://me:pa-ss-word@") + "?key=k-e-y-1", readout="parsed"
        )
        shown += [repr(answer_all(other, [ask("Steel")]))]
    assert "***" in shown[-1]
    assert not any(secret in text for text in shown for secret in ("pa-ss-word", "k-e-y-1"))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999/v1", "http://", "ftp://h/v1", "http://a b/v1"]
)
def test_a_url_that_cannot_be_is_one_line(url):
    with pytest.raises((LLMError, UsageError), match="cannot be a server: it"):
        to(url)


# --- faults


class Counts(Plain):
    """Each film has a rating of its own."""

    def post(self, path, body):
        text = body["messages"][-1]["content"]
        digit = text[-1] if text[-1].isdigit() else "1"
        said = super().post(path, body)
        answer = f"Reasoning of {text}: café.\nPredicted User Rating: {digit}"
        said["choices"][0]["message"]["content"] = answer
        return said


def test_twenty_kinds_of_fault_change_no_rating_and_nothing_is_paid_twice(tmp_path, quick):
    kinds = (*FAULTS, *KEPT, *LOST)
    assert len(set(kinds)) == 20
    requests = [ask(f"Film {n}", readout=READOUT) for n in range(150)]
    with playing(Counts, answer="1") as (_, plain):
        undisturbed = answer_all(to(plain, readout="parsed"), requests)
        with between(plain, faults=kinds) as proxy:
            llm = to(proxy.url, readout="parsed", max_retries=12, request_timeout=1.0)
            proxy.slow, proxy.rate = 1.5, 0.3
            store = Store(tmp_path / "answers.sqlite")
            proxy.delivered.clear()
            answers = answer_all(CachedLLM(llm, store), requests)
            proxy.settle()
            assert set(proxy.seen) == set(kinds)
            lost = [n for n, answer in enumerate(answers) if isinstance(answer, Failure)]
            assert {answers[n].reason for n in lost} <= {"the model refused to answer"}
            assert len(lost) == proxy.seen["refusal"]
            for n, (one, other) in enumerate(zip(undisturbed, answers, strict=True)):
                if n not in lost:
                    assert (one.text, one.label_logp) == (other.text, other.label_logp)
            assert len(store) == len(requests) - len(lost)
            assert set(proxy.delivered.values()) == {1}, "none is asked for after it was answered"
            assert len(proxy.delivered) == len(requests) - len(lost)
