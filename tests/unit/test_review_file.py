"""Review files: which texts are read, of JSON lines and of parquet, and from where."""

from __future__ import annotations

import json
import math
import os

import pytest

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

from recbole_exp3rt.data import review_file  # noqa: E402
from recbole_exp3rt.data.review_file import (  # noqa: E402
    JsonLines,
    Names,
    open_reviews,
    read_sidecar,
    review_file_of,
)
from recbole_exp3rt.errors import UsageError  # noqa: E402

WANTED = {("u", "i"), ("u", "j"), ("7", "i"), ("用户", "i"), ("v", "none")}
ROWS = [
    {"user_id": "u", "item_id": "i", "timestamp": 1.5, "title": "One", "text": "Fine."},
    {"user_id": "w", "item_id": "i", "timestamp": 2, "title": "Two", "text": "Of no wanted pair."},
    {"user_id": "u", "item_id": "i", "timestamp": 3, "title": None, "text": "Again."},
    {"user_id": "u", "item_id": "x", "title": "", "text": "No wanted item."},
    {"user_id": "用户", "item_id": "i", "timestamp": None, "title": "é", "text": 'A "quote"\n\t\\'},
    {"user_id": "u", "item_id": "j", "timestamp": 4, "title": "", "text": ""},
]
FOUND = {
    ("u", "i"): [(1.5, ("One", "Fine.")), (3.0, ("", "Again."))],
    ("用户", "i"): [(None, ("é", 'A "quote"\n\t\\'))],
    ("u", "j"): [(4.0, ("", ""))],
}


def told(found):
    """`found` with None for NaN, which equals nothing."""
    return {
        pair: [(None if math.isnan(time) else time, text) for time, text in texts]
        for pair, texts in found.items()
    }


def lines_of(rows, ascii_only=False) -> str:
    return "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)


def write_parquet(path, rows=ROWS, size=2):
    columns = ("user_id", "item_id", "timestamp", "title", "text")
    table = pa.table({name: [row.get(name) for row in rows] for name in columns})
    pq.write_table(table, path, compression="zstd", row_group_size=size)


@pytest.mark.parametrize("block", [1, 150, 1 << 24])
@pytest.mark.parametrize("form", ["jsonl", "ascii", "parquet"])
def test_texts_of_wanted_pairs_in_the_order_of_the_file(tmp_path, monkeypatch, form, block):
    monkeypatch.setattr(review_file, "BLOCK", block)
    monkeypatch.setattr(review_file, "BATCH", max(1, block // 100))
    monkeypatch.setattr(review_file, "KEPT", block)
    path = tmp_path / ("r.parquet" if form == "parquet" else "r.jsonl")
    if form == "parquet":
        write_parquet(path)
    else:
        path.write_text(lines_of(ROWS, form == "ascii"), encoding="utf-8")
    found = read_sidecar(path, WANTED)
    assert told(found) == FOUND
    assert list(found) == list(FOUND)
    file = open_reviews(path, Names())
    positions = [int(p) for keys in file.blocks() for p in keys.positions]
    backwards = list(file.texts(positions[::-1]))
    assert backwards == list(file.texts(positions))[::-1] and len(backwards) == len(ROWS)


def test_usual_lines_are_read_as_columns(tmp_path, monkeypatch):
    monkeypatch.delattr(JsonLines, "_rows")
    (tmp_path / "r.jsonl").write_text(lines_of(ROWS), encoding="utf-8")
    assert told(read_sidecar(tmp_path / "r.jsonl", WANTED)) == FOUND


ODD = {
    "a number as an id": '{"user_id": 7, "item_id": "i", "text": "t"}',
    "a float as an id": '{"user_id": 7.0, "item_id": "i", "text": "t"}',
    "a key twice": '{"user_id": "u", "user_id": "7", "item_id": "i", "text": "t"}',
    "half a character": '{"user_id": "7", "item_id": "i", "text": "\\ud83d t"}',
    "a time as text": '{"user_id": "7", "item_id": "i", "text": "t", "timestamp": "12"}',
    "true as a time": '{"user_id": "7", "item_id": "i", "text": "t", "timestamp": true}',
    "no JSON number": '{"user_id": "7", "item_id": "i", "text": "t", "timestamp": NaN}',
    "a huge time": '{"user_id": "7", "item_id": "i", "text": "t", "timestamp": 1e999}',
    "a list as a text": '{"user_id": "7", "item_id": "i", "text": ["t"]}',
    "other fields": '{"rating": [1, {"x": 2}], "user_id": "7", "item_id": "i", "text": "t"}',
    "an empty line": '\n{"user_id": "7", "item_id": "i", "text": "t"}\n\n',
    "a mark": '\ufeff{"user_id": "7", "item_id": "i", "text": "t"}',
    "nothing": "",
    "null as an id": '{"user_id": null, "item_id": "i", "text": "t"}',
    "spaces": '  {"user_id":"7" ,"item_id":"i","text":"t"}  \r',
}


@pytest.mark.parametrize("name", ODD)
def test_columns_and_lines_are_read_alike(tmp_path, monkeypatch, name):
    """What pyarrow reads in another way than Python, it does not read."""
    path = tmp_path / "r.jsonl"
    path.write_text(ODD[name] + "\n" + lines_of(ROWS), encoding="utf-8")
    found = told(read_sidecar(path, WANTED | {("None", "i"), ("7.0", "i")}))
    monkeypatch.setattr(JsonLines, "_columns", lambda self, lines, begins: None)
    assert found == told(read_sidecar(path, WANTED | {("None", "i"), ("7.0", "i")}))
    assert {pair: texts for pair, texts in found.items() if pair in FOUND} == FOUND


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 7 is not JSON"),
        ('{"user_id": "u"}', "line 7: no user_id and item_id"),
        ('["user_id", "item_id"]', "line 7: no user_id and item_id"),
        (b'{"user_id": "u", "item_id": "i", "text": "\xff"}', "line 7 is not UTF-8"),
        ('{"user_id": "u", "item_id": "i", "text": "a\tb"}', "line 7 is not JSON"),
    ],
)
def test_a_line_that_is_no_review_is_named(tmp_path, line, reason):
    path = tmp_path / "r.jsonl"
    path.write_bytes(lines_of(ROWS).encode() + (line if isinstance(line, bytes) else line.encode()))
    with pytest.raises(UsageError, match=rf"r\.jsonl {reason}"):
        read_sidecar(path, WANTED)


def test_own_names_of_fields_and_of_times(tmp_path):
    rows = [{"uid": "7", "mid": "i", "when": 5, "body": "t"}]
    mixed = [*rows, {"user_id": "u", "item_id": "i", "timestamp": 6, "body": "s"}]
    (tmp_path / "r.jsonl").write_text(lines_of(mixed))
    how = {"ids": ("uid", "mid"), "time_field": "when", "fields": {"text": "body"}}
    found = read_sidecar(tmp_path / "r.jsonl", WANTED, **how)
    assert found == {("7", "i"): [(5.0, ("", "t"))], ("u", "i"): [(6.0, ("", "s"))]}
    pq.write_table(pa.Table.from_pylist([{**rows[0], "uid": 7}]), tmp_path / "r.parquet")
    assert read_sidecar(tmp_path / "r.parquet", WANTED, **how) == {("7", "i"): [(5.0, ("", "t"))]}
    with pytest.raises(UsageError, match="no user_id and item_id"):
        read_sidecar(tmp_path / "r.parquet", WANTED)


def test_a_file_that_changes_or_is_no_parquet_or_is_there_twice(tmp_path):
    write_parquet(tmp_path / "d.reviews.parquet")
    assert review_file_of(tmp_path, "d").suffix == ".parquet"
    assert review_file_of(tmp_path, "d", "own.jsonl").name == "own.jsonl"
    (tmp_path / "d.reviews.jsonl").write_text(lines_of(ROWS))
    with pytest.raises(UsageError, match=r"d\.reviews\.jsonl and d\.reviews\.parquet are both"):
        review_file_of(tmp_path, "d")
    for path in tmp_path.iterdir():
        file = open_reviews(path, Names())
        os.utime(path, (1, 1))
        with pytest.raises(UsageError, match="has changed since the run began"):
            list(file.texts([0]))
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(UsageError, match=r"bad\.parquet is not parquet"):
        read_sidecar(tmp_path / "bad.parquet", WANTED)
    assert review_file_of(tmp_path, "none").suffix == ".jsonl"
