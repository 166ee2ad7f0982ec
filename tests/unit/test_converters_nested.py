"""Reviews inside the records of their users or items."""

import csv
import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_converters.__main__ import main
from dataset_converters.nested import shape_of
from dataset_converters.rows import Table

REVIEWS = [
    {"user_id": f"u{u}", "item_id": f"i{i}", "rating": 1 + (u + 2 * i) % 5, "text": f"On {u}, {i}."}
    for u in range(4)
    for i in range(5)
]


def inner(review, *without):
    return {key: value for key, value in review.items() if key not in without}


def by(side, **more):
    """One record a user or an item, with its reviews inside."""
    ids = dict.fromkeys(row[side] for row in REVIEWS)
    return [
        {side: one, **more, "reviews": [inner(r, side) for r in REVIEWS if r[side] == one]}
        for one in ids
    ]


USERS, ITEMS = by("user_id", name="N", average_rating=3.3), by("item_id", title="T", rating=7.1)
MAPPING = {user["user_id"]: user["reviews"] for user in USERS}
LITERALS = "\n".join(map(repr, USERS))
DEEP = {
    user["user_id"]: {row["item_id"]: inner(row, "item_id") for row in user["reviews"]}
    for user in USERS
}
FORMS = {
    "an array of users": json.dumps(USERS),
    "an array over several lines": json.dumps(USERS, indent=2),
    "users in lines": "\n".join(map(json.dumps, USERS)),
    "lines with a mark, empty lines and CRLF": "\ufeff" + "\r\n\r\n".join(map(json.dumps, USERS)),
    "users one after the other": "\n".join(json.dumps(user, indent=1) for user in USERS),
    "users in a record": json.dumps({"users": USERS}),
    "users in a record over several lines": json.dumps({"count": 4, "users": USERS}, indent=1),
    "a mapping": json.dumps(MAPPING),
    "a mapping over several lines": json.dumps(MAPPING, indent=1),
    "a mapping of mappings": json.dumps(DEEP),
    "Python literals": LITERALS,
    "an array of items": json.dumps(ITEMS),
    "items in lines": "\n".join(map(json.dumps, ITEMS)),
    "all reviews in a record": json.dumps({"reviews": REVIEWS}),
    "a mapping of reviews": json.dumps({f"r{n}": row for n, row in enumerate(REVIEWS)}),
}


def convert(path, *options, code=0):
    arguments = ["table", str(path), "--output_path", str(path.parent / "d"), "--k_core", "0"]
    assert main([*arguments, "--overwrite", *options]) == code


def rows(folder):
    with (folder / "d" / "d.inter").open(encoding="utf-8", newline="") as file:
        return {tuple(row.values())[:3] for row in csv.DictReader(file, delimiter="\t")}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_rows(tmp_path, form):
    packed = gzip.compress(FORMS[form].encode())
    (tmp_path / "r").write_bytes(packed if len(form) % 2 else FORMS[form].encode())
    convert(tmp_path / "r", "--time", "none")
    assert rows(tmp_path) == {
        (row["user_id"], row["item_id"], f"{row['rating']}.0") for row in REVIEWS
    }
    texts = (tmp_path / "d" / "d.reviews.jsonl").read_text().splitlines()
    for text in map(json.loads, texts):
        assert text["text"] == f"On {text['user_id'][1:]}, {text['item_id'][1:]}."


def test_fields_of_an_item_describe_it_and_are_not_those_of_a_review(tmp_path, capsys):
    review = {"reviewer": "ann", "stars": 4, "title": "So", "body": "Good.", "date": "2020-01-02"}
    item = {"asin": "B1", "title": "The Lamp", "genres": ["Drama"], "rating": 9.1}
    records = [item | {"reviews": [review, review | {"reviewer": "bob", "stars": 5}]}]
    (tmp_path / "r.json").write_text(json.dumps(records, indent=2))
    convert(tmp_path / "r.json", "--rating_scale", "1", "5")
    assert {row[2] for row in rows(tmp_path)} == {"4.0", "5.0"}
    assert (tmp_path / "d" / "d.item").read_text().splitlines()[1] == "B1\tThe Lamp\tDrama"
    out = capsys.readouterr().out
    assert "JSON, the reviews of each item in reviews" in out and "title: title" in out


def test_broken_and_empty_records_are_counted_one_by_one(tmp_path, capsys):
    lines = [json.dumps(USERS[0]), json.dumps({"user_id": "none", "reviews": []})]
    lines += [json.dumps({"user_id": "null", "reviews": None}), json.dumps({"user_id": "absent"})]
    lines += [json.dumps({"user_id": "odd", "reviews": [REVIEWS[0], None, 3, "x"]}), "{broken"]
    lines += ["", "7", json.dumps(USERS[1])]
    (tmp_path / "r.jsonl").write_text("\n".join(lines))
    convert(tmp_path / "r.jsonl", "--time", "none", "--rejects", str(tmp_path / "x.csv"))
    assert "  dropped 6: malformed" in capsys.readouterr().out.splitlines()
    assert len(rows(tmp_path)) == 10, "the third review of u0 and i0 is a repeated one"
    with (tmp_path / "x.csv").open() as file:
        told = list(csv.DictReader(file))
    assert len(told) == 6 + 1 and all(line["file"].endswith("r.jsonl") for line in told)


def test_a_user_may_be_longer_than_a_line_of_other_files(tmp_path):
    long = [row | {"text": "word " * 20_000} for row in REVIEWS if row["user_id"] == "u1"] * 15
    long = [row | {"item_id": f"i{n}"} for n, row in enumerate(long)]
    (tmp_path / "r.json").write_text(json.dumps([{"user_id": "u1", "reviews": long}]))
    assert (tmp_path / "r.json").stat().st_size > 4 * 2**20
    convert(tmp_path / "r.json", "--time", "none", "--rating_scale", "1", "5")
    assert len(rows(tmp_path)) == 75


@pytest.mark.parametrize(
    "row",
    [
        {"user_id": "u", "item_id": "i", "rating": 4, "text": "x", "images": [{"small": "a"}]},
        {"user_id": "u", "item_id": "i", "rating": 4, "text": "x", "comments": [{"text": "no"}]},
        {"user": {"id": "u"}, "item": {"id": "i"}, "rating": 4, "text": "x"},
    ],
)
def test_lists_and_records_in_a_review_leave_it_one(tmp_path, row):
    (tmp_path / "r.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"rating": 5}))
    assert shape_of(tmp_path / "r.jsonl") is None
    convert(tmp_path / "r.jsonl", "--time", "none", "--rating_scale", "1", "5")
    assert rows(tmp_path) == {("u", "i", "5.0")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("[]", "lacks a column for user, item, rating, text"),
        ('{"user_id": "u", "reviews": []}', "lacks a column for"),
        ('{"user_id": "u", "reviews": [{"stars_of": 3, "x": 1}]}', "its columns are"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, capsys, text, message):
    (tmp_path / "r.json").write_text(text)
    convert(tmp_path / "r.json", code=2)
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["rating", "text", "reviews", "user_id", "a", "b"]), inner
        )
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(values, max_size=4), st.sampled_from([None, 1]))
def test_any_json_is_read_or_refused_and_never_breaks(tmp_path_factory, found, indent):
    path = tmp_path_factory.mktemp("any") / "r.json"
    path.write_text(json.dumps(found, indent=indent))
    list(Table(path).rows())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("ab", min_size=1, max_size=2), st.lists(st.integers(1, 5), max_size=4)),
        max_size=6,
    ).filter(lambda users: any(ratings for _, ratings in users)),
    st.sampled_from(["lines", "array", "spread"]),
)
def test_as_many_rows_as_there_are_reviews(tmp_path_factory, users, form):
    records = [
        {
            "user_id": user,
            "reviews": [
                {"item_id": f"i{n}", "rating": r, "text": "x"} for n, r in enumerate(ratings)
            ],
        }
        for user, ratings in users
    ]
    text = {
        "lines": "\n".join(map(json.dumps, records)),
        "array": json.dumps(records),
        "spread": json.dumps({"users": records}, indent=1),
    }[form]
    path = tmp_path_factory.mktemp("nested") / "r.json"
    path.write_text(text)
    found = [(row["user_id"], row["item_id"], row["rating"]) for row in Table(path).rows()]
    assert found == [(user, f"i{n}", r) for user, ratings in users for n, r in enumerate(ratings)]
