"""The store keeps what was answered, and says so when a file is not its own."""

import json
import multiprocessing
import sqlite3

import pytest

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Completion, Message, Readout, Request
from recbole_exp3rt.llm.store import Store

REQUEST = Request((Message("user", "Was it good?"),), readout=Readout("Rating: ", ("0", "1")))
ANSWER = Completion("Yes – très bon.\n", "length", 12, 34, (-0.1234567890123456, -7.5))


def test_an_answer_comes_back_as_it_was_from_another_opening(tmp_path):
    Store(tmp_path / "new folder" / "answers.sqlite").put_many("m", {"k": (REQUEST, ANSWER)})
    store = Store(tmp_path / "new folder" / "answers.sqlite")
    assert store.get_many(["k", "unknown"]) == {"k": ANSWER}
    assert len(store) == 1


def test_the_question_can_be_read_beside_the_answer(tmp_path):
    store = Store(tmp_path / "answers.sqlite")
    store.put_many("model@1", {"k": (REQUEST, ANSWER)})
    identity, request = store.asked("k")
    assert identity == "model@1"
    assert json.loads(request)["messages"] == [{"role": "user", "content": "Was it good?"}]
    assert store.asked("unknown") is None


def test_more_keys_than_one_query_takes(tmp_path):
    store = Store(tmp_path / "answers.sqlite")
    keys = [f"key {n}" for n in range(2_345)]
    store.put_many("m", {key: (REQUEST, Completion(key)) for key in keys})
    assert {key: answer.text for key, answer in store.get_many(keys).items()} == dict(
        zip(keys, keys, strict=True)
    )


def test_the_first_answer_stays(tmp_path):
    store = Store(tmp_path / "answers.sqlite")
    store.put_many("m", {"k": (REQUEST, Completion("first"))})
    store.put_many("m", {"k": (REQUEST, Completion("second"))})
    assert store.get_many(["k"])["k"].text == "first"


def _write(path, name, start):
    start.wait()
    store = Store(path)
    for n in range(50):
        store.put_many(name, {f"{name} {n}": (REQUEST, Completion(name)), f"both {n}": (
            REQUEST, Completion(name))})  # fmt: skip


def test_processes_share_one_file_from_its_first_moment(tmp_path):
    path = tmp_path / "answers.sqlite"
    context = multiprocessing.get_context("fork")
    start = context.Event()
    writers = [context.Process(target=_write, args=(path, name, start)) for name in "abcd"]
    for writer in writers:
        writer.start()
    start.set()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert len(Store(path)) == 4 * 50 + 50


def _foreign_database(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE photographs (name TEXT)")


def _cut_off(path):
    store = Store(path)
    store.put_many("m", {str(n): (REQUEST, Completion("x" * 500)) for n in range(200)})
    store.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * 4096 + content[8192:])


@pytest.mark.parametrize(
    "spoil",
    [lambda path: path.write_text("not a database " * 100), _foreign_database, _cut_off],
    ids=["text", "foreign", "damaged"],
)
def test_a_file_that_is_no_store_is_named_with_the_remedy(tmp_path, spoil):
    path = tmp_path / "answers.sqlite"
    spoil(path)
    with pytest.raises(UsageError, match=r"answers\.sqlite .*move it away") as caught:
        Store(path).get_many([str(n) for n in range(200)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["label_logp = '[-1.0, -2'", "prompt_tokens = 'x'"])
def test_an_answer_whose_numbers_are_damaged_is_named_with_the_remedy(tmp_path, damage):
    path = tmp_path / "answers.sqlite"
    Store(path).put_many("m", {"k": (REQUEST, Completion("x", label_logp=(-1.0, -2.0)))})
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE answers SET {damage}")
    with pytest.raises(UsageError, match=r"answer k is damaged.*move it away"):
        Store(path).get_many(["k"])


def test_a_full_disk_is_told_and_what_is_there_stays(small_disk):
    disk, make_room = small_disk
    store, kept = Store(disk / "answers.sqlite"), 0
    with pytest.raises(UsageError, match=r"is full; free some space, and the same command"):
        for kept in range(100):
            store.put_many("m", {str(kept): (REQUEST, Completion("x" * 10_000))})
    assert make_room()
    store.put_many("m", {"more": (REQUEST, Completion("y"))})
    assert kept > 0 and len(store) == kept + 1
    store.close()


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(UsageError, match="move it away"):
        Store(tmp_path)


def test_a_newer_store_is_left_alone(tmp_path):
    path = tmp_path / "answers.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match="newer version"):
        Store(path)


def test_a_store_of_version_1_keeps_its_answers_and_takes_new_ones(tmp_path):
    path = tmp_path / "answers.sqlite"
    with sqlite3.connect(path) as db:  # as version 1 wrote it
        db.executescript("""
            CREATE TABLE answers (key TEXT PRIMARY KEY, text TEXT NOT NULL, finish TEXT NOT NULL,
                prompt_tokens INTEGER NOT NULL, new_tokens INTEGER NOT NULL, label_logp TEXT
            ) WITHOUT ROWID;
            CREATE TABLE requests (key TEXT PRIMARY KEY, identity TEXT NOT NULL,
                request TEXT NOT NULL) WITHOUT ROWID;
            INSERT INTO answers VALUES ('old', 'yes', 'stop', 3, 1, '[-0.5, -1.5]');
            INSERT INTO requests VALUES ('old', 'm', '{}');
            PRAGMA application_id = 0x45585033;
            PRAGMA user_version = 1;
        """)
    bounded = Completion("no", label_logp=(-0.1, -9.0), missing_labels=1)
    Store(path).put_many("m", {"new": (REQUEST, bounded)})
    assert Store(path).get_many(["old", "new"]) == {
        "old": Completion("yes", "stop", 3, 1, (-0.5, -1.5), missing_labels=0),
        "new": bounded,
    }
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
