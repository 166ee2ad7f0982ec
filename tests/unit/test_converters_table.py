"""`convert table`: a data set of any table of reviews, with guesses that are said."""

import gzip
import json
import runpy
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml

from dataset_converters.__main__ import main
from dataset_converters.columns import common
from dataset_converters.values import Dates, guess_scale, rating_of
from recbole_exp3rt.errors import UsageError

EXAMPLES = Path(__file__).parents[2] / "examples"
ROWS = [
    {"customer_id": "007", "product_id": f"{n:03}", "stars": n % 5 + 1, "review_text": text,
     "date": f"2021-03-{n + 1:02}", "summary": 'So "so"', "helpful_votes": n}
    for n, text in enumerate(["Good, but\nlong.", "Fine; really", "", "Tab\there", "Ünïcode…"])
]  # fmt: skip


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def converted(capsys, *arguments):
    """The exit code, and what was printed: the output or the error."""
    code = main(["table", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out or said.err


def read(name, ending="inter"):
    table = pd.read_csv(f"dataset/{name}/{name}.{ending}", sep="\t", dtype=str).fillna("")
    return table.rename(columns=lambda column: column.split(":")[0])


def texts(name):
    lines = Path(f"dataset/{name}/{name}.reviews.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["item_id"]: (row["title"], row["text"]) for row in map(json.loads, lines)}


def settings(name):
    return yaml.safe_load(Path(f"dataset/{name}/{name}.yaml").read_text(encoding="utf-8"))


def packed(path, content):
    path.write_bytes(gzip.compress(content))
    return path


FORMS = {
    "csv": lambda f: f.to_csv(index=False).encode(),
    "excel": lambda f: b"\xef\xbb\xbf" + f.to_csv(index=False, sep=";").encode(),
    "tsv": lambda f: f.to_csv(index=False, sep="\t").encode(),
    "jsonl": lambda f: f.to_json(orient="records", lines=True).encode(),
    "array": lambda f: f.to_json(orient="records", indent=1).encode(),
    "parquet": lambda f: f.to_parquet(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_file_gives_the_same_data_set(form, tmp_path, capsys):
    content = FORMS[form](pd.DataFrame(ROWS))
    plain = tmp_path / "mine.data"
    plain.write_bytes(content)
    files = [plain] if form == "parquet" else [plain, packed(tmp_path / "zipped.gz", content)]
    for file in files:
        code, said = converted(capsys, file, "--k_core", 0, "--rating_scale", 1, 5)
        name = file.stem
        assert code == 0 and said.splitlines()[-1] == f"exp3rt run --dataset={name}"
        assert "user: customer_id (guessed)" in said and "item word: product (guessed" in said
        rows = read(name)
        assert set(rows["user_id"]) == {"007"}, "an id that looks like a number stays text"
        assert rows["item_id"].tolist() == ["000", "001", "002", "003", "004"]
        assert rows["rating"].astype(float).tolist() == [1, 2, 3, 4, 5]
        assert rows["timestamp"].astype(float)[0] == 1614556800  # 2021-03-01, UTC
        assert rows["helpful"].astype(float).tolist() == [0, 1, 2, 3, 4]
        assert texts(name)["000"] == ('So "so"', "Good, but\nlong.")
        assert texts(name)["002"] == ('So "so"', "")


def test_the_example_is_converted_with_guesses_alone(capsys):
    code, said = converted(capsys, EXAMPLES / "restaurants.csv")
    assert code == 0, said
    for line in (
        "user: guest (guessed)",
        "item: restaurant (guessed)",
        "rating: stars (guessed), 1–5 (guessed)",
        "text: review (guessed)",
        "time: visited (guessed), dates such as '01/01/2023', day before month",
        "item word: restaurant (guessed",
        "restaurants: 60 users, 30 items, 599 interactions",
        "dropped 1: unrated",
    ):
        assert line in said
    assert said.splitlines()[-1] == "exp3rt run --dataset=restaurants"
    own = settings("restaurants")
    assert own["item_word"] == "restaurant" and own["rating_scale"] == [1, 5]
    assert own["eval_args"]["order"] == "TO"
    assert set(read("restaurants", "item")["cuisine"]) > {"Thai", "Italian"}
    assert min(Counter(read("restaurants")["user_id"]).values()) >= 5  # each user has a test row
    made = runpy.run_path(str(EXAMPLES / "make_restaurants.py"))
    frame = pd.DataFrame([map(str, row) for row in made["rows"]()], columns=made["HEADER"])
    kept = pd.read_csv(EXAMPLES / "restaurants.csv", dtype=str).fillna("")
    assert frame.equals(kept), "the file is what its script makes"


def test_nothing_is_overwritten_unless_it_is_asked_for(tmp_path, capsys):
    pd.DataFrame(ROWS).to_csv("mine.csv", index=False)
    assert converted(capsys, "mine.csv", "--k_core", 0)[0] == 0
    before = (tmp_path / "dataset/mine/mine.inter").read_bytes()
    pd.DataFrame([*ROWS[::-1], ROWS[0] | {"product_id": "9"}]).to_csv("mine.csv", index=False)
    code, said = converted(capsys, "mine.csv", "--k_core", 0)
    assert code == 2 and "already holds mine.inter; add --overwrite" in said
    assert (tmp_path / "dataset/mine/mine.inter").read_bytes() == before
    assert converted(capsys, "mine.csv", "--k_core", 0, "--overwrite")[0] == 0
    assert (tmp_path / "dataset/mine/mine.inter").read_bytes() != before
    code, said = converted(capsys, "mine.csv", "--k_core", 0, "--output_path", "my data/b")
    assert said.splitlines()[-1] == "exp3rt run --dataset=b --data_path='my data'"


def test_columns_are_named_in_any_case_and_a_wrong_one_is_answered_with_those_found(capsys):
    frame = pd.DataFrame(ROWS).rename(columns={"customer_id": "Who", "product_id": "What"})
    frame.to_csv("mine.csv", index=False)
    columns = "Who, What, stars, review_text, date, summary, helpful_votes"
    code, said = converted(capsys, "mine.csv")
    assert code == 2 and said.count("\n") == 1
    assert "lacks a column for user, item" in said and columns in said
    assert "--user COLUMN --item COLUMN" in said
    code, said = converted(capsys, "mine.csv", "--user", "who", "--item", "Wat")
    assert code == 2 and "column Wat (--item) (did you mean What?)" in said and columns in said
    code, said = converted(capsys, "mine.csv", "--user", "who", "--item", "What", "--k_core", 0)
    assert code == 0 and "  user: Who\n" in said and "item word: item" in said


def test_without_times_the_split_is_at_random(capsys):
    pd.DataFrame(ROWS).drop(columns="date").to_csv("mine.csv", index=False)
    code, said = converted(capsys, "mine.csv", "--k_core", 0, "--title", "none")
    assert code == 0 and "time: none: the split is at random for each user" in said
    assert "title: none" in said and texts("mine")["000"][0] == ""
    days = [f"{day + 1:02}.07.2024" for day in range(len(ROWS))]
    pd.DataFrame(ROWS).drop(columns="date").assign(datum=days).to_csv("own.csv", index=False)
    code, said = converted(capsys, "own.csv", "--k_core", 0)
    assert code == 0 and "column datum looks like dates: --time=datum" in said
    assert settings("mine")["eval_args"] == {
        "split": {"RS": [8, 1, 1]}, "group_by": "user", "order": "RO"
    }  # fmt: skip


def test_descriptions_are_joined_from_another_file(capsys):
    pd.DataFrame(ROWS).to_csv("mine.csv", index=False)
    items = [
        {"product_id": "000", "name": "Kettle", "categories": ["Tea", "Kitchen"], "price": 3.0},
        {"product_id": "001", "name": None, "categories": [], "price": None},
        {"product_id": "nobody's", "name": "Ghost"},
    ]
    Path("items.json").write_text("\n".join(map(json.dumps, items)) + "\nbroken\n")
    arguments = ("mine.csv", "--items", "items.json", "--k_core", 0)
    code, said = converted(capsys, *arguments)
    assert code == 0, said
    assert "name=Title, categories=Categories, price=Price (guessed) of items.json" in said
    assert "by product_id; 1 items" in said
    assert "noted 1: metadata row left out: malformed" in said
    assert read("mine", "item").iloc[:2].to_numpy().tolist() == [
        ["000", "Kettle", "Tea, Kitchen", "3"], ["001", "001", "", ""]
    ]  # fmt: skip
    told = ("--description", "name=What it is", "price", "--overwrite")
    assert converted(capsys, *arguments, *told)[0] == 0
    assert settings("mine")["description_fields"] == {"name": "What it is", "price": "Price"}
    code, said = converted(capsys, *arguments, "--description", "nmae", "--overwrite")
    assert code == 2 and "did you mean name?" in said and "name, categories, price" in said
    code, said = converted(capsys, *arguments, "--items_id", "id", "--overwrite")
    assert code == 2 and "items.json lacks id; its columns are product_id, name" in said


def test_a_broken_row_costs_itself_alone(capsys):
    lines = ["user,item,rating,review,date"]
    lines += [f"u,i{n},{n % 5 + 1},fine,2020-01-0{n + 1}" for n in range(5)]
    lines[2:2] = [
        'u,open,3,"never closed,2020-01-01',
        "too,short",
        'u,stray,4,"a "b" c",2020-02-01',
    ]
    Path("mine.csv").write_text("\n".join(lines) + "\n")
    code, said = converted(capsys, "mine.csv", "--k_core", 0)
    assert code == 0 and "6 interactions" in said
    assert "dropped 1: quotation mark that is not closed" in said and "dropped 1: malformed" in said
    assert texts("mine")["stray"][1] == 'a b" c"'


def test_characters_that_are_not_utf_8_are_told(capsys):
    rows = "user,item,rating,review\n" + "".join(f"u,{n},{n},Café\n" for n in range(1, 6))
    Path("mine.csv").write_bytes(rows.encode("latin-1"))
    code, said = converted(capsys, "mine.csv", "--k_core", 0)
    assert (
        code == 0 and "text: review (guessed), 5 texts hold characters that are not UTF-8" in said
    )


SCALES = [
    ([1, 2, 5], [1, 5]),
    ([4, 5], [1, 5]),
    ([1, 2.5, 5], [1, 5, 0.5]),
    ([0.5, 3, 5], [0.5, 5, 0.5]),
    ([1, 7, 10], [1, 10]),
    ([0, 1], [0, 1]),
    ([0, 3, 5], "where 0 means unrated, add --unrated 0"),
    ([1, 2, 3, 4], "holds 1 (1), 2 (1), 3 (1), 4 (1); give --rating_scale"),
    ([1, 5, 55], "give --rating_scale"),
    ([3.7, 5], "give --rating_scale"),
    ([7, 10], "give --rating_scale"),
]


@pytest.mark.parametrize(("ratings", "expected"), SCALES)
def test_a_scale_is_guessed_only_where_it_is_obvious(ratings, expected):
    if isinstance(expected, list):
        assert guess_scale(Counter(map(float, ratings)), "stars") == expected
        return
    with pytest.raises(UsageError) as error:
        guess_scale(Counter(map(float, ratings)), "stars")
    assert expected in str(error.value) and "column stars" in str(error.value)


@pytest.mark.parametrize(
    ("written", "rating"),
    [("4", 4), (" 4.5 ", 4.5), ("4,5", 4.5), ("4/5", 4), ("3 out of 5", 3), ("4 stars", 4),
     ("1 Star", 1), ("★★★☆☆", 3), (True, 1), ("Recommended", 1), ("Not recommended", 0),
     ("great", None), ("1e9999", None), ([5], None), ("2020-01-01", None)],
)  # fmt: skip
def test_ratings_are_read_as_people_write_them(written, rating):
    assert rating_of(written) == rating


DATES = [
    (["2020-02-29"], 1582934400, "dates such as '2020-02-29'"),
    (["2020-02-29T01:00:00+01:00"], 1582934400, "dates such as"),
    (["Sat Feb 29 00:00:00 +0000 2020"], 1582934400, "dates such as"),
    (["February 29, 2020", "May 2019"], 1582934400, "dates such as"),
    (["29.02.2020"], 1582934400, "day before month"),
    (["29/02/2020", "01/02/2020"], 1582934400, "day before month"),
    (["02/29/2020", "01/02/2020"], 1582934400, "month before day"),
    (["02/03/2020"], 1580688000, "a guess: no day is over 12"),
    (["01.02.2020"], 1580515200, "day before month, a guess"),
    ([1582934400], 1582934400, "seconds since 1970"),
    (["1582934400000"], 1582934400, "milliseconds since 1970"),
    ([1582934400000000000], 1582934400, "nanoseconds since 1970"),
    ([20200229], 1582934400, "YYYYMMDD"),
    ([2020.0], 1577836800, "years"),
    ([pd.Timestamp("2020-02-29"), pd.NaT], 1582934400, "dates such as"),
]


@pytest.mark.parametrize(("values", "seconds", "says"), DATES)
def test_dates_are_read_in_usual_forms_and_the_form_is_said(values, seconds, says):
    dates = Dates.guess(values, "date")
    assert dates.seconds(values[0]) == seconds and says in dates.says


def test_the_order_of_day_and_month_can_be_told_and_is_never_mixed():
    assert Dates.guess(["02/03/2020"], "d", "day").seconds("02/03/2020") == 1583107200
    with pytest.raises(UsageError, match=r"in 13/01/2020 the day .* in 01/13/2020 the month"):
        Dates.guess(["13/01/2020", "01/13/2020"], "d")
    with pytest.raises(UsageError, match="column d holds 'yesterday', '3 days ago': no dates"):
        Dates.guess(["yesterday", "3 days ago"], "d")
    dates = Dates.guess(["2020-01-01", "2020-01-02", "soon"], "d")
    assert dates.seconds("soon") is None and dates.seconds("May 5") is None


# preset, the reviews' first row, what it becomes: user, item, rating, title, text, helpful
PRESETS = [
    ("yelp", {"review_id": "r", "user_id": "u", "business_id": "b", "stars": 4.0, "useful": 2,
              "text": "Good.", "date": "2016-03-09 00:00:00"}, ("u", "b", 4, "", "Good.", 2)),
    ("goodreads", {"user_id": "u", "book_id": "7", "rating": 5, "review_text": "Read it.",
                   "date_added": "Sun Jul 30 07:44:10 -0700 2017", "n_votes": 3},
     ("u", "7", 5, "", "Read it.", 3)),
    ("tripadvisor", {"ratings": {"service": 1.0, "overall": 4.0}, "title": "Nice", "text": "Stay.",
                     "author": {"username": "A member", "id": "U1"}, "offering_id": 93338,
                     "num_helpful_votes": 1, "date": "December 17, 2012"},
     ("U1", "93338", 4, "Nice", "Stay.", 1)),
    ("steam", {"app_id": 10, "app_name": "Game", "review": "Fun.", "recommended": True,
               "timestamp_created": 1611381629, "votes_helpful": 4, "author.steamid": 7656},
     ("7656", "10", 1, "", "Fun.", 4)),
    ("imdb-json", {"review_date": "10 February 2006", "movie_id": "tt1", "user_id": "ur1",
                   "review_text": "A film.", "rating": "10", "review_summary": "Wow"},
     ("ur1", "tt1", 10, "Wow", "A film.", 0)),
    ("imdb-json", {"review_id": "rw1", "reviewer": "someone", "movie": "Film (2004)", "rating": "8",
                   "review_summary": "Ok", "review_date": "24 July 2005", "review_detail": "So.",
                   "helpful": ["1", "2"]}, ("someone", "Film (2004)", 8, "Ok", "So.", 1)),
]  # fmt: skip


@pytest.mark.parametrize(("preset", "row", "expected"), PRESETS)
def test_presets_know_the_columns_of_known_data_sets(preset, row, expected, capsys):
    Path("mine.json").write_text(json.dumps(row) + "\n")
    code, said = converted(capsys, "mine.json", "--preset", preset, "--k_core", 0)
    assert code == 0, said
    assert "(guessed)" not in said and f"(preset {preset})" in said
    (inter,) = read("mine").to_dict("records")
    found = (inter["user_id"], inter["item_id"], float(inter["rating"]))
    title, text = texts("mine")[expected[1]]
    assert (*found, title, text, float(inter["helpful"])) == expected
    own = settings("mine")
    assert own["item_word"] == common()["presets"][preset]["item_word"]
    assert own["eval_args"]["order"] == "TO"


def test_a_preset_tells_its_unrated_value_and_what_it_lacks(capsys):
    rows = [{"user_id": "u", "book_id": n, "rating": n % 2 * 5, "review_text": "x", "n_votes": 0,
             "date_added": "2017-07-30"} for n in range(4)]  # fmt: skip
    Path("mine.json").write_text("\n".join(map(json.dumps, rows)))
    code, said = converted(capsys, "mine.json", "--preset", "goodreads", "--k_core", 0)
    assert code == 0 and "dropped 2: unrated" in said
    code, said = converted(capsys, "mine.json", "--preset", "yelp", "--overwrite")
    assert code == 2 and "the preset's item column business_id; its columns are user_id" in said
    code, said = converted(capsys, "mine.json", "--preset", "godreads", "--overwrite")
    assert code == 2 and "did you mean goodreads?" in said


BAD = [
    (b"", "mine is empty; name a file with rows"),
    ("user,item".encode("utf-16"), "no text in UTF-8"),
    (b"PK\x03\x04workbook", "workbook"),
    (b"PAR1 broken", "no readable parquet file"),
    (b"[]", "its columns are (none)"),
    (b"user,item,rating,text\nu,i,good,x\n", "column rating holds 'good': no ratings"),
    (b"user,item,rating,text,date\nu,i,5,x,soon\n", "column date holds 'soon': no dates"),
    (b"user,item,rating,text\nu,i,3,x\n", "the rating scale is not obvious"),
    (b"user,item,rating,text\nu,i,3,x\n", "the columns of mine are user, item, rating, text"),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_what_is_no_table_of_reviews_is_one_line(content, message, tmp_path, capsys):
    Path("mine").write_bytes(content)
    code, said = converted(capsys, "mine")
    assert code == 2 and message in said and said.count("\n") == 1
    assert not (tmp_path / "dataset").exists()
