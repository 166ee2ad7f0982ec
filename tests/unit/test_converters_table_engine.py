"""Tables in columns: what the engine reads is what Python reads row by row."""

import csv
import io
import random

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mutated import AWKWARD, HUGE, as_json, mutated

from dataset_converters import blocks, pieces, reading
from dataset_converters.engine import Engine
from dataset_converters.guesses import Options
from dataset_converters.reading import RowReader
from dataset_converters.table import TableSource
from dataset_converters.table_reader import TableReader

COLUMNS = ("user", "item", "rating", "review", "title", "date", "helpful")
TEXTS = ("a  b", " a", "a&amp;b", "a<br>b", "a\u00a0", "\x1b[1m", 'q"\\', "é\n\n\n\nb", "\r\n", "")
DATES = {
    "iso": ("2020-02-29", "2020-02-29T01:02:03+01:00", "2020-02-29 24:00:00", "2020-02-30"),
    "words": ("12 May 2013", "May 2019", "May 5", "30 February 2019"),
    "parted": ("13/01/2020", "01/02/2020"),
    "seconds": (991526400, "991526400", 991526400.5, "1e30"),
    "days": (20200229, 20200230),
}


def rows_of(chance, count, dates):
    """Rows of a table, plain and awkward ones."""
    for n in range(count):
        row = {
            "user": f"u{n}",
            "item": chance.choice(["i1", 7, 7.0, "Ünal 3", "张三", "a b", 'i"2', "i\\n"]),
            "rating": chance.choice([1, 2.5, 5, "4", "4/5", "5 stars", True, "4,5"]),
            "review": "Good, but\nlong." if chance.random() < 0.2 else "Good.",
            "title": "So",
            "date": DATES[dates][0],
            "helpful": chance.choice([0, 3, "1,204", None, [2, 5]]),
        }
        if chance.random() < 0.3:
            row |= {"review": chance.choice(TEXTS), "title": chance.choice(TEXTS)}
        if chance.random() < 0.3:
            row["date"] = chance.choice(DATES[dates])
        if n > 40 and chance.random() < 0.2:  # a file with a zero byte at its beginning is no text
            row[chance.choice(COLUMNS)] = chance.choice(AWKWARD)
        yield row


def both(tmp_path, path, **options):
    """What the engine and what Python make of a table: rows, rejects, notes, texts."""
    source = TableSource(path, None, Options(rating_scale=(0, 5), **options))
    found = []
    for name in ("engine", "python"):
        engine = Engine(tmp_path / name)
        reader = reading.reader_of(source, engine, blocks.Progress())
        assert isinstance(reader, TableReader)
        reader = reader if name == "engine" else RowReader(source, engine)
        notes = reader.collect()
        rows = engine.sql("FROM found ORDER BY place")
        rejects = engine.sql("FROM rejects ORDER BY place")
        some = engine.places("(SELECT place FROM found WHERE place % 7 > 0)")
        texts = [row for table in reader.texts(some) for row in table.to_pylist()]
        found.append({"rows": rows, "rejects": rejects, "notes": +notes, "texts": texts})
        engine.close()
    return found


def same(tmp_path, path, least=0, **options):
    """Both readings are the same; at least `least` rows are kept."""
    ours, python = both(tmp_path, path, **options)
    for part, values in python.items():
        assert ours[part] == values, part
    assert len(python["rows"]) >= least
    return python


def cell(value):
    return "9" * 6_000 if value == HUGE else "" if value is None else str(value)[:140_000]


def as_csv(rows, mark, end="\n", quoting=csv.QUOTE_MINIMAL):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=mark, lineterminator=end, quoting=quoting)
    writer.writerow(COLUMNS)
    writer.writerows([cell(value) for value in row.values()] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


def damaged(chance, data, mark):
    """A file with bytes lost, added or exchanged, empty lines and rows of another length."""
    lines = data.split(b"\n")
    odd = [
        b'"',
        b"\r",
        b"\xff",
        b"\0",
        b",",
        b"\t",
        b"\n",
        b"\n \n",
        b'""',
        b"\n,,,\n",
        b"\xe3\x80",
    ]
    for _ in range(len(lines) // 8):
        at = chance.randrange(60, len(lines))
        cut = chance.randrange(len(lines[at]) + 1)
        lines[at] = lines[at][:cut] + chance.choice(odd) + lines[at][cut + chance.randrange(2) :]
    return b"\n".join([*lines, mark.encode() * 6])


FILES = [(",", "\n", "iso"), ("\t", "\r\n", "words"), (";", "\n", "parted"), ("|", "\n", "seconds")]


@pytest.mark.parametrize(("mark", "end", "dates"), FILES)
@pytest.mark.parametrize("size", [3_000, 16 * 2**20])
def test_the_engine_and_python_read_csv_alike(tmp_path, monkeypatch, mark, end, dates, size):
    """Quoted line feeds, stray quotation marks, other encodings, across the ends of blocks, too."""
    monkeypatch.setattr(blocks, "BLOCK", size)
    monkeypatch.setattr(blocks, "_PIECE", size // 3)
    chance = random.Random(f"{mark}{size}")
    quoting = csv.QUOTE_ALL if mark == ";" else csv.QUOTE_MINIMAL
    data = as_csv(list(rows_of(chance, 400, dates)), mark, end, quoting)
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\xef\xbb\xbf" + data)
    plain = same(tmp_path, path, least=200)
    assert plain["texts"] and plain["rejects"]
    path.write_bytes(damaged(chance, data, mark))
    assert same(tmp_path, path, least=100)["rejects"]
    path.write_bytes(data.decode().encode("latin-1", "replace")[:-3])
    same(tmp_path, path, least=100)


def test_only_rows_in_doubt_go_through_python(tmp_path, monkeypatch):
    """Rows with quoted line feeds and doubled marks are split by the engine."""
    values = ("i", 4, 'Say "x",\r\n\r\nor.', "So", "2020-01-02", 1)
    rows = [dict(zip(COLUMNS, (f"u{n}", *values), strict=True)) for n in range(50)]
    path = tmp_path / "mine.csv"
    path.write_bytes(as_csv(rows, ",") + b"short,row\n" + as_csv(rows, ",")[60:])
    source = TableSource(path, None, Options(rating_scale=(1, 5)))
    monkeypatch.setattr(blocks, "BLOCK", 1_000)
    taken = []
    one = source.table.next_row
    monkeypatch.setattr(source.table, "next_row", lambda text: taken.append(1) or one(text))
    found = list(pieces.csv_cells.cells(source.table, COLUMNS, blocks.Progress()))
    assert sum(len(cells.lines) for cells in found) >= 99
    assert len(taken) < 30, "one for the short row, and one at most for each end of a block"


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("array", [False, True])
def test_the_engine_and_python_read_json_alike(tmp_path, seed, array):
    chance = random.Random(seed)
    lines = [
        mutated(chance, row) if chance.random() < 0.2 else as_json(row)
        for row in rows_of(chance, 1_000, "iso")
    ]
    lines[5:5] = [b'{"user": "twice", "rating": 1, ' + as_json(next(rows_of(chance, 1, "iso")))[1:]]
    lines[9:9] = [b" ", b"3", b"null"]
    path = tmp_path / "mine.json"
    path.write_bytes(b"[\n" + b",\n".join(lines) + b"\n]\n" if array else b"\n".join(lines))
    same(tmp_path, path, least=500, date_order="month")


def test_values_inside_records_are_columns(tmp_path):
    row = {"author": {"id": "u", "name": "n"}, "item": "i", "ratings": {"overall": 4}, "text": "x"}
    others = [{"author.id": "v"}, {"author": {}}, {"author": None}, {"ratings": {"overall": {}}},
              {"author": {"id": {"x": 1}}}, {"ratings": 3, "ratings.overall": 2}]  # fmt: skip
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\n".join(as_json(row | more) for more in ({}, *others, {"item": 3.0})))
    columns = {"user": "author.id", "rating": "ratings.overall"}
    found = same(tmp_path, path, least=4, columns=columns)
    assert [row[1:4] for row in found["rows"]][:2] == [("u", "i", 4.0), ("v", "i", 4.0)]


def test_the_engine_and_python_read_parquet_alike(tmp_path):
    chance = random.Random(3)
    count = 300
    times = pd.to_datetime([991526400 + chance.randrange(10**8) for _ in range(count)], unit="s")
    texts = [chance.choice(["Good.", *TEXTS]) for _ in range(count)]
    some = [chance.random() < 0.1 for _ in range(count)]
    columns = {
        "user": [
            pa.array([chance.choice(["u1", " u2", "NA", "é", None]) for _ in range(count)]),
            pa.array([chance.randrange(-9, 99) for _ in range(count)], pa.int32()),
            pa.array([chance.choice([1.0, 2.5, float("nan"), 1e19]) for _ in range(count)]),
            pa.array([chance.choice("ab") for _ in range(count)]).dictionary_encode(),
            pa.array([chance.choice("ab") for _ in range(count)], pa.large_string()),
        ],
        "rating": [
            pa.array([chance.randint(-1, 9) for _ in range(count)], mask=np.array(some)),
            pa.array([chance.choice([1.5, 4.0, float("inf")]) for _ in range(count)], pa.float32()),
            pa.array([chance.choice([True, False, None]) for _ in range(count)]),
            pa.array([chance.choice(["4", "5 stars", "no", "?"]) for _ in range(count)]),
        ],
        "date": [
            pa.array(times),
            pa.array(times.tz_localize("Europe/Paris"), mask=np.array(some)),
            pa.array(times.date),
            pa.array(times.strftime("%d.%m.%Y")),
            pa.array(times.astype("int64")),
        ],
        "helpful": [
            pa.array([chance.randrange(5) for _ in range(count)]),
            pa.array([chance.choice([1.0, float("nan"), None]) for _ in range(count)]),
        ],
    }
    for number in range(5):
        table = {name: kinds[number % len(kinds)] for name, kinds in columns.items()}
        table |= {"item": pa.array([f"i{n}" for n in range(count)])}
        table |= {
            "review": pa.array(texts, mask=np.array(some)),
            "price": pa.array([{"a": 1}] * count),
        }
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table(table), path, row_group_size=70)
        same(tmp_path, path, least=30)


def test_values_of_rare_kinds_are_read_row_by_row(tmp_path):
    rows = [{"user": "u", "item": "i", "rating": {"stars": 4}, "review": "x"}] * 3
    path = tmp_path / "mine.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    options = Options(columns={"rating": "rating.stars"}, rating_scale=(1, 5))
    source = TableSource(path, None, options)
    engine = Engine(tmp_path)
    reader = reading.reader_of(source, engine, blocks.Progress())
    assert isinstance(reader, RowReader)
    reader.collect()
    assert engine.number("SELECT count(*) FROM found WHERE rating = 4") == 3
