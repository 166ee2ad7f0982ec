"""A store on a real PostgreSQL server: restarts, refusals, and no password anywhere."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

psycopg = pytest.importorskip("psycopg")

from postgres_server import PASSWORD  # noqa: E402

from recbole_exp3rt.cli.main import main  # noqa: E402
from recbole_exp3rt.distill.train.presets import make_settings  # noqa: E402
from recbole_exp3rt.errors import UsageError  # noqa: E402
from recbole_exp3rt.llm.base import Completion, Message, Request, answer_all  # noqa: E402
from recbole_exp3rt.llm.cached import CachedLLM  # noqa: E402
from recbole_exp3rt.llm.cost.opening import open_ledger  # noqa: E402
from recbole_exp3rt.llm.scripted import ScriptedLLM  # noqa: E402
from recbole_exp3rt.llm.server.urls import masked  # noqa: E402
from recbole_exp3rt.llm.store import open_store  # noqa: E402

ROOT = Path(__file__).parents[2]
GPT = "openai:gpt-4o-mini@gpt-4o-mini-2024-07-18+top"
REQUEST = Request((Message("user", "Was it good?"),))


def ask(text):
    return Request((Message("user", text),), max_new_tokens=4)


@pytest.fixture
def url(cluster):
    return cluster.database()


def run(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


# --- restarts

PUTS = """
import sys
from recbole_exp3rt.llm.base import Completion, Message, Request
from recbole_exp3rt.llm.store import open_store

store, request = open_store(sys.argv[1]), Request((Message("user", "?"),))
for n in range(int(sys.argv[2])):
    store.put_many("m", {f"key {n}": (request, Completion("kept" * 100))})
    print(n, flush=True)
"""


def test_kill_9_of_the_server_loses_nothing_acknowledged_and_the_client_goes_on(cluster, url):
    client = run(PUTS, url, 400)
    kept = [client.stdout.readline() for _ in range(100)]
    cluster.kill()
    time.sleep(0.5)
    cluster.start()
    kept += client.communicate(timeout=60)[0].splitlines()
    assert client.returncode == 0 and len(kept) == 400
    keys = [f"key {n}" for n in range(400)]
    assert open_store(url).get_many(keys).keys() == set(keys)


def test_all_of_a_stores_work_goes_on_after_a_restart(cluster, url):
    store, ledger = open_store(url), open_ledger(url)
    store.put_many("m", {"k": (REQUEST, Completion("kept"))})
    ledger.add("m", 1, 1, 0.5)
    for _ in range(2):
        cluster.stop()
        cluster.start(after=0.7)
        with pytest.warns(UserWarning, match=r"no connection \(.*\); trying again for 60 s"):
            assert store.get_many(["k"])["k"].text == "kept"
        assert store.claim("me", ["k", "l"], 9.0) == {"l"}
        store.renew("me", 9.0)
        store.release("me", ["l"])
        assert ledger.total.cost == 0.5


def test_a_server_that_stays_away_is_one_line(cluster, url):
    store = open_store(url)
    cluster.stop()
    try:
        with pytest.raises(UsageError, match=r"the server cannot be reached .*start it") as error:
            store._database.run(lambda connection: connection.execute("SELECT 1"), 0.5)
        with pytest.raises(UsageError, match="the server cannot be reached") as first:
            open_store(url)
    finally:
        cluster.start()
    for told in (str(error.value), str(first.value)):
        assert "\n" not in told and PASSWORD not in told and "Connection refused" in told
    assert len(store) == 0


def test_an_answer_is_flushed_even_where_the_server_would_not(cluster, url):
    cluster.execute(url, "ALTER DATABASE one SET synchronous_commit = off")
    try:
        store = open_store(url)
        shown = store._database.run(lambda c: c.execute("SHOW synchronous_commit").fetchone())
        assert shown == ("on",)
    finally:
        cluster.execute(url, "ALTER DATABASE one RESET synchronous_commit")


def test_a_lost_answer_to_a_commit_counts_its_cost_once(url):
    """The connection breaks after the commit and before its acknowledgement: it is sent again."""
    ledger = open_ledger(url)
    inner, broke = ledger._database._connected, []

    class Breaking:
        def __init__(self, connection):
            self.connection = connection

        def execute(self, *arguments):
            done = self.connection.execute(*arguments)
            if not broke:
                broke.append(True)
                self.connection.close()
                raise psycopg.OperationalError("the connection is lost")
            return done

    ledger._database._connected = lambda: Breaking(inner())
    ledger.add("m", 3, 4, 0.5)
    assert broke and ledger.total.calls == 1 and ledger.total.cost == 0.5


def test_an_answer_that_comes_while_its_question_is_claimed_is_not_asked_for(url):
    one, other = open_store(url), open_store(url)
    free, looks = one._free, []

    def late(*arguments):
        found = free(*arguments)
        looks.append(found)
        if len(looks) == 2:  # within the claim: another process answers and lets go
            other.put_many("m", {"k": (REQUEST, Completion("kept"))})
        return found

    one._free = late
    assert one.claim("one", ["k", "l"], 9.0) == {"l"}
    assert looks == [["k", "l"], ["k", "l"]]


# --- refusals


def test_what_cannot_be_is_one_line_with_its_remedy(cluster, url):
    cluster.execute(url, "DROP ROLE IF EXISTS reader")
    cluster.execute(url, f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
    wrong = {
        cluster.url("one", password="wr0ng-word"): "refuses the user or the password; set PGPASS",
        cluster.url("nowhere"): "there is no such database or user; make it",
        cluster.url("one", user="reader"): "GRANT CREATE ON DATABASE",
        url.replace("@", "@@"): r"not of the form postgresql://user@host/database",
        url + "?pass=S3cret-w0rd": "invalid URI query parameter",
        url.replace(PASSWORD, "a/b"): "write @ as %40, / as %2F",
        "mysql://u:S3cret-w0rd@h/d": "neither a file nor postgresql://",
    }
    for place, told in wrong.items():
        with pytest.raises(UsageError, match=told) as error:
            open_store(place)
        assert "\n" not in str(error.value)
        assert not any(word in str(error.value) for word in (PASSWORD, "wr0ng-word", "a/b@"))


def test_the_owner_of_a_database_needs_no_other_right(cluster):
    for query in (
        "DROP DATABASE IF EXISTS owned",
        "DROP ROLE IF EXISTS owner",
        f"CREATE ROLE owner LOGIN PASSWORD '{PASSWORD}'",
        "CREATE DATABASE owned OWNER owner",
    ):
        cluster.execute(cluster.url(), query)
    store = open_store(cluster.url("owned", user="owner"))
    assert store.claim("me", ["k"], 9.0) == {"k"} and not store.read_only
    store.close()


def test_who_may_only_read_gets_answers_and_keeps_none(cluster, url):
    open_store(url).put_many("m", {"k": (REQUEST, Completion("kept"))})
    cluster.execute(url, "DROP ROLE IF EXISTS guest")
    cluster.execute(url, f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
    cluster.execute(url, "GRANT USAGE ON SCHEMA exp3rt TO guest")
    cluster.execute(url, "GRANT SELECT ON ALL TABLES IN SCHEMA exp3rt TO guest")
    store = open_store(cluster.url("one", user="guest"))
    assert store.read_only and store.get_many(["k"])["k"].text == "kept"
    with pytest.raises(UsageError, match="which is read-only"):
        answer_all(CachedLLM(ScriptedLLM({}), store), [REQUEST])
    with pytest.raises(UsageError, match="its user may only read"):
        open_ledger(cluster.url("one", user="guest")).check()


def test_a_database_of_another_encoding_or_version_is_left_alone(cluster, url):
    cluster.execute(cluster.url(), "DROP DATABASE IF EXISTS latin")
    cluster.execute(cluster.url(), "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(UsageError, match="its encoding is LATIN1; make the database anew"):
        open_store(cluster.url("latin"))
    open_store(url)
    cluster.execute(url, "UPDATE exp3rt.version SET version = 99")
    with pytest.raises(UsageError, match=r"written by another version \(99\)"):
        open_store(url)


# --- the password


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (f"at postgresql://me:{PASSWORD}@db:5432/answers it", "at postgresql://db:5432/answers it"),
        (f"postgres://me:{PASSWORD}@a:1,b:2/d?sslmode=require", "postgres://a:1,b:2/d"),
        (f"postgresql:///d?password={PASSWORD}", "postgresql:///d"),
        (f"postgresql://me:{PASSWORD}/x@db/d", "postgresql://***"),
        (f"postgresql://db/d?password={PASSWORD}@x", "postgresql://db/d"),
    ],
)
def test_a_url_is_shown_without_its_password(given, shown):
    assert masked(given) == shown


def test_a_password_is_never_shown(cluster, url, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store(url)
    store.put_many("m", {REQUEST.key("m"): (REQUEST, Completion("kept"))})
    open_ledger(url).add("openai:m", 1, 1, 0.5)
    assert main(["store", "stats", url]) == 0
    assert main(["store", "export", url, "answers.parquet"]) == 0
    assert main(["store", "import", url, "answers.parquet"]) == 0
    assert main(["store", "merge", "new.sqlite", url]) == 0
    assert main(["store", "stats", url.replace(str(cluster.port), "1")]) == 2
    out, err = capsys.readouterr()
    assert f"postgresql://127.0.0.1:{cluster.port}/one: 1 answers" in out
    assert "Paid: 1 calls, 1 prompt and 1 new tokens, $0.5" in out
    assert "the server cannot be reached" in err
    assert PASSWORD not in out + err and "exp3rt:" not in out + err
    for file in tmp_path.iterdir():
        assert PASSWORD.encode() not in file.read_bytes()
    llm = CachedLLM(None, store, identity="m")
    assert PASSWORD not in f"{store!r} {store.name} {llm!r} {vars(store)} {store._database!r}"


def test_a_card_of_a_student_does_not_name_the_store(url):
    settings = make_settings({"data": "d", "output": "o", "store_path": url})
    assert settings.store_path == url and "store_path" not in settings.values()


def test_a_fork_has_a_connection_of_its_own(url):
    store = open_store(url)

    def put(name):
        for n in range(40):
            store.put_many("m", {f"{name} {n}": (REQUEST, Completion(name))})

    child = multiprocessing.get_context("fork").Process(target=put, args=("child",))
    child.start()
    put("parent")
    child.join(30)
    child.kill()
    assert child.exitcode == 0 and len(store) == 80
