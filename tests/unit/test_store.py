"""A store in a file: damaged, foreign, old and read-only ones. See contract/test_stores.py."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Completion, Message, Readout, Request
from recbole_exp3rt.llm.store import Store
from recbole_exp3rt.llm.stores import sqlite as store_module

ROOT = Path(__file__).parents[2]
REQUEST = Request((Message("user", "Was it good?"),), readout=Readout("Rating: ", ("0", "1")))
ANSWER = Completion("Yes – très bon.\n", "length", 12, 34, (-0.1234567890123456, -7.5))


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


@pytest.mark.parametrize(
    "damage",
    [
        "label_logp = '[-1.0, -2'",
        "label_logp = '[NaN, -2]'",
        "label_logp = '[1e999, -2]'",
        f"label_logp = '{'[' * 100_000}'",
        f"label_logp = '[{10**400}]'",
        "label_logp = 'null'",
        "label_logp = x'5b5d'",
        "prompt_tokens = 'x'",
        "new_tokens = 1.5",
        "text = x'00ff'",
        "text = CAST(x'ff41' AS TEXT)",  # no UTF-8
        "finish = x'ff'",
        "finish = 'perhaps'",
    ],
    ids=range(13),
)
def test_a_row_that_is_no_answer_is_named_and_the_next_answer_takes_its_place(tmp_path, damage):
    path = tmp_path / "answers.sqlite"
    answer = Completion("x", label_logp=(-1.0, -2.0))
    keys = [f"key {n}" for n in range(700)]
    store = Store(path)
    store.put_many("m", {key: (REQUEST, answer) for key in keys})
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE answers SET {damage} WHERE key = 'key 3'")
    with pytest.warns(UserWarning, match=r"answers.sqlite: answer key 3 is damaged") as said:
        found = store.get_many(keys)
        assert store.get_many(keys) == found
    texts = [str(one.message) for one in said if one.category is UserWarning]
    assert len(texts) == 1 and "\n" not in texts[0]
    assert found.keys() == set(keys) - {"key 3"}
    assert store.claim("me", keys, 9.0) == {"key 3"}
    better = Completion("better", label_logp=(-1.0, -2.0))
    store.put_many("m", {"key 3": (REQUEST, better)})
    assert Store(path).get_many(keys)["key 3"] == better


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


# --- a store that cannot be written


def _killed_before_it_closed(path):
    """The last commits stand in a file of their own."""
    code = (
        "import os, sys; from recbole_exp3rt.llm.base import *;"
        "from recbole_exp3rt.llm.store import Store;"
        "Store(sys.argv[1]).put_many('m', {'k': (Request(()), Completion('kept'))});"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=ROOT)
    assert path.with_name(path.name + "-wal").stat().st_size > 0


def _closed(path):
    store = Store(path)
    store.put_many("m", {"k": (REQUEST, Completion("kept"))})
    store.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("leave", [_closed, _killed_before_it_closed])
@pytest.mark.parametrize("shared", [True, False])
def test_a_store_on_read_only_media_answers_and_keeps_nothing(small_disk, leave, shared):
    disk, change = small_disk
    path = disk / "a #1?.sqlite"
    leave(path)
    if not shared:
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
    assert change("remount,ro")
    store = Store(path)
    assert store.read_only and store.get_many(["k", "l"])["k"].text == "kept"
    assert store.identities() == ["m"] and len(store) == 1
    with pytest.raises(UsageError, match=r"it cannot be written; make the file and its folder"):
        store.put_many("m", {"l": (REQUEST, Completion("new"))})
    store.close()


def test_a_store_of_version_1_on_read_only_media_answers(small_disk):
    disk, change = small_disk
    path = disk / "answers.sqlite"
    _closed(path)
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE answers DROP COLUMN missing_labels")
        db.execute("DROP TABLE claims")
        db.execute("PRAGMA user_version = 1")
    db.close()
    assert change("remount,ro")
    store = Store(path)
    assert store.get_many(["k"])["k"] == Completion("kept")
    store.close()


def test_a_store_that_another_process_holds_locked_is_no_damaged_one(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "WAIT_SECONDS", 0.2)
    store = Store(tmp_path / "answers.sqlite")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UsageError, match="another process holds it locked; end that one"):
        store.put_many("m", {"k": (REQUEST, ANSWER)})
    other.execute("ROLLBACK")
    store.put_many("m", {"k": (REQUEST, ANSWER)})


# --- claims


def test_a_store_from_before_claims_takes_them(tmp_path):
    path = tmp_path / "answers.sqlite"
    store = Store(path)
    store.put_many("m", {"k": (REQUEST, ANSWER)})
    with sqlite3.connect(path) as db:
        db.executescript("DROP TABLE claims; DROP TABLE owners")
    assert Store(path).claim("one", ["k", "l"], 9.0) == {"l"}
