"""The per-movie CSV form, with the traps of the real files."""

import csv
import json

import pytest

from dataset_converters import imdb
from dataset_converters.__main__ import main
from dataset_converters.cleaning import Dropped
from dataset_converters.imdb import ImdbSource
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review

HEADER = ["username", "rating", "helpful", "total", "date", "title", "review"]
ROW = ["kim_42", "8", "1,093", "1,127", "30 January 2019", " A title!\n", "Good.<br/><br/>Long."]


def movie(folder, name, *rows):
    folder.mkdir(exist_ok=True, parents=True)
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([HEADER, *rows])


def test_a_row_becomes_a_review(tmp_path):
    movie(tmp_path, "Alpha 1999", ROW)
    assert list(ImdbSource(tmp_path).reviews()) == [
        Review(
            user="kim_42",
            item="Alpha 1999",
            rating=8,
            text="Good.\n\nLong.",
            title="A title!",
            timestamp=1548806400,  # 30 January 2019, 00:00 UTC
            helpful=1093,
        )
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([*ROW[:1], "Null", *ROW[2:]], "unrated"),
        (["a stray", "row"], "malformed"),
        ([*ROW[:1], "eight", *ROW[2:]], "malformed"),
        ([*ROW[:4], "January 2019", *ROW[5:]], "unreadable date"),
        ([*ROW[:4], "31 February 2019", *ROW[5:]], "unreadable date"),
    ],
)
def test_what_cannot_be_used_is_dropped_alone(tmp_path, row, reason):
    movie(tmp_path, "Alpha 1999", row, ROW)
    first, second = ImdbSource(tmp_path).reviews()
    assert first.reason == reason
    assert second.user == "kim_42"


def test_a_movie_goes_by_its_metadata_or_else_by_its_files_name(tmp_path):
    movie(tmp_path / "csv", "Alpha_ The Return 1999", ROW)
    movie(tmp_path / "csv", "Le\u0301on 2001", ROW)  # the accent as some file systems write it
    line = {"file": "L\u00e9on 2001.csv", "tconst": "tt1", "title": "L\u00e9on", "year": 2001}
    line |= {"genres": "Drama", "directors": "D", "cast": "C", "plot": "P"}
    (tmp_path / "movie_metadata.jsonl").write_text(json.dumps(line) + "\n")
    source = ImdbSource(tmp_path)  # finds the folder with the CSV files below
    assert [row.item for row in source.reviews()] == ["Alpha_ The Return 1999", "tt1"]
    items = dict(source.items({"Alpha_ The Return 1999", "tt1"}))
    assert items["Alpha_ The Return 1999"]["title"] == "Alpha: The Return (1999)"
    assert items["tt1"] == {
        "title": "L\u00e9on (2001)",
        "genres": "Drama",
        "directors": "D",
        "cast": "C",
        "description": "P",
    }


def test_a_broken_metadata_line_is_named(tmp_path):
    movie(tmp_path, "Alpha 1999", ROW)
    (tmp_path / "m.jsonl").write_text('{"file": "Alpha 1999.csv"}\n{"title": "no file"}\n')
    with pytest.raises(UsageError, match="line 2"):
        ImdbSource(tmp_path, tmp_path / "m.jsonl")


def test_a_file_of_something_else_is_counted_and_not_fatal(tmp_path, capsys):
    movie(tmp_path / "in", "Alpha 1999", ROW)
    (tmp_path / "in" / "links.csv").write_text("a,b\nc,d\n")
    out = tmp_path / "out"
    arguments = ["imdb", "--input_path", str(tmp_path / "in"), "--output_path", str(out)]
    assert main([*arguments, "--k_core", "0"]) == 0
    assert capsys.readouterr().out == (
        "out: 1 users, 1 items, 1 interactions, density 1.0000\n  dropped 2: malformed\n"
    )


def test_columns_that_are_missing_are_named(tmp_path):
    (tmp_path / "Film 1999.csv").write_text('"name","rating","date"\n"a","8","1 May 2019"\n')
    message = "lacks the column username, helpful, title, review; its first line has name, rating"
    with pytest.raises(UsageError, match=message):
        ImdbSource(tmp_path)
    (tmp_path / "Gilm 1999.csv").write_text(",".join(imdb.COLUMNS) + "\n")
    assert list(ImdbSource(tmp_path).reviews()) == [Dropped("malformed")] * 2
