"""Broken, odd and hostile input: no wrong numbers, each row kept or counted, errors in one line."""

import csv
import gzip
import json
import tracemalloc

import pytest
import yaml
from mutated import FORMS
from mutated import convert as convert_mutated

from dataset_converters import read
from dataset_converters.__main__ import main
from dataset_converters.amazon_book import AmazonSource
from dataset_converters.base import Dropped
from dataset_converters.imdb import ImdbSource
from recbole_exp3rt.data.review_file import read_sidecar

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
    "vote": "1,204",
    "summary": "So",
    "reviewText": "Good.",
}


def read_amazon(tmp_path, *lines, end="\n"):
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (tmp_path / "r.jsonl").write_text(end.join(written), encoding="utf-8", newline="")
    return list(AmazonSource(tmp_path / "r.jsonl").reviews())


def convert_amazon(tmp_path, *rows, options=()):
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = ["--reviews", str(tmp_path / "r.jsonl"), "--output_path", str(tmp_path / "d")]
    return main(["amazon-book", *files, "--k_core", "0", "--overwrite", *options])


@pytest.mark.parametrize("row", [OLD | {"asin": 0}, NEW | {"parent_asin": 0}, NEW | {"user_id": 0}])
def test_zero_is_an_id(tmp_path, row):
    (review,) = read_amazon(tmp_path, row)
    assert "0" in (review.user, review.item)


@pytest.mark.parametrize("time", [991526400, 991526400000, "991526400", 991526400.0])
@pytest.mark.parametrize(("row", "key"), [(OLD, "unixReviewTime"), (NEW, "timestamp")])
def test_seconds_and_milliseconds_are_told_apart(tmp_path, row, key, time):
    assert read_amazon(tmp_path, row | {key: time})[0].timestamp == 991526400


@pytest.mark.parametrize(
    "change",
    [
        *({"user_id": True}, {"user_id": [1]}, {"parent_asin": {"a": 1}}, {"user_id": 1.5}),
        *({"rating": "٣"}, {"rating": True}, {"rating": "1_0"}, {"rating": "４"}),
        *({"text": ["Good."]}, {"title": {"a": 1}}),
        {"timestamp": 1e300},
        {"timestamp": "٩٩١٥٢٦٤٠٠٠٠٠"},
    ],
)
def test_a_value_of_another_kind_drops_its_row(tmp_path, change):
    dropped, kept = read_amazon(tmp_path, NEW | change, NEW)
    assert isinstance(dropped, Dropped) and kept.user == "U1"


@pytest.mark.parametrize("vote", [1e300, 1e19, "1e19", [], {}, "٣", -2, True, "9" * 5000])
def test_votes_that_cannot_be_are_none(tmp_path, vote):
    assert read_amazon(tmp_path, OLD | {"vote": vote})[0].helpful == 0


@pytest.mark.parametrize(
    "line",
    [
        "{[1]: 2}",
        "{{}: 1}",
        '{"user_id": ' + "9" * 6000 + "}",
        "[" * 100_000,
        '{"a":' * 50_000,
        json.dumps(NEW)[:-9] + "\r",
        "-" * 50_000 + "1",
    ],
)
def test_a_line_that_is_no_record_costs_itself_alone(tmp_path, line):
    assert [type(row).__name__ for row in read_amazon(tmp_path, NEW, line, NEW)] == [
        *("Review", "Dropped", "Review")
    ]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_an_array_holds_all_its_rows(tmp_path, indent, mark):
    rows = [NEW | {"user_id": f"U{n}", "text": 'a "[{,' + "\\" * n} for n in range(300)]
    found = read_amazon(tmp_path, mark + json.dumps(rows, indent=indent))
    assert [row.user for row in found] == [row["user_id"] for row in rows]
    assert found[3].text == 'a "[{,\\\\\\'


def test_a_broken_element_of_an_array_costs_itself_alone(tmp_path):
    good = json.dumps(NEW)
    elements = [good, good.replace('"So"', '"So'), good, "3", good[:-1], good]
    found = read_amazon(tmp_path, "[" + ",\n".join(elements) + "\n]\n")
    assert [type(row).__name__ for row in found] == [
        *("Review", "Dropped", "Review", "Dropped", "Dropped", "Review")
    ]


def test_another_scale_is_refused_with_advice_and_can_be_told(tmp_path, capsys):
    rows = [OLD | {"reviewerID": f"U{n}", "overall": n + 1} for n in range(10)]
    assert convert_amazon(tmp_path, *rows) == 2
    said = capsys.readouterr().err
    assert "5 of 10 ratings (50%) are outside the scale 1–5, from 1 to 10" in said
    assert "--rating_scale LOWEST HIGHEST" in said and said.count("\n") == 1
    assert not (tmp_path / "d").exists()
    assert convert_amazon(tmp_path, *rows, options=["--rating_scale", "1", "10"]) == 0
    written = yaml.safe_load((tmp_path / "d/d.yaml").read_text())
    assert written["rating_scale"] == [1, 10]
    assert (written["relevant_from"], written["recommend_from"]) == (8, 6)
    assert "10 interactions" in capsys.readouterr().out


def test_a_scale_of_half_levels(tmp_path, capsys):
    rows = [OLD | {"reviewerID": f"U{n}", "overall": n / 2} for n in range(1, 11)]
    half = [*rows * 3, OLD | {"overall": 3.2}]
    assert convert_amazon(tmp_path, *half, options=["--rating_scale", "0.5", "5", "0.5"]) == 0
    written = yaml.safe_load((tmp_path / "d/d.yaml").read_text())
    assert written["rating_scale"] == {"lowest": 0.5, "highest": 5, "step": 0.5}
    assert "dropped 1: rating outside 0.5–5 by 0.5" in capsys.readouterr().out
    whole = [OLD | {"reviewerID": "a", "overall": 3.5}, OLD]
    assert convert_amazon(tmp_path, *whole) == 0
    assert "noted 1: rating between two levels of 1–5" in capsys.readouterr().out


@pytest.mark.parametrize(
    "told", ["5 1", "1", "0.5 5", "1 5 0", "1 5 3", "nan 5", "1 inf", "1 2 3 4"]
)
def test_numbers_that_make_no_scale(tmp_path, capsys, told):
    assert convert_amazon(tmp_path, OLD, options=["--rating_scale", *told.split()]) == 2
    assert "is not LOWEST HIGHEST [STEP]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "ids",
    [
        ["1", "1.0", "01", "1e0", "-1"],
        ["a,b", '"', "it's", "é", "=1+1", "#"],
        [" padded ", "in side"],
    ],
)
def test_ids_stay_what_they_are(tmp_path, ids, capsys):
    assert convert_amazon(tmp_path, *[OLD | {"reviewerID": i, "asin": i} for i in ids]) == 0
    with (tmp_path / "d/d.inter").open(encoding="utf-8", newline="") as file:
        found = [row["user_id:token"] for row in csv.DictReader(file, delimiter="\t")]
    assert sorted(found) == sorted(i.strip() for i in ids)
    assert ("noted 1: spaces around an id" in capsys.readouterr().out) == (" padded " in ids)


@pytest.mark.parametrize("odd", ["x" * 140_000, "a\tb", "a\nb", "", "[PAD]", "NA", "u\ud83d", "\0"])
def test_ids_that_recbole_would_not_give_back_are_counted(tmp_path, capsys, odd):
    assert convert_amazon(tmp_path, OLD | {"reviewerID": odd}, OLD) == 0
    out = capsys.readouterr().out
    assert "1 interactions" in out and "dropped 1: unusable id" in out


def test_half_a_character_is_replaced_and_counted(tmp_path, capsys):
    (tmp_path / "m.jsonl").write_text('{"asin": "B1", "title": "T\\ud83d"}\n"B1"\n')
    rows = OLD | {"reviewText": "Fun \ud83d\n"}, OLD | {"reviewerID": "U2", "summary": "\udc00"}
    assert convert_amazon(tmp_path, *rows, options=["--meta", str(tmp_path / "m.jsonl")]) == 0
    out = capsys.readouterr().out
    assert "noted 3: half a character" in out
    assert "noted 1: metadata row left out: no record with an item id" in out
    lines = (tmp_path / "d/d.reviews.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["Fun \ufffd", "Good."]
    assert "T\ufffd" in (tmp_path / "d/d.item").read_text(encoding="utf-8")


def test_metadata_of_any_kind_ends_nothing(tmp_path):
    deep = []
    for _ in range(400):
        deep = [deep]
    odd = {"title": {"a": 1}, "categories": deep, "author": 3, "details": "text", "store": ["S"]}
    (tmp_path / "m.jsonl").write_text(json.dumps({"asin": "B1", **odd}))
    source = AmazonSource(tmp_path / "m.jsonl", tmp_path / "m.jsonl")
    ((_, values),) = source.items({"B1"})
    assert values == {"title": "", "categories": "", "author": "S", "description": ""}


@pytest.mark.parametrize("start", [b'{"user_id": "', b"[{"])
def test_a_line_bomb_ends_in_one_line_and_little_memory(tmp_path, capsys, start):
    bomb = tmp_path / "bomb.jsonl.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(64):
            file.write(b"a" * 2**20)
    tracemalloc.start()
    assert main(["amazon-book", "--reviews", str(bomb), "--output_path", str(tmp_path / "d")]) == 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * read.LONGEST_LINE
    said = capsys.readouterr().err
    assert "is longer than 4,194,304 bytes" in said and said.count("\n") == 1


HEADER = '"username","rating","helpful","total","date","title","review"\r\n'


def imdb_row(user, text='"Good."', title='"So"'):
    return f'"{user}","8","1,093","2","12 May 2013",{title},{text}\r\n'


@pytest.mark.parametrize(
    "broken",
    [
        imdb_row("b", text='"Good.'),
        imdb_row("b", text='"Good.""'),
        imdb_row("b", text='Good."'),
        imdb_row("b", text='Two\nlines."'),
        imdb_row("b", title='"So'),
        imdb_row("b", title='So\n"'),
        imdb_row('b"x'),
        imdb_row("b").removeprefix('"'),
        imdb_row("b").replace('b"', "b"),
        imdb_row("b").replace('"8"', '"٨"'),
        imdb_row("b").replace('"12 May', '"١٢ May'),
    ],
)
def test_a_broken_imdb_row_costs_itself_alone(tmp_path, broken):
    rows = imdb_row("a") + broken + imdb_row("c", text='"He said ""no"".\nTwice, 8, 3."')
    (tmp_path / "Film 1999.csv").write_text(HEADER + rows, encoding="utf-8", newline="")
    found = list(ImdbSource(tmp_path).reviews())
    kept = [row.user for row in found if not isinstance(row, Dropped)]
    assert kept in (["a", "c"], ["a", "b", "c"]) and len(found) == 3
    assert found[2].text == 'He said "no".\nTwice, 8, 3.'


def test_topk_says_only_what_it_was_told(tmp_path):
    for name in ("user", "item"):
        (tmp_path / f"{name}_list.txt").write_text(f"org_id remap_id\n{name}A 0\n{name}B 1\n")
    (tmp_path / "train.txt").write_text("0 0 1\n")
    (tmp_path / "test.txt").write_text("1 0\n")
    arguments = ["exp3rt", "--part", "topk", "--input_path", str(tmp_path)]
    assert main([*arguments, "--output_path", str(tmp_path / "d")]) == 0
    written = yaml.safe_load((tmp_path / "d/d.yaml").read_text())
    assert not {"item_word", "rating_scale", "description_fields"} & set(written)
    told = ["--item_word", "book", "--rating_scale", "1", "5"]
    assert main([*arguments, "--output_path", str(tmp_path / "e"), *told]) == 0
    written = yaml.safe_load((tmp_path / "e/e.yaml").read_text())
    assert written["item_word"] == "book" and written["rating_scale"] == [1, 5]


def test_a_number_of_topk_that_names_two_ids_names_none(tmp_path, capsys):
    (tmp_path / "user_list.txt").write_text("userA 0\nuserB 1\nuserC 1\n")
    (tmp_path / "item_list.txt").write_text("org_id remap_id\nitemA 0\n")
    (tmp_path / "train.txt").write_text("0 0\n1 0\n")
    (tmp_path / "test.txt").write_text("0 0\n")
    arguments = ["exp3rt", "--part", "topk", "--input_path", str(tmp_path)]
    assert main([*arguments, "--output_path", str(tmp_path / "d")]) == 0
    assert "dropped 1: malformed" in capsys.readouterr().out


def test_a_full_disk_ends_in_one_line_and_leaves_nothing(tmp_path, small_disk, capsys):
    disk, _ = small_disk
    rows = [OLD | {"reviewerID": f"U{n}", "reviewText": "word " * 400} for n in range(300)]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = ["--reviews", str(tmp_path / "r.jsonl"), "--output_path", str(disk / "d")]
    assert main(["amazon-book", *files, "--k_core", "0"]) == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said and said.count("\n") == 1
    assert not list(disk.iterdir())


@pytest.mark.parametrize("form", FORMS)
def test_each_of_200_mutated_rows_is_kept_or_counted(tmp_path, form):
    """The long form is benchmarks/fuzz_converters.py."""
    assert sum(convert_mutated(form, 7, 200, tmp_path)) == 200


def test_half_a_character_in_a_sidecar_is_replaced(tmp_path):
    row = {"user_id": "u", "item_id": "i", "title": "So \udc00", "text": "Fun \ud83d"}
    (tmp_path / "d.reviews.jsonl").write_text(json.dumps(row))
    ((_, texts),) = read_sidecar(tmp_path / "d.reviews.jsonl", {("u", "i")})["u", "i"]
    assert texts == ("So \ufffd", "Fun \ufffd")
