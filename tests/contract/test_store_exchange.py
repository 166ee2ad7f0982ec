"""`exp3rt store`: answers go from one store to another and come back as they were."""

import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from recbole_exp3rt.cli.main import main
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Completion, Message, Readout, Request
from recbole_exp3rt.llm.store import open_store
from recbole_exp3rt.llm.stores.exchange import export, load, merge
from recbole_exp3rt.paths import properties_dir

READOUT = Readout("Rating: ", ("1", "2"))


def filled(place, first, last, text="said"):
    """A store with answers `first` to `last` of two models, with whatever a text can hold."""
    store = open_store(place)
    for identity in ("model@1+exact", 'other "é" @2'):
        answers = {}
        for n in range(first, last):
            request = Request(
                (Message("user", f"¿question {n}? \t\n\x1b \0 \ud83d 😀"),),
                stop=("x",),
                readout=READOUT,
            )
            answer = Completion(
                f"{text} {n} 😀\n", "length", n, 2, (-0.1 * n, float("-inf")), n % 2
            )
            answers[request.key(identity)] = (request, answer)
        store.put_many(identity, answers)
    return store


def contents(store):
    return {row.key: row for page in store.rows() for row in page}


def test_what_is_exported_comes_back_as_it_was(place, tmp_path):
    store = filled(place, 0, 617)
    moved = export(store, tmp_path / "answers.parquet")
    assert (moved.read, moved.new, moved.damaged) == (1_234, 1_234, 0)
    again = open_store(tmp_path / "again.sqlite")
    assert load(tmp_path / "answers.parquet", again).new == 1_234
    assert contents(again) == contents(store)
    keys = list(contents(store))
    assert again.get_many(keys) == store.get_many(keys) and again.held() == store.held()
    assert again.asked(keys[0]) == store.asked(keys[0])
    assert str(load(tmp_path / "answers.parquet", store)) == (
        "0 answers are new, 1,234 were there already"
    )


def test_merged_stores_hold_the_answers_of_both_and_the_first_stays(place, tmp_path):
    store = filled(place, 0, 700)
    before = contents(store)
    other = filled(tmp_path / "other.sqlite", 500, 1_500, text="another answer")
    moved = merge(other, store)
    assert (moved.read, moved.new) == (2_000, 1_600)
    assert contents(store) == contents(other) | before
    back = open_store(tmp_path / "back.sqlite")
    merge(store, back)
    assert contents(back) == contents(store)


def test_what_is_no_answer_to_its_question_is_left_out_and_named(place, tmp_path):
    source = filled(tmp_path / "a.sqlite", 0, 4)
    export(source, tmp_path / "a.parquet")
    rows = pq.read_table(tmp_path / "a.parquet")
    spoilt = {
        "request": rows["request"][1].as_py(),  # an answer to another question
        "finish": "perhaps",
        "label_logp": "[NaN]",
        "prompt_tokens": -1,
        "text": "a\0b",
    }
    for row, (column, value) in enumerate(spoilt.items()):
        values = rows[column].to_pylist()
        values[row] = value
        position = rows.schema.get_field_index(column)
        rows = rows.set_column(position, rows.schema.field(column), pa.array(values))
    pq.write_table(rows, tmp_path / "b.parquet")
    store = open_store(place)
    moved = load(tmp_path / "b.parquet", store)
    assert (moved.read, moved.new, moved.damaged, len(store)) == (8, 3, 5, 3)
    assert "5 damaged ones were left out" in str(moved)
    assert moved.first_damaged == f"{rows['key'][0]}: its key is not that of its question"


@pytest.mark.parametrize("spoil", ["text", "table", "pickle", "cut off", "missing"])
def test_another_file_is_refused_in_one_line(tmp_path, spoil):
    path = tmp_path / "file.parquet"
    if spoil == "text":
        path.write_text("no parquet")
    elif spoil == "table":
        pq.write_table(pa.table({"key": ["a"]}), path)
    elif spoil == "pickle":
        path.write_bytes(pickle.dumps({"key": "a"}))
    elif spoil == "cut off":
        export(filled(tmp_path / "a.sqlite", 0, 40), path)
        path.write_bytes(path.read_bytes()[:-100])
    store = open_store(tmp_path / "b.sqlite")
    with pytest.raises(
        UsageError, match=r"file\.parquet (cannot be read|is no readable|was not)"
    ) as e:
        load(path, store)
    assert "\n" not in str(e.value) and len(store) == 0


def test_the_commands_say_what_they_did(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    filled(place, 0, 30)
    filled("two.sqlite", 20, 40)
    assert main(["store", "export", place, "one.parquet"]) == 0
    assert main(["store", "export", place, "one.parquet"]) == 2
    assert "one.parquet is there already" in capsys.readouterr().err
    assert main(["store", "import", "all.sqlite", "one.parquet", "one.parquet"]) == 0
    assert main(["store", "merge", "all.sqlite", "two.sqlite"]) == 0
    told = capsys.readouterr().out
    assert "one.parquet: 60 answers are new, 0 were there already" in told
    assert "one.parquet: 0 answers are new, 60 were there already" in told
    assert "two.sqlite: 20 answers are new, 20 were there already" in told
    assert "all.sqlite: 80 answers" in told
    assert main(["store", "stats", "all.sqlite"]) == 0
    shown = capsys.readouterr().out
    assert "all.sqlite: 80 answers" in shown and "Paid" not in shown
    row = next(line.split() for line in shown.splitlines() if line.startswith("model@1+exact"))
    assert row == ["model@1+exact", "40", "780", "80"]
    assert main(["store", "stats", "none.sqlite"]) == 2
    assert "there is no store none.sqlite" in capsys.readouterr().err
    assert not (tmp_path / "none.sqlite").exists()


def test_stats_without_a_name_are_those_of_the_store_that_runs_use(tmp_path, monkeypatch, capsys):
    usual = yaml.safe_load((properties_dir() / "llm.yaml").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / usual["store_path"]).parent.mkdir()
    filled(usual["store_path"], 0, 2)
    assert main(["store", "stats"]) == 0
    assert "4 answers" in capsys.readouterr().out


def test_an_export_is_parquet_and_its_name_says_no_other_form(tmp_path):
    store = filled(tmp_path / "answers.sqlite", 0, 2)
    with pytest.raises(UsageError, match="would be parquet"):
        export(store, tmp_path / "answers.csv")
    assert not (tmp_path / "answers.csv").exists()
