"""The rows that an option asks for, a run that writes nothing, and the card of a data set."""

import csv
import hashlib
import json
from datetime import datetime, timezone

import pytest

from dataset_converters.__main__ import main
from dataset_converters.subsets import Subset
from recbole_exp3rt.errors import UsageError


def day(text):
    return int(datetime.fromisoformat(f"{text}T00:00:00+00:00").timestamp())


def row(user, item, rating=4, date="2015-06-01"):
    time = day(date) * 1000
    known = {"user_id": user, "parent_asin": item, "rating": rating, "timestamp": time}
    return known | {"title": "So", "text": "Good.", "helpful_vote": 0}


@pytest.fixture
def convert(tmp_path, capsys):
    """Convert rows; what was printed, and the pairs of the data set."""

    def run(rows, *options, code=0):
        (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
        files = ["--reviews", str(tmp_path / "r.jsonl"), "--output_path", str(tmp_path / "d")]
        if "--k_core" not in options:
            files += ["--k_core", "0"]
        assert main(["amazon-book", *files, "--overwrite", *options]) == code
        said = capsys.readouterr()
        return said.err if code else said.out

    return run


def pairs(folder, part=""):
    with (folder / f"{folder.name}{part}.inter").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {(row["user_id:token"], row["item_id:token"]) for row in rows}


def test_both_days_are_included_and_the_others_counted(convert, tmp_path):
    dates = ["2014-12-31", "2015-01-01", "2016-06-30", "2016-07-01"]
    rows = [row("u", f"i{n}", date=date) for n, date in enumerate(dates)]
    rejects = tmp_path / "rejects.csv"
    out = convert(
        rows, "--since", "2015", "--until", "2016-06", "--rejects", str(rejects)
    ).splitlines()
    assert out[1:] == [
        "  dropped 1: before 2015 (--since)",
        "  dropped 1: after 2016-06 (--until)",
    ]
    assert pairs(tmp_path / "d") == {("u", "i1"), ("u", "i2")}
    with rejects.open() as file:
        found = [(line["line"], line["reason"]) for line in csv.DictReader(file)]
    assert found == [("1", "before 2015 (--since)"), ("4", "after 2016-06 (--until)")]


def test_a_repeated_pair_keeps_its_latest_row_within_the_dates(convert, tmp_path):
    rows = [row("u", "i", 2, "2014-01-01"), row("u", "i", 5, "2018-01-01")]
    convert(rows, "--until", "2015")
    (line,) = (tmp_path / "d" / "d.inter").read_text().splitlines()[1:]
    assert line.split("\t")[2] == "2.0"


@pytest.mark.parametrize(
    ("text", "first", "after"),
    [
        ("2016", "2016-01-01", "2017-01-01"),
        ("2016-12", "2016-12-01", "2017-01-01"),
        ("2016-2", "2016-02-01", "2016-03-01"),
        ("2016-02-29", "2016-02-29", "2016-03-01"),
        ("1969-12-31", "1969-12-31", "1970-01-01"),
    ],
)
def test_a_day_a_month_or_a_year(text, first, after):
    assert Subset(since=text, until=text).seconds() == (day(first), day(after))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--since", "yesterday"], "since=yesterday is no date; write YYYY-MM-DD"),
        (["--until", "2015-02-30"], "until=2015-02-30 is no date"),
        (["--since", "٢٠١٥"], "is no date"),
        (["--since", "2016", "--until", "2015"], "since=2016 is after until=2015"),
        (["--since", "2020"], "no readable row with a rating (dropped 1: before 2020 (--since))"),
        (["--seed", "3"], "seed belongs to --sample_users"),
        (["--sample_users", "0"], "sample_users=0 keeps nobody"),
        (["--sample_users", "few"], "'few' is no whole number"),
        (["--subset", "balanced", "--split", "topk-halves"], "leave out --subset"),
        (["--subset", "even"], "invalid choice"),
        (["--subset", "balanced", "--kept_from", "5"], "rating below 5 (--subset balanced): no"),
    ],
)
def test_what_cannot_be_is_one_line(convert, tmp_path, options, message):
    said = convert([row("u", "i")], *options, code=2)
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "d").exists()


def test_dates_of_a_table_without_times_are_refused(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("user,item,rating,text\na,x,1,fine\nb,y,5,good\n")
    arguments = ["table", str(tmp_path / "t.csv"), "--output_path", str(tmp_path / "d")]
    assert main([*arguments, "--k_core", "0", "--since", "2015"]) == 2
    assert "since and until need times" in capsys.readouterr().err


def test_drawn_users_keep_all_their_rows_and_fewer_are_among_more(convert, tmp_path):
    rows = [row(f"u{u}", f"i{i}", 1 + u % 5) for u in range(12) for i in range(4)]
    rows += [row("below", "i0")]
    drawn = {}
    for count in (3, 7):
        out = convert(rows, "--sample_users", str(count), "--k_core", "2")
        drawn[count] = pairs(tmp_path / "d")
        assert f"dropped {48 - 4 * count}: user not drawn (--sample_users)" in out
        assert "dropped 1: below the 2-core" in out
    users = {count: {user for user, _ in found} for count, found in drawn.items()}
    assert len(users[3]) == 3 and len(users[7]) == 7 and users[3] < users[7]
    assert len(drawn[3]) == 12
    other = convert(rows, "--sample_users", "3", "--seed", "5", "--k_core", "2")
    assert pairs(tmp_path / "d") != drawn[3] and "3 users" in other
    assert "12 users" in convert(rows, "--sample_users", "99", "--k_core", "2")


def test_a_user_who_is_not_drawn_is_no_unseen_user(convert, tmp_path):
    rows = [row(f"u{u}", f"i{i}") for u in range(6) for i in range(3)]
    rows += [row("low", "i0"), row("low", "other")]
    convert(rows, "--sample_users", "2", "--k_core", "3")
    assert {user for user, _ in pairs(tmp_path / "d", ".unseen")} == {"low"}


def test_the_balanced_subset_is_what_the_halves_are_made_of(tmp_path, capsys):
    def parts(*options):
        out = tmp_path / "sample"
        assert main(["sample", "--output_path", str(out), "--overwrite", *options]) == 0
        return out, capsys.readouterr().out

    out, said = parts("--subset", "balanced")
    subset = pairs(out)
    assert "rating below 6 (--subset balanced)" in said
    out, said = parts("--split", "topk-halves")
    assert "rating below 6 (--split topk-halves)" in said
    assert subset == set().union(*(pairs(out, f".{part}") for part in ("train", "valid", "test")))
    out, said = parts("--subset", "balanced", "--kept_from", "9")
    assert pairs(out) < subset


def test_a_dry_run_says_the_same_and_writes_nothing(convert, tmp_path):
    rows = [row("u", "i"), row("u", "i"), row("u", "j", None)]
    said = convert(rows, "--dry_run", "--rejects", str(tmp_path / "rejects.csv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.jsonl"]
    assert said == convert(rows) + "  dry run: nothing was written\n"
    before = {path: path.read_bytes() for path in (tmp_path / "d").iterdir()}
    convert([row("v", "k")], "--dry_run")  # a data set that is there does not stop it, and stays
    assert {path: path.read_bytes() for path in (tmp_path / "d").iterdir()} == before


def test_the_card_names_every_file_and_no_folder(convert, tmp_path):
    rows = [row("u", "i"), row("u", "i"), row("v", "i", None)]
    convert(rows, "--since", "2010", "--item_word", "album")
    text = (tmp_path / "d" / "dataset.json").read_text(encoding="utf-8")
    card = json.loads(text)
    written = {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()}
    assert {file["name"]: (file["size"], file["sha256"]) for file in card["files"]} == {
        name: (len(data), hashlib.sha256(data).hexdigest())
        for name, data in written.items()
        if name != "dataset.json"
    }
    data = (tmp_path / "r.jsonl").read_bytes()
    assert card["inputs"] == [
        {"name": "r.jsonl", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    ]
    assert card["source"] == "amazon-book" and card["name"] == "d"
    assert card["options"]["since"] == "2010" and card["options"]["item_word"] == "album"
    assert card["options"]["k_core"] == 0
    assert card["counts"]["interactions"] == card["counts"]["users"] == 1
    assert card["counts"]["dropped"] == {
        "unrated": 1,
        "duplicate (user, item), an earlier one": 1,
    }
    assert card["versions"]["duckdb"] and card["versions"]["python"]
    assert "/" not in text and str(tmp_path.name) not in text
    convert(rows, "--since", "2010", "--item_word", "album")
    assert (tmp_path / "d" / "dataset.json").read_text(encoding="utf-8") == text


def test_a_folder_with_a_card_is_not_written_over(tmp_path, capsys):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "dataset.json").write_text("{}")
    assert main(["sample", "--output_path", str(tmp_path / "d")]) == 2
    assert "already holds dataset.json; add --overwrite" in capsys.readouterr().err


def test_the_seconds_of_a_bound_are_those_of_utc():
    assert (
        Subset(since="2015-03-01").seconds()[0]
        == datetime(2015, 3, 1, tzinfo=timezone.utc).timestamp()
    )
    with pytest.raises(UsageError, match="subset=even is unknown"):
        Subset(subset="even")
