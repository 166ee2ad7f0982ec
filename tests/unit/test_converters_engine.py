"""The engine under the converters: blocks, forms, rejects, sidecars, memory."""

import csv
import gzip
import json
import random

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mutated import AWKWARD, as_json, mutated

from dataset_converters import amazon_book, blocks, reading, watch
from dataset_converters.__main__ import main
from dataset_converters.amazon_book import AmazonSource
from dataset_converters.cleaning import Dropped, usable
from dataset_converters.engine import Engine, Limits, core_of
from dataset_converters.read import records
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review

NEW = {
    "user_id": "U1",
    "parent_asin": "B1",
    "rating": 4.0,
    "timestamp": 991526400000,
    "title": "So",
    "text": "Good.",
    "helpful_vote": 2,
}
OLD = {
    "reviewerID": "U1",
    "asin": "B1",
    "overall": 4.0,
    "unixReviewTime": 991526400,
    "helpful": [3, 4],
    "summary": "So",
    "reviewText": "Good.",
}
NAMES = ["user_id", "item_id", "title", "text"]


def packed(path, data):
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = pa.compress(data, "zstd", asbytes=True)
    path.write_bytes(data)
    return path


def convert(tmp_path, *files, options=()):
    command = ["amazon-book", "--reviews", *map(str, files), "--output_path", str(tmp_path / "d")]
    return main([*command, "--k_core", "0", "--unseen_users", "0", "--overwrite", *options])


def interactions(tmp_path):
    with (tmp_path / "d/d.inter").open(encoding="utf-8", newline="") as file:
        return [list(row.values()) for row in csv.DictReader(file, delimiter="\t")]


def texts(tmp_path):
    with (tmp_path / "d/d.reviews.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def odd_rows(count, seed):
    """Rows of both forms, plain and awkward ones."""
    chance = random.Random(seed)
    for n in range(count):
        base = chance.choice([NEW, OLD])
        row = base | {("user_id" if base is NEW else "reviewerID"): f"u{n}"}
        key = chance.choice(list(row))
        text = chance.choice(
            ["a  b", " a", "a&amp;b", "a<br>b", "a\u00a0", "\x1b[1m", 'q"\\', "é\n\n\n\nb"]
        )
        if chance.random() < 0.3:
            row |= {"title": text, "text": text, "summary": text, "reviewText": text}
        if chance.random() < 0.4:
            yield as_json(row | {key: chance.choice(AWKWARD)})
        else:
            yield mutated(chance, row) if chance.random() < 0.3 else as_json(row)


@pytest.mark.parametrize("seed", range(3))
def test_the_engine_and_python_read_every_line_alike(tmp_path, seed):
    """What a form reads by itself is what the source's own reading of a record says."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\n".join(odd_rows(1_500, seed)) + b"\n")
    source = AmazonSource(path)
    expected, reasons = {}, {}
    for number, found in enumerate(records(path), start=1):
        review = amazon_book.review(found)
        review = usable(review)[0] if isinstance(review, Review) else review
        (reasons if isinstance(review, Dropped) else expected)[number] = review
    engine = Engine(tmp_path)
    reader = reading.reader_of(source, engine, blocks.Progress())
    reader.collect()
    found = engine.sql('SELECT place, "user", item, rating, timestamp, helpful FROM found')
    assert {row[0]: row[1:] for row in found} == {
        n: (r.user, r.item, r.rating, r.timestamp, r.helpful) for n, r in expected.items()
    }
    rejects = dict(engine.sql("SELECT place, reason FROM rejects"))
    assert rejects == {n: dropped.reason for n, dropped in reasons.items()}
    places = engine.places("found")
    read = [row for table in reader.texts(places) for row in table.to_pylist()]
    assert [tuple(row.values()) for row in read] == [
        (n, r.user, r.item, r.title, r.text) for n, r in sorted(expected.items())
    ]


def test_the_engine_and_python_find_the_same_metadata(tmp_path):
    chance = random.Random(5)
    ids = ["i1", "i2", 3, "", None, " i4 ", "é5", ["i1"], "i6"]
    rows = [{"parent_asin": chance.choice(ids), "asin": chance.choice(ids), "title": f"T{n}"}
            for n in range(300)]  # fmt: skip
    lines = [as_json(row) if chance.random() < 0.8 else mutated(chance, row) for row in rows]
    (tmp_path / "m.jsonl").write_bytes(b"\n".join([*lines, b"{'asin': 'i1', 'title': 'old'}"]))
    (tmp_path / "r.jsonl").write_text("")
    source = AmazonSource(tmp_path / "r.jsonl", tmp_path / "m.jsonl")
    for wanted in ({"i1", "3", "i4"}, {"é5"}, set()):
        engine = Engine(tmp_path)
        found = list(reading.items_of(source, engine, wanted, blocks.Progress()))
        assert found == list(source.items(wanted))
        assert found or not wanted


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_blocks_hold_every_line_once_whatever_their_size(tmp_path, monkeypatch, ending):
    lines = [f"{n} é{'x' * (n % 50)}" for n in range(500)]
    data = "\n".join(["", *lines[:250], "", *lines[250:]]).encode() + b"\nbroken \xff"
    path = packed(tmp_path / f"r{ending}", data)
    for size in (100, 1_000, 2**20):
        monkeypatch.setattr(blocks, "BLOCK", size)
        monkeypatch.setattr(blocks, "_PIECE", size // 3)
        found = list(blocks.joined(blocks.blocks([path, path])))
        once = [line.rstrip("\n") for _, line in found[: len(found) // 2]]
        assert once == [*lines, "broken \ufffd"]
        places = [blocks.file_and_line(place) for place, _ in found]
        assert places[0] == (0, 2) and places[250] == (0, 253) and places[501] == (1, 2)
        assert len(found) == 2 * 501


def test_several_files_patterns_and_packings_are_one_data_set(tmp_path):
    rows = [NEW | {"user_id": f"U{n}"} for n in range(9)]
    data = ["\n".join(map(json.dumps, rows[n::3])).encode() for n in range(3)]
    packed(tmp_path / "a.jsonl", data[0])
    packed(tmp_path / "b.jsonl.gz", data[1])
    packed(tmp_path / "c.json.zst", b"[" + data[2].replace(b"\n", b",\n") + b"]\n")
    assert convert(tmp_path, tmp_path / "a.jsonl", tmp_path / "[bc].json*") == 0
    assert [row[0] for row in interactions(tmp_path)] == [f"U{n}" for n in range(9)]
    assert [row["user_id"][1] for row in texts(tmp_path)] == list("036147258")


def test_rejected_rows_are_named_by_file_line_and_reason(tmp_path, capsys):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    rows = [NEW, "", "no row", NEW | {"rating": None}, NEW | {"user_id": "NA"}, NEW | {"rating": 9}]
    rows += [NEW | {"user_id": f"V{n}"} for n in range(20)]
    first.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    second.write_text(json.dumps(NEW))
    options = ["--rejects", str(tmp_path / "rejects.csv"), "--k_core", "2"]
    assert convert(tmp_path, first, second, options=options) == 2  # nobody has two rows
    assert not (tmp_path / "rejects.csv").exists()
    assert convert(tmp_path, first, second, options=options[:2]) == 0
    lines = list(csv.reader((tmp_path / "rejects.csv").open(newline="")))
    assert lines[0] == ["file", "line", "reason"]
    found = [(file == str(second), int(line), reason[:9]) for file, line, reason in lines[1:]]
    assert found == [
        (False, 1, "duplicate"),
        (False, 3, "malformed"),
        (False, 4, "unrated"),
        (False, 5, "unusable "),
        (False, 6, "rating ou"),
    ]
    said = capsys.readouterr().out
    assert said.count("dropped 1:") == 5
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_rejects_of_csv_name_the_first_line_of_a_row(tmp_path):
    good = '"a","8","1","2","12 May 2013","So","Two\nlines."\n'
    text = '"username","rating","helpful","total","date","title","review"\n'
    text += good + good.replace("8", "Null").replace('"a"', '"b"') + good.replace('"a"', '"c"')
    (tmp_path / "Film 1999.csv").write_text(text + "stray,row\n")
    command = ["imdb", "--input_path", str(tmp_path), "--output_path", str(tmp_path / "d")]
    options = ["--k_core", "2", "--rejects", str(tmp_path / "r.csv")]
    assert main([*command, "--k_core", "0", *options[2:]]) == 0
    lines = [row[1:] for row in csv.reader((tmp_path / "r.csv").open(newline=""))]
    assert lines[1:] == [["4", "unrated"], ["8", "malformed"]]


def test_a_sidecar_is_parquet_where_it_is_asked_for_or_large(tmp_path, monkeypatch):
    rows = [NEW | {"user_id": f"U{n}", "text": f"<br>{n} &amp; more"} for n in range(5)]
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert convert(tmp_path, path) == 0
    lines = texts(tmp_path)
    for options in (["--sidecar", "parquet"], []):
        monkeypatch.setattr("dataset_converters.sidecar.MANY", 4)
        assert convert(tmp_path, path, options=options) == 0
        assert not (tmp_path / "d/d.reviews.jsonl").exists()
        table = pq.read_table(tmp_path / "d/d.reviews.parquet")
        assert table.column_names == ["user_id", "item_id", "timestamp", "title", "text"]
        assert table.select(NAMES).to_pylist() == lines
        assert table["timestamp"].to_pylist() == [991526400.0] * 5


def test_what_does_not_fit_into_memory_goes_to_the_disk_and_changes_nothing(tmp_path):
    counts = {}
    for limit in ("1GB", "40MB"):
        engine = Engine(tmp_path / limit, Limits(limit, threads=1))
        engine.sql(
            "INSERT INTO found SELECT range, hash(n % 90_000)::VARCHAR, hash(n % 701)::VARCHAR, "
            "1 + n % 5, n % 11, 0 FROM (SELECT range, range % 280_000 AS n FROM range(300_000))"
        )
        engine.code()
        spilled = engine.number("SELECT count(*) FROM duckdb_temporary_files()")
        assert bool(spilled) == (limit == "40MB")
        steps = engine.latest_of_each_pair(), engine.k_core(3)
        counts[limit] = *steps, engine.number("SELECT sum(place * u % 1_000_003) FROM core")
        engine.close()
    assert counts["1GB"] == counts["40MB"]
    assert counts["1GB"][0] == 20_000


def test_a_memory_limit_that_is_none_is_refused(tmp_path, capsys):
    (tmp_path / "r.jsonl").write_text(json.dumps(NEW))
    assert convert(tmp_path, tmp_path / "r.jsonl", options=["--memory_limit", "much"]) == 2
    assert "memory_limit=much is no amount of memory; take 1GB" in capsys.readouterr().err
    with pytest.raises(UsageError):
        Limits("x")


def test_a_core_by_numbers_is_that_of_the_words():
    users, items = pd.Series(list("aabbcc")), pd.Series(list("xyxyxz"))
    assert core_of(users, items, 2).tolist() == [True, True, True, True, False, False]
    assert core_of(users, items, 0).all()
    assert not core_of(users, items, 4).any()


def test_progress_is_share_rate_and_time_left():
    assert watch.said(25, 100, 1_000, 2.0) == ": 25%, 1,000 rows, 500 a second, 0:00:06 left"
    assert watch.said(0, 100, 0, 0.0) == ""
