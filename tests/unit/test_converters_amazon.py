"""One reader for the Amazon forms of 2014, 2018 and 2023."""

import gzip
import json
from pathlib import Path

import pytest

from dataset_converters.__main__ import main
from dataset_converters.amazon_book import AmazonSource
from dataset_converters.base import Dropped
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review

FIXTURES = Path(__file__).parents[1] / "fixtures"

LINE_2014 = {
    "reviewerID": "U1",
    "asin": "B1",
    "helpful": [12, 15],
    "reviewText": "Gripping.",
    "overall": 4.0,
    "summary": "Yes",
    "unixReviewTime": 991526400,
}
LINE_2023 = {
    "user_id": "U1",
    "asin": "B1-hardcover",
    "parent_asin": "B1",
    "helpful_vote": 12,
    "text": "Gripping.",
    "rating": 4.0,
    "title": "Yes",
    "timestamp": 991526400000,
}
THE_REVIEW = Review("U1", "B1", 4.0, "Gripping.", "Yes", 991526400.0, 12)


@pytest.mark.parametrize("line", [LINE_2014, LINE_2023])
@pytest.mark.parametrize("zipped", [False, True])
def test_the_forms_of_2014_and_2023_say_the_same(tmp_path, line, zipped):
    data = (json.dumps(line) + "\n").encode()
    path = tmp_path / ("r.jsonl.gz" if zipped else "r.jsonl")
    path.write_bytes(gzip.compress(data) if zipped else data)
    assert list(AmazonSource(path).reviews()) == [THE_REVIEW]


def test_the_form_of_2018(tmp_path, capsys):
    folder, out = FIXTURES / "amazon-2018", tmp_path / "books"
    arguments = ["--reviews", str(folder / "reviews.jsonl"), "--meta", str(folder / "meta.jsonl")]
    assert main(["amazon-book", *arguments, "--output_path", str(out), "--k_core", "0"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "books: 2 users, 2 items, 3 interactions, density 0.7500",
        "  dropped 1: unrated",
        "  dropped 1: malformed",
        "  dropped 1: duplicate (user, item), an earlier one",
    ]
    assert (out / "books.inter").read_text().splitlines()[1:] == [
        "U1\tB1\t5.0\t1425427200.0\t1204",
        "U1\tB2\t2.0\t1462492800.0\t0",
        "U2\tB1\t4.0\t1462492800.0\t3",
    ]
    texts = [json.loads(line) for line in (out / "books.reviews.jsonl").open(encoding="utf-8")]
    assert [(row["user_id"], row["item_id"], row["text"]) for row in texts] == [
        ("U1", "B1", "Could not put it down."),
        ("U1", "B2", ""),
        ("U2", "B1", "Twice sent,\ntwice stored & kept once."),
    ]
    assert (out / "books.item").read_text().splitlines()[1:] == [
        'B1\tThe Lamp\tBooks, Mystery\tPaper Bell Press\t"A tale of ""two"" lamps. And a bell."',
        "B2\tB2\t\t\t",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (  # 2014: a Python literal
            "{'asin': 'B1', 'title': \"Bell's\", 'categories': [['Books', 'Sea'], ['Books']]}",
            ("Bell's", "Books, Sea", "", ""),
        ),
        (  # 2023: lists, an author record
            json.dumps(
                {
                    "parent_asin": "B1",
                    "title": "Bell",
                    "categories": ["Books", "Sea"],
                    "description": ["One.", "Two."],
                    "author": {"name": "Bell House"},
                    "details": {"Author": "not this one"},
                    "store": None,
                }
            ),
            ("Bell", "Books, Sea", "Bell House", "One. Two."),
        ),
        (  # 2023 through the hub: details as a JSON string
            json.dumps(
                {
                    "parent_asin": "B1",
                    "title": "Bell",
                    "author": None,
                    "description": [],
                    "categories": [],
                    "details": '{"Author": "Bell House"}',
                }
            ),
            ("Bell", "", "Bell House", ""),
        ),
        (
            json.dumps({"parent_asin": "B1", "title": None, "store": "Bell House (Author)"}),
            ("", "", "Bell House", ""),
        ),
    ],
)
def test_metadata_of_every_age(tmp_path, line, expected):
    reviews, meta = tmp_path / "r.json", tmp_path / "m.json"
    reviews.write_text("")
    meta.write_text(line + "\nno record\n" + line.replace("B1", "B2") + "\n")
    found, unread = AmazonSource(reviews, meta).items({"B1"})
    assert unread == Dropped("no record with an item id")
    assert found[0] == "B1"
    assert tuple(found[1][k] for k in ("title", "categories", "author", "description")) == expected


def test_metadata_is_never_executed(tmp_path):
    trap = tmp_path / "sprung"
    (tmp_path / "r.json").write_text("")
    (tmp_path / "m.json").write_text(f"{{'asin': open({str(trap)!r}, 'w').name}}\n")
    source = AmazonSource(tmp_path / "r.json", tmp_path / "m.json")
    assert list(source.items({"B1", str(trap)})) == [Dropped("no record with an item id")]
    assert not trap.exists()


def test_a_broken_archive_is_named(tmp_path):
    path = tmp_path / "r.json.gz"
    path.write_bytes(gzip.compress(b"x" * 10_000)[:-12])
    with pytest.raises(UsageError, match=r"r\.json\.gz"):
        list(AmazonSource(path).reviews())


def test_a_row_of_2018_with_its_day_alone(tmp_path):
    line = {key: value for key, value in LINE_2014.items() if key != "unixReviewTime"}
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(json.dumps(line | {"reviewTime": t}) for t in ("06 3, 2001", "soon")))
    found = list(AmazonSource(path).reviews())
    assert found == [THE_REVIEW, Dropped("unreadable date")]


def test_a_piece_of_the_page_is_no_title(tmp_path):
    path = tmp_path / "m.jsonl"
    title = "var aPageStart = (new Date()).getTime();"
    path.write_text(json.dumps({"asin": "B1", "title": title, "brand": "B"}))
    ((_, values),) = AmazonSource(path, path).items({"B1"})
    assert values["title"] == "" and values["author"] == "B"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"user_id": "u", "rating": 3, "timestamp": 1}, "lacks a field for item: asin or"),
        ({"user_id": "u", "asin": "i", "stars": 3}, "rating: overall or rating; time: unixRev"),
        ({"who": "u"}, "its fields are who; for other names see `exp3rt convert table --help`"),
    ],
)
def test_fields_that_no_row_has_are_named(tmp_path, capsys, line, message):
    (tmp_path / "r.jsonl").write_text(json.dumps(line))
    files = ["--reviews", str(tmp_path / "r.jsonl"), "--output_path", str(tmp_path / "d")]
    assert main(["amazon-book", *files]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_null_fields_numbers_as_texts_marks_and_line_ends(tmp_path):
    """gzip without a suffix, a byte order mark, CRLF and empty lines."""
    rows = [LINE_2023 | {"rating": "4.0", "timestamp": "991526400000", "helpful_vote": "12"}]
    rows += [LINE_2023 | {"user_id": "U2", "title": None, "text": None, "helpful_vote": None}]
    rows += [LINE_2023 | {"user_id": None}, LINE_2023 | {"rating": None}]
    text = "\ufeff" + "\r\n\r\n".join(map(json.dumps, rows)) + "\r\n"
    (tmp_path / "reviews").write_bytes(gzip.compress(text.encode()))
    found = list(AmazonSource(tmp_path / "reviews").reviews())
    assert found == [
        THE_REVIEW,
        Review("U2", "B1", 4.0, "", "", 991526400.0, 0),
        Dropped("malformed"),
        Dropped("unrated"),
    ]
