"""Users' own files, in the forms that RecBole reads: names, separators, encodings, line ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from worlds import COLUMNS, prepare, structured_rows, write_inter

import recbole_exp3rt
from recbole_exp3rt import UsageError
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.review_file import read_sidecar
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.data.train_corpus import corpus_of, read_descriptions
from recbole_exp3rt.trainer.fitting import blaming_settings, fit

NAMES = ("uid", "mid", "stars", "when")
OWN = {
    "USER_ID_FIELD": "uid",
    "ITEM_ID_FIELD": "mid",
    "RATING_FIELD": "stars",
    "TIME_FIELD": "when",
    "load_col": {"inter": list(NAMES)},
    "rating_scale": [1, 5],
    "description_fields": {"name": "Title", "plot": "Plot"},
    "review_fields": {"title": "summary", "text": "body"},
}


def write_own(separator="\t", encoding="utf-8", end="\n", rows=None):
    """A data set `own` of 20 users and 12 items; user u7's id is 007, item names have an accent."""
    folder = Path("dataset/own")
    folder.mkdir(parents=True)
    rows = rows or [
        (f"{user:03}", f"m{item}", 1 + (user + item) % 5, user + item)
        for user in range(20)
        for item in range(12)
        if (user * item) % 3 != 2
    ]
    types = [column.partition(":")[2] for column in COLUMNS]
    inter = [[f"{name}:{kind}" for name, kind in zip(NAMES, types, strict=True)], *rows]
    items = [["plot:token_seq", "mid:token", "name:token"]]
    inside = separator if len(separator) == 1 else ""  # pandas knows no quotes around more
    items += [
        [f'"A {inside}b{item}"' if inside else f"A b{item}", f"m{item}", f"Caf\u00e9 {item}"]
        for item in range(12)
    ]
    for ending, table in (("inter", inter), ("item", items)):
        lines = [separator.join(map(str, row)) + end for row in table]
        lines.insert(3, end)  # an empty line
        (folder / f"own.{ending}").write_bytes("".join(lines).encode(encoding))
    reviews = [
        {"mid": item, "uid": user, "summary": f"{user} on {item}", "body": "Fine caf\u00e9."}
        for user, item, *_ in rows
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + end for row in reviews)
    (folder / "own.reviews.jsonl").write_bytes(text.encode("utf-8-sig"))  # JSON is UTF-8


FORMS = {
    "plain": {},
    "with a mark": {"encoding": "utf-8-sig"},
    "lines of Windows": {"end": "\r\n", "encoding": "utf-8-sig"},
    "Latin-1, semicolons": {"separator": ";", "encoding": "latin-1"},
    "two colons": {"separator": "::"},
    "UTF-16": {"encoding": "utf-16"},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_row_text_and_description_of_own_files_arrives(form):
    write_own(**FORMS[form])
    how = {"field_separator": FORMS[form].get("separator", "\t")}
    if FORMS[form].get("encoding") in ("latin-1", "utf-16"):
        how["encoding"] = FORMS[form]["encoding"]
    config = Config("EXP3RT", "own", config_dict={**OWN, **how, "eval_args": {"order": "RO"}})
    split = load_split(config)
    corpus = corpus_of(split.dataset, config["description_fields"], None)
    assert (split.dataset.user_num, split.dataset.item_num) == (21, 13)
    assert "007" in split.user_tokens, "an id is no number"
    told = corpus.user_reviews("007")
    assert told and all(r.title == f"007 on {r.item}" and r.text == "Fine café." for r in told)
    (first,) = [r for r in corpus.user_reviews("000") if r.item == "m0"]
    assert first.title, "the first line of a file is a row as others"
    lines = dict(corpus.description("m3").lines)
    plot = "A ;b3" if how["field_separator"] == ";" else "A b3"
    assert lines == {"Title": "Café 3", "Plot": plot}


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", None])
def test_utf_8_may_begin_with_its_mark(encoding):
    write_own(encoding="utf-8-sig")
    config = Config("Bias", "own", config_dict={**OWN, "encoding": encoding})
    assert load_split(config).dataset.user_num == 21


def test_the_rating_column_is_learned_whatever_its_name():
    write_own()
    renamed = {key: value for key, value in OWN.items() if key != "TIME_FIELD"}
    config = Config("MF", "own", config_dict={**OWN, "MF.epochs": 2, "epochs": 2})
    assert config["LABEL_FIELD"] == config.for_model("WDL")["LABEL_FIELD"] == "stars"
    split = load_split(config)
    for name in ("Bias", "MF", "WDL"):
        model = fit(name, config, split, refit=False).model
        assert float(model.mean) == pytest.approx(split.ratings("train").mean())
    kept = Config("MF", "own", config_dict={**renamed, "LABEL_FIELD": "when"})
    assert kept["LABEL_FIELD"] == "when", "the user's own choice"
    assert config.for_model("BPR")["LABEL_FIELD"] == "label", "as in RecBole"


def test_a_sidecar_s_ids_may_have_the_converters_names(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text('{"user_id": 7, "item_id": "a", "title": null, "text": "Good."}\n\n')
    for ids in (("user_id", "item_id"), ("uid", "mid")):
        ((_, text),) = read_sidecar(file, {("7", "a")}, ids=ids)["7", "a"]
        assert text == ("", "Good.")
    for line in ('{"uid": "7", "item_id": "a"}', '["uid", "mid"]', "7"):
        file.write_text(line)
        with pytest.raises(UsageError, match=r"r\.jsonl line 1: no uid and mid;"):
            read_sidecar(file, set(), ids=("uid", "mid"))
    with pytest.raises(UsageError, match="does not map title and text to fields"):
        write_own()
        config = Config("EXP3RT", "own", config_dict={**OWN, "review_fields": "body"})
        corpus_of(load_split(config).train, {}, None)


def test_of_an_item_s_lines_the_first_counts_as_in_recbole(tmp_path):
    (tmp_path / "i.item").write_text("item_id:token\tname:token\n1\tfirst\n1\tlater\n01\tother\n")
    told = read_descriptions(tmp_path / "i.item", {"name": "Title"})
    assert {key: value.lines for key, value in told.items()} == {
        "1": (("Title", "first"),),
        "01": (("Title", "other"),),
    }
    (tmp_path / "more.item").write_text("item_id:token\tname:token\n1\tfirst\tmore\n")
    with pytest.raises(UsageError, match=r"more\.item is not a table: .* more fields than its h"):
        read_descriptions(tmp_path / "more.item", {"name": "Title"})
    with pytest.raises(UsageError, match=r"i\.item is not a table: unknown encoding: none"):
        read_descriptions(tmp_path / "i.item", {}, encoding="none")


# --- scripts against RecBole


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr("sys.argv", ["script.py"])
    recbole_exp3rt.register()


def test_a_script_of_recbole_s_reads_them_too(registered):
    from recbole.quick_start import run_recbole

    write_own(encoding="utf-8-sig", end="\r\n")
    for model in ("MF", "Bias"):
        own = {**OWN, "epochs": 2, "show_progress": False, "use_gpu": False, "encoding": "utf-8"}
        result = run_recbole(model, "own", config_dict=own)["test_result"]
        assert 0 < result["rmse"] < 3


@pytest.mark.parametrize("model", ["FM", "DeepFM"])
def test_a_model_of_recbole_s_that_learns_labels_takes_what_is_relevant(registered, model):
    """AUC of 0/1 labels: ratings from `relevant_from` on, as the data set's yaml says."""
    from recbole.quick_start import run_recbole

    settings = {"epochs": 1, "show_progress": False, "use_gpu": False}
    write_inter(Path("dataset/world/world.inter"), structured_rows(n_items=60))
    yaml = Path("dataset/world/world.yaml")
    columns = "load_col: {inter: [user_id, item_id, rating, timestamp]}\n"
    yaml.write_text(columns + "relevant_from: 3\n")
    result = run_recbole(model, "world", config_dict=settings)["test_result"]
    chosen = {**settings, "threshold": {"rating": 3}}
    assert run_recbole(model, "world", config_dict=chosen)["test_result"] == result
    yaml.write_text(columns)
    with pytest.raises(UsageError, match=rf"{model} learns labels of 0 and 1, .*give threshold="):
        prepare(model)


# --- what failed, and why


def fails(model, error, **settings):
    config = Config(model, "own", config_dict={**OWN, "eval_args": {"order": "RO"}, **settings})
    with blaming_settings(config):
        raise error


def test_a_missing_package_is_named_and_no_setting_blamed():
    write_own()
    error = ModuleNotFoundError("No module named 'dgl'", name="dgl")
    with pytest.raises(UsageError, match=r"^BPR needs the package dgl, .*install it") as raised:
        fails("BPR", error, epochs=3, embedding_size=8)
    assert "epochs" not in str(raised.value)


def test_settings_of_the_whole_run_are_not_blamed_for_what_a_model_cannot():
    write_own()
    with pytest.raises(UsageError, match=r"^BPR cannot be fitted here: KeyError: 'label'; take"):
        fails("BPR", KeyError("label"), epochs=3, train_batch_size=64)
    with pytest.raises(UsageError, match="BPR with embedding_size=8: ValueError: odd; check its"):
        fails("BPR", ValueError("odd"), epochs=3, embedding_size=8)
    with pytest.raises(UsageError, match="with train_batch_size=64: MemoryError: ; check its"):
        fails("BPR", MemoryError(), train_batch_size=64)
    with pytest.raises(KeyError):  # as usual: no user's fault
        fails("BPR", KeyError("label"))
