"""The authors' fixed splits."""

import json

import pytest

from dataset_converters.__main__ import main
from dataset_converters.write import load_properties


def pairs(path):
    return [tuple(line.split("\t")[:2]) for line in path.read_text().splitlines()[1:]]


@pytest.fixture
def topk(tmp_path):
    """Three users with 4, 12 and 27 train rows, and one who is in test alone."""
    folder = tmp_path / "topk"
    folder.mkdir()
    users = "".join(f"/user/{n}/ {n}\n" for n in range(4))
    (folder / "user_list.txt").write_text("org_id remap_id\n" + users)
    items = "".join(f"00{n:02} {n}\n" for n in range(30))
    (folder / "item_list.txt").write_text("org_id remap_id\n" + items)
    lines = [" ".join(map(str, [user, *range(n)])) for user, n in ((0, 4), (1, 12), (2, 27))]
    (folder / "train.txt").write_text("\n".join(lines) + "\n")
    (folder / "test.txt").write_text("0 28 29\n1 29\n2 28\n3 28\n")
    return folder


def convert(folder, out, part, *options):
    arguments = ["--input_path", str(folder), "--part", part, "--output_path", str(out)]
    return main(["exp3rt", *arguments, "--overwrite", *options])


def test_topk_train_and_validation_are_the_authors_train(topk, tmp_path):
    assert convert(topk, tmp_path / "t", "topk") == 0
    train, valid, test = (pairs(tmp_path / f"t/t.{p}.inter") for p in ("train", "valid", "test"))
    ids = [f"00{n:02}" for n in range(30)]
    rows = {("/user/0/", i) for i in ids[:4]} | {("/user/1/", i) for i in ids[:12]}
    assert set(train) | set(valid) == rows | {("/user/2/", i) for i in ids[:27]}
    assert not set(train) & set(valid) and len(train) + len(valid) == 43
    assert sorted(user for user, _ in valid) == ["/user/1/"] + ["/user/2/"] * 3
    assert test == [
        ("/user/0/", "0028"),
        ("/user/0/", "0029"),
        ("/user/1/", "0029"),
        ("/user/2/", "0028"),
        ("/user/3/", "0028"),
    ]
    header = (tmp_path / "t/t.train.inter").read_text().split("\n", 1)[0]
    assert header == "user_id:token\titem_id:token"
    suffixes = sorted(f.suffix for f in (tmp_path / "t").iterdir())
    assert suffixes == [".inter"] * 3 + [".json", ".yaml"]


def test_a_broken_byte_of_topk_costs_its_row_and_older_descriptions_go(topk, tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "t.item").write_text("of another data set by this name")
    with (topk / "train.txt").open("ab") as train:
        train.write(b"\xff 3\n")
    assert convert(topk, tmp_path / "t", "topk") == 0
    assert len(pairs(tmp_path / "t/t.train.inter")) + len(pairs(tmp_path / "t/t.valid.inter")) == 43
    assert not (tmp_path / "t" / "t.item").exists()


def test_topk_draws_the_same_validation_each_time(topk, tmp_path):
    convert(topk, tmp_path / "t", "topk")
    first = (tmp_path / "t/t.valid.inter").read_bytes()
    convert(topk, tmp_path / "t", "topk")
    assert (tmp_path / "t/t.valid.inter").read_bytes() == first


def test_topk_says_that_there_are_no_ratings():
    properties = load_properties("exp3rt-topk")
    assert "RATING_FIELD" not in properties and "TIME_FIELD" not in properties
    assert properties["relevant_from"] is None
    assert properties["load_col"] == {"inter": ["user_id", "item_id"]}


def test_a_number_outside_the_lists_is_counted(topk, tmp_path, capsys):
    (topk / "test.txt").write_text("0 28 99\n77 1\n")
    assert convert(topk, tmp_path / "t", "topk") == 0
    assert "dropped 2: malformed" in capsys.readouterr().out


def aligned_row(user, item, day, rating="7", score=None):
    return {
        "user_id": user,
        "item_id": item,
        "rating": rating,
        "helpful": "2",
        "date": f"{day} May 2019",
        "title": "t",
        "review": f"{user} on {item}",
        "exp3rt_test_score": score,
    }


def test_aligned_keeps_the_authors_test_rows_and_takes_the_last_train_row(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    rows = [
        aligned_row("a", "05", 3),
        aligned_row("a", "02", 9),
        aligned_row("a", "03", 9),  # the same day: the later item id is validation
        aligned_row("a", "04", 1, score="6"),
        aligned_row("b", "01", 2),  # the only train row stays in train
        aligned_row("b", "02", 5, score=8),
        aligned_row("b", "03", 6, rating="Null", score="5"),
    ]
    (folder / "interactions.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\nbroken\n")
    lines = "Title: Alpha  (1999)\nGenres: Drama\nDirectors: D\nCast: C\nPlot: One.\nNote: two."
    metadata = {"title": "Beta", "year": 2001, "genres": "War", "plot": "P"}
    items = [
        {"item_id": "01", "exp3rt_item_description": lines},
        {"item_id": "02", "exp3rt_item_description": None, "metadata": metadata},
        {"item_id": "03", "exp3rt_item_description": None, "file": "Gamma 1950.csv"},
    ]
    (folder / "item_descriptions.jsonl").write_text("\n".join(map(json.dumps, items)))

    out = tmp_path / "d"
    assert convert(folder, out, "aligned") == 0
    assert pairs(out / "d.train.inter") == [("a", "05"), ("a", "02"), ("b", "01")]
    assert pairs(out / "d.valid.inter") == [("a", "03")]
    assert pairs(out / "d.test.inter") == [("a", "04"), ("b", "02")]
    assert (out / "d.item").read_text().splitlines()[1:] == [
        "01\tAlpha (1999)\tDrama\tD\tC\tOne. Note: two.",
        "02\tBeta (2001)\tWar\t\t\tP",
        "03\tGamma 1950\t\t\t\t",
        "04\t04\t\t\t\t",
        "05\t05\t\t\t\t",
    ]
    assert len((out / "d.reviews.jsonl").read_text().splitlines()) == 6
    assert capsys.readouterr().out.splitlines() == [
        "d: 2 users, 5 items, 6 interactions, density 0.6000",
        "  train: 3 rows",
        "  valid: 1 rows",
        "  test: 2 rows",
        "  dropped 1: unrated",
        "  dropped 1: malformed",
    ]
