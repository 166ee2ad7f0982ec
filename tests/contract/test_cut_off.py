"""A client that is cut off from the store: it waits, goes on, and asks nothing twice."""

import threading
import time

import pytest

psycopg = pytest.importorskip("psycopg")

from cable import Cable  # noqa: E402

from recbole_exp3rt.errors import UsageError  # noqa: E402
from recbole_exp3rt.llm import claims  # noqa: E402
from recbole_exp3rt.llm.base import Completion, Message, Request, answer_all  # noqa: E402
from recbole_exp3rt.llm.cached import CachedLLM  # noqa: E402
from recbole_exp3rt.llm.scripted import ScriptedLLM  # noqa: E402
from recbole_exp3rt.llm.store import open_store  # noqa: E402
from recbole_exp3rt.llm.stores import database  # noqa: E402


def ask(text):
    return Request((Message("user", text),), max_new_tokens=4)


@pytest.fixture
def cable(cluster, monkeypatch):
    """A cable to the server; a server that says nothing is given up soon."""
    monkeypatch.setattr(database, "REPLY_SECONDS", 0.4)
    made = Cable(cluster.port)
    yield made
    made.cut()


@pytest.fixture
def near(cluster):
    """The URL of the server itself."""
    return cluster.database()


@pytest.fixture
def far(cluster, near, cable):
    """The URL of the same database at the end of the cable."""
    return near.replace(f":{cluster.port}/", f":{cable.port}/") + "?connect_timeout=2"


@pytest.mark.parametrize("way", ["cut", "hold"])
@pytest.mark.filterwarnings("ignore:store .* no connection")
def test_an_answer_arrives_after_the_cable_is_mended(cable, near, far, way):
    store = open_store(far)
    getattr(cable, way)()
    threading.Timer(1.0, cable.mend).start()
    start = time.monotonic()
    assert store.put_many("m", {"k": (ask("?"), Completion("kept"))}) in (0, 1)
    assert time.monotonic() - start > 0.9
    assert open_store(near).get_many(["k"])["k"].text == "kept"


@pytest.mark.filterwarnings("ignore:store .* no connection")
def test_a_server_that_says_nothing_is_given_up_in_one_line(cable, far):
    store = open_store(far)
    cable.hold()
    said = []
    with pytest.raises(UsageError, match="the server cannot be reached"):
        store._database.run(lambda c: said.append(c) or c.execute("SELECT 1"), 0.5)
    assert said[0].closed


def test_a_query_over_the_whole_store_may_take_its_time(far, monkeypatch):
    store = open_store(far)
    slow = "SELECT count(*) FROM (SELECT pg_sleep(1.0)) AS waited"
    assert store._look(slow) == [(1,)]
    with pytest.raises(UsageError, match=r"no reply for 0\.4 s"):
        store._database.run(lambda c: c.execute(slow), 0.0)


class Slow:
    """A model that notes what it is asked, and says whose answer it is."""

    def __init__(self, name):
        self.name, self.asked = name, []

    def __call__(self, request):
        self.asked.append(request.messages[0].content)
        time.sleep(0.02)
        return f"{request.messages[0].content} by {self.name}"

    def wait_for(self, count):
        while len(self.asked) < count:
            time.sleep(0.005)


@pytest.mark.parametrize("way", ["cut", "hold"])
@pytest.mark.filterwarnings("ignore:store .* no connection", "ignore:waiting for answers")
def test_what_a_client_had_claimed_is_taken_over_and_not_asked_again(
    cable, near, far, way, monkeypatch
):
    monkeypatch.setattr(claims, "LAPSE_SECONDS", 1.0)
    questions = [ask(f"question {n}") for n in range(150)]
    away, here = Slow("away"), Slow("here")
    answers = {}

    def run(model, url):
        llm = CachedLLM(ScriptedLLM(model), open_store(url))
        answers[model.name] = [one.text for one in answer_all(llm, questions)]

    first = threading.Thread(target=run, args=[away, far])
    first.start()
    away.wait_for(40)
    getattr(cable, way)()
    second = threading.Thread(target=run, args=[here, near])
    second.start()  # all is claimed, until the claims lapse
    second.join(30)
    before = len(away.asked)
    cable.mend()
    first.join(30)
    stored = open_store(near).get_many([one.key("scripted") for one in questions])
    kept = [stored[one.key("scripted")].text for one in questions]
    assert answers == {"away": kept, "here": kept}
    assert {text.rpartition(" ")[2] for text in kept} == {"away", "here"}
    # While its claims held, it asked on; these answers were under way when they lapsed.
    assert 40 <= before < 120 and len(away.asked) <= before + 1
    assert set(away.asked[:20]).isdisjoint(here.asked)
    assert len(away.asked) == len(set(away.asked)) and len(here.asked) == len(set(here.asked))
