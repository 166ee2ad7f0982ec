"""What every converter does with reviews, whatever their source."""

import gzip
import json
from collections import Counter

import pandas as pd
import pytest
import yaml

from dataset_converters import write
from dataset_converters.__main__ import main
from dataset_converters.base import UNUSABLE_ID, Dropped, convert, k_core_of, one_line, plain_text
from dataset_converters.read import whole_number
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review

MOVIES = write.load_properties("imdb")


class Reviews:
    """A source that holds its rows in a list."""

    def __init__(self, *rows, items=()):
        self.rows, self.metadata = rows, list(items)

    def reviews(self):
        return iter(self.rows)

    def items(self, wanted):
        return ((item, values) for item, values in self.metadata if item in wanted)


def review(user="u", item="i", rating=7, day=0, text="fine", title="so"):
    return Review(user, item, rating, text, title, timestamp=86400.0 * day)


def read(path):
    """As RecBole reads an atomic file."""
    header = path.read_text(encoding="utf-8").split("\n", 1)[0].split("\t")
    kinds = {name: float if name.endswith(":float") else str for name in header}
    table = pd.read_csv(path, delimiter="\t", dtype=kinds, engine="python", encoding="utf-8")
    return table.rename(columns=lambda name: name.split(":")[0])


def sidecar(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_files_carry_the_folders_name_and_recboles_headers(tmp_path):
    report = convert(Reviews(review()), tmp_path / "films", MOVIES, k_core=0)
    assert report == "films: 1 users, 1 items, 1 interactions, density 1.0000"
    assert sorted(f.name for f in (tmp_path / "films").iterdir()) == [
        "dataset.json",
        "films.inter",
        "films.item",
        "films.reviews.jsonl",
        "films.yaml",
    ]
    first_lines = (tmp_path / "films" / "films.inter").read_text().splitlines()
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\thelpful:float"
    assert first_lines == [header, "u\ti\t7.0\t0.0\t0"]
    assert sidecar(tmp_path / "films" / "films.reviews.jsonl") == [
        {"user_id": "u", "item_id": "i", "title": "so", "text": "fine"}
    ]


def test_the_latest_of_several_reviews_of_a_pair_stays(tmp_path):
    rows = (review(rating=3, day=5, text="new"), review(rating=9, day=1, text="old"))
    report = convert(Reviews(*rows), tmp_path / "d", MOVIES, k_core=0)
    assert read(tmp_path / "d/d.inter")["rating"].tolist() == [3]
    assert [row["text"] for row in sidecar(tmp_path / "d/d.reviews.jsonl")] == ["new"]
    assert "dropped 1: duplicate" in report


def test_on_the_same_day_the_one_read_last_stays(tmp_path):
    rows = (review(rating=3, text="first"), review(rating=9, text="second"))
    convert(Reviews(*rows), tmp_path / "d", MOVIES, k_core=0)
    assert [row["text"] for row in sidecar(tmp_path / "d/d.reviews.jsonl")] == ["second"]


def test_every_dropped_row_is_counted_under_its_reason(tmp_path):
    rows = [
        review(),
        Dropped("unrated"),
        Dropped("unrated"),
        review(item="j", rating=11),
        review(user="NA"),
        review(user=""),
        review(user="tab\tbed"),
        review(item="k", rating=float("nan")),
        *[review(item=f"i{n}") for n in range(40)],
    ]
    report = convert(Reviews(*rows), tmp_path / "d", MOVIES, k_core=0)
    assert report.splitlines()[1:] == [
        f"  dropped 3: {UNUSABLE_ID}",
        "  dropped 2: unrated",
        "  dropped 2: rating outside 1–10",
    ]


def test_large_numbers_have_thousands_separators(tmp_path):
    rows = [review(user=f"u{n // 40}", item=f"i{n % 40}") for n in range(1600)]
    rows += [Dropped("unrated")] * 1234
    report = convert(Reviews(*rows), tmp_path / "d", MOVIES)
    assert "40 users, 40 items, 1,600 interactions, density 1.0000" in report
    assert "dropped 1,234: unrated" in report


def test_k_core_goes_on_until_everybody_has_k():
    """c has two rows, but one of them is of a movie that only c knows: in the end c goes too."""
    pairs = ["a1", "a2", "b1", "b2", "c1", "c3"]
    rows = pd.DataFrame([tuple(pair) for pair in pairs], columns=["user_id", "item_id"])
    dropped = Counter()
    kept = k_core_of(rows, 2, dropped)
    assert (kept["user_id"] + kept["item_id"]).tolist() == ["a1", "a2", "b1", "b2"]
    assert dropped == {"below the 2-core": 2}
    assert len(k_core_of(rows, 0, dropped)) == 6


def test_ids_and_metadata_come_back_from_recboles_reader(tmp_path):
    odd = ['"quoted"', "it's", "0031381", "a,b", "Léon", "-"]
    values = {"title": 'He said "no"\tand\nleft', "genres": '"', "cast": "N/A"}
    source = Reviews(
        *[review(user=name, item=name) for name in odd], items=[(n, values) for n in odd]
    )
    convert(source, tmp_path / "d", MOVIES, k_core=0)
    assert sorted(read(tmp_path / "d/d.inter")["user_id"]) == sorted(odd)
    items = read(tmp_path / "d/d.item").fillna("")
    assert sorted(items["item_id"]) == sorted(odd)
    assert set(items["title"]) == {'He said "no" and left'}
    assert set(items["genres"]) == {'"'}
    assert set(items["cast"]) == {""}
    assert {row["user_id"] for row in sidecar(tmp_path / "d/d.reviews.jsonl")} == set(odd)


def test_an_item_without_a_usable_title_goes_by_its_id(tmp_path):
    source = Reviews(review(item="x"), review(item="y"), items=[("y", {"title": "Null "})])
    source.metadata.append(("y", {"title": "a second line of the same item"}))
    convert(source, tmp_path / "d", MOVIES, k_core=0)
    assert read(tmp_path / "d/d.item")["title"].tolist() == ["x", "Null"]
    source = Reviews(review(item="z"), items=[("z", {"title": " null"})])
    convert(source, tmp_path / "d", MOVIES, k_core=0)
    assert read(tmp_path / "d/d.item")["title"].tolist() == ["z"]


def test_nothing_is_left_behind_when_writing_breaks_off(tmp_path, monkeypatch):
    convert(Reviews(review(rating=2)), tmp_path / "d", MOVIES, k_core=0)
    before = {file.name: file.read_bytes() for file in (tmp_path / "d").iterdir()}

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "_write_sidecar", broken)
    with pytest.raises(UsageError, match="No space left on device"):
        convert(Reviews(review(rating=8)), tmp_path / "d", MOVIES, k_core=0)
    assert {file.name: file.read_bytes() for file in (tmp_path / "d").iterdir()} == before
    with pytest.raises(UsageError):
        convert(Reviews(review()), tmp_path / "new", MOVIES, k_core=0)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_parts_of_an_earlier_split_do_not_stay_beside_the_new_files(tmp_path):
    def split(rows):
        return {"train": rows, "valid": rows[:0], "test": rows[:0]}

    convert(Reviews(review()), tmp_path / "d", MOVIES, k_core=0, split=split)
    for mine in ("notes.txt", "d.my.inter"):
        (tmp_path / "d" / mine).write_text("mine")
    convert(Reviews(review()), tmp_path / "d", MOVIES, k_core=0)
    names = sorted(f.name for f in (tmp_path / "d").iterdir())
    written = ["d.inter", "d.item", "d.my.inter", "d.reviews.jsonl", "d.yaml", "notes.txt"]
    assert names == [*written[:-1], "dataset.json", written[-1]]


def test_the_data_sets_own_values_travel_with_it(tmp_path):
    properties = write.load_properties("amazon-book", item_word="album")
    convert(Reviews(review(rating=4)), tmp_path / "d", properties, k_core=0)
    written = yaml.safe_load((tmp_path / "d/d.yaml").read_text(encoding="utf-8"))
    assert written == properties
    assert written["item_word"] == "album" and written["rating_scale"] == [1, 5]


@pytest.mark.parametrize(
    ("rows", "k_core", "message"),
    [
        ((), 0, "no readable row with a rating"),
        ((Dropped("unrated"),), 0, "dropped 1: unrated"),
        ((review(),), 5, "k_core=5 leaves no row"),
    ],
)
def test_nothing_to_convert_is_the_users_error(tmp_path, rows, k_core, message):
    with pytest.raises(UsageError, match=message):
        convert(Reviews(*rows), tmp_path / "d", MOVIES, k_core)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["imdb", "--input_path", "nowhere"], "input_path=nowhere is not a folder"),
        (["amazon-book", "--reviews", "none.gz"], "reviews=none.gz is not a file"),
        (["exp3rt", "--input_path", ".", "--part", "topk"], "user_list.txt does not exist"),
        (["imdb", "--input_path", "films", "--metadata", "latin"], "metadata=latin is not UTF-8"),
        (["imdb", "--input_path", "folders"], "input_path=folders has no .csv file"),
        (["amazon-book", "--reviews", "damaged.gz"], "damaged.gz: "),
        (["sample", "--output_path", "/"], "output_path=/ has no name"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "Film 1999.csv").touch()
    (tmp_path / "folders" / "a.csv").mkdir(parents=True)
    (tmp_path / "latin").write_bytes(b'{"file": "Caf\xe9 1999.csv"}\n')
    packed = gzip.compress(b"x" * 1000 + bytes(range(256)))
    (tmp_path / "damaged.gz").write_bytes(packed[:12] + b"\xff" * 8 + packed[20:])
    output = [] if "--output_path" in arguments else ["--output_path", "out"]
    assert main([*arguments, *output]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and not said.out
    assert not (tmp_path / "out").exists()


def test_markup_is_removed_from_texts_and_lines_stay():
    assert plain_text("One.<br/><br /> Two &amp; three. ") == "One.\n\nTwo & three."
    assert one_line(" a\n b\tc ") == "a b c"


@pytest.mark.parametrize(
    ("written", "count"), [("1,204", 1204), (3, 3), ("3.0", 3), ("Null", 0), (-1, 0), ("inf", 0)]
)
def test_counts_are_read_as_they_are_written(written, count):
    assert whole_number(written) == count
