"""IMDb reviews as JSON, and IMDb's tables as the metadata of movies."""

import csv
import gzip
import json

import pytest

from dataset_converters.__main__ import main
from dataset_converters.cleaning import Dropped
from dataset_converters.imdb_json import ImdbJsonSource, review
from dataset_converters.imdb_tables import Asked, ImdbTables, number_of
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.records import Review

PARTS = {
    "review_id": "rw1",
    "reviewer": "ann",
    "movie": "The Lamp (1999)",
    "rating": "8",
    "review_summary": "So  <br/>it is",
    "review_date": "30 January 2019",
    "spoiler_tag": 0,
    "review_detail": "Calm &amp; clear.",
    "helpful": ["2", "5"],
}
LINES = {
    "review_date": "30 January 2019",
    "movie_id": "tt0000009",
    "user_id": "ur1",
    "is_spoiler": False,
    "review_text": "Calm.",
    "rating": "8",
    "review_summary": "So",
}
TIME = 1548806400.0


def convert(path, out, *options, code=0):
    arguments = ["imdb", "--input_path", str(path), "--output_path", str(out), "--k_core", "0"]
    assert main([*arguments, "--overwrite", *map(str, options)]) == code


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [tuple(row.values()) for row in csv.DictReader(file, delimiter="\t")]


def test_a_review_of_the_parts():
    assert review(PARTS) == Review(
        "ann", "The Lamp (1999)", 8.0, "Calm & clear.", "So it is", TIME, 2
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"rating": None}, "unrated"),
        ({"rating": "Null"}, "unrated"),
        ({"rating": 8}, 8.0),
        ({"rating": "8/10"}, 8.0),
        ({"rating": "eight"}, "malformed"),
        ({"review_date": None}, "unreadable date"),
        ({"review_date": "31 February 2019"}, "unreadable date"),
        ({"review_date": "2019-01-30"}, TIME),
        ({"review_date": "30 Jan 2019"}, TIME),
        ({"review_date": 1548806400}, TIME),
        ({"helpful": None}, 0),
        ({"helpful": []}, 0),
        ({"helpful": ["1,204", "2,000"]}, 1204),
        ({"helpful": "12 out of 15 found this helpful"}, 12),
        ({"helpful": 3}, 3),
        ({"reviewer": ["a"]}, "malformed"),
        ({"review_detail": None}, ""),
    ],
)
def test_awkward_values(change, expected):
    found = review(PARTS | change)
    if isinstance(found, Dropped):
        assert found.reason == expected
    else:
        assert expected in (found.rating, found.timestamp, found.helpful, found.text)


def awkward():
    """Rows of the parts with values of many kinds, in the order of the input."""
    odd = [None, "", "8/10", 8, 8.5, "NaN", True, [], {"a": 1}, "1,204", ["3"], "x" * 1001, " y "]
    odd += ["3 May 2019", "12 out of 15", "é\n<b>", 0, "0", "\ud83d", ["2,000", "3"], 1e300]
    rows = [dict(PARTS, reviewer=f"u{n}") for n in range(3)]
    rows += [PARTS | {key: value, "review_id": "x"} for key in PARTS for value in odd]
    return [*rows, *({k: v for k, v in PARTS.items() if k != key} for key in PARTS), LINES, 3, []]


@pytest.mark.parametrize("packed", [False, True])
def test_the_engine_reads_what_python_reads(tmp_path, packed):
    """Each row is kept or dropped by the same rule, in a list and in lines."""
    rows = [row for row in awkward() for _ in range(2)]
    (tmp_path / "in").mkdir()
    first = json.dumps(rows[:200], indent=1).encode()
    second = b"\xef\xbb\xbf" + b"\r\n\r\n".join(json.dumps(row).encode() for row in rows[200:])
    (tmp_path / "in" / "part-01.json").write_bytes(gzip.compress(first) if packed else first)
    (tmp_path / "in" / "part-02.jsonl").write_bytes(second)
    convert(tmp_path / "in", tmp_path / "d", "--rejects", tmp_path / "x.csv")
    expected: dict[tuple[str, str], Review] = {}
    reasons = []
    for found in ImdbJsonSource(tmp_path / "in").reviews():
        if isinstance(found, Dropped):
            reasons.append(found.reason)
            continue
        pair = found.user.strip(), found.item.strip()
        if pair not in expected or found.timestamp >= expected[pair].timestamp:
            expected[pair] = found
    kept = {row[:2]: row[2:] for row in table(tmp_path / "d" / "d.inter")}
    usable = {
        pair: (str(float(one.rating)), str(float(one.timestamp)), str(one.helpful))
        for pair, one in expected.items()
        if 1 <= one.rating <= 10
        and all(pair)
        and max(map(len, pair)) <= 1000
        and all(part.isprintable() and part != "NaN" for part in pair)
    }
    assert kept == usable
    with (tmp_path / "x.csv").open() as file:
        told = [line["reason"] for line in csv.DictReader(file)]
    for reason in ("unrated", "malformed", "unreadable date"):
        assert told.count(reason) == reasons.count(reason) > 0, reason


def test_parts_of_a_folder_lines_and_metadata(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    lines = [LINES, LINES | {"user_id": "ur2", "rating": None}, LINES | {"movie_id": "tt0000010"}]
    (folder / "reviews").write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    details = {"movie_id": "tt0000009", "plot_summary": "A lamp.", "genre": ["Drama", "War"]}
    (tmp_path / "about.json").write_text(json.dumps(details) + "\n3\n")
    convert(folder / "reviews", tmp_path / "d", "--metadata", tmp_path / "about.json")
    assert table(tmp_path / "d" / "d.item") == [
        ("tt0000009", "tt0000009", "Drama, War", "", "", "A lamp."),
        ("tt0000010", "tt0000010", "", "", "", ""),
    ]
    assert capsys.readouterr().out.splitlines() == [
        "d: 1 users, 2 items, 2 interactions, density 1.0000",
        "  dropped 1: unrated",
        "  noted 1: metadata row left out: no record with an item id",
    ]


def test_a_pattern_and_a_folder_name_the_same_files(tmp_path):
    (tmp_path / "in").mkdir()
    for number in (1, 2):
        row = PARTS | {"reviewer": f"u{number}"}
        (tmp_path / "in" / f"part-{number}.json").write_text(json.dumps([row]))
    (tmp_path / "in" / "movie_metadata.jsonl").write_text("{}")
    convert(tmp_path / "in", tmp_path / "a")
    convert(tmp_path / "in" / "part-*.json", tmp_path / "b")
    assert table(tmp_path / "a" / "a.inter") == table(tmp_path / "b" / "b.inter")
    assert len(table(tmp_path / "a" / "a.inter")) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.json is empty"),
        ("\n\n", "r.json is empty"),
        ("[]", "r.json has no JSON object"),
        ('{"reviewer": "a", "movie": "m", "rating": 3}', "lacks a field for date: review_date or"),
        ('[{"who": "a", "what": 3}]', "its fields are who, what"),
        ("no json", "is not a folder"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, capsys, text, message):
    (tmp_path / "r.json").write_text(text)
    convert(tmp_path / "r.json", tmp_path / "d", code=2)
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "d").exists()


# IMDb's tables

COLUMNS = "tconst titleType primaryTitle originalTitle isAdult startYear endYear runtimeMinutes"
BASICS = (
    "\t".join([*COLUMNS.split(), "genres"])
    + """
tt0000001\tmovie\tThe Lamp\tDie Lampe\t0\t1999\t\\N\t90\tDrama,War
tt0000002\ttvSeries\tThe Lamp\tThe Lamp\t0\t1999\t2003\t30\tComedy
tt0000003\tmovie\tThe Lamp\tThe Lamp\t0\t2005\t\\N\t90\t\\N
tt0000004\tmovie\t3:10 to "Bell\t3:10 to "Bell\t0\t2007\t\\N\t90\tWestern
tt0000005\tmovie\tBell\tBell\t0\t2010\t\\N\t90\tDrama
tt0000006\tmovie\tBELL!\tBell\t0\t2010\t\\N\t90\tHorror
tt0000007\ttvEpisode\tOnly an Episode\tOnly an Episode\t0\t2010\t\\N\t30\tDrama
tt0000008\tmovie\tUntold\tUntold\t0\t\\N\t\\N\t\\N\t\\N
broken line
"""
)
CREW = "tconst\tdirectors\twriters\ntt0000001\tnm2,nm1\t\\N\ntt0000004\t\\N\t\\N\n"
PRINCIPALS = "tconst\tordering\tnconst\tcategory\tjob\tcharacters\n" + "".join(
    f"tt0000001\t{n}\tnm{n}\t{'producer' if n == 4 else 'actor'}\t\\N\t\\N\n"
    for n in (7, 3, 5, 4, 6)
)
PRINCIPALS += "tt0000004\t1\tnm1\tdirector\t\\N\t\\N\n"
NAMES = "nconst\tprimaryName\tbirthYear\n" + "".join(f"nm{n}\tName {n}\t\\N\n" for n in range(1, 7))
RATINGS = "tconst\taverageRating\tnumVotes\ntt0000005\t6.1\t10\ntt0000006\t5.1\t900\n"
AKAS = "titleId\tordering\ttitle\tregion\n" + "tt0000003\t1\tLámpara\tES\n"


@pytest.fixture
def tsv(tmp_path):
    folder = tmp_path / "tsv"
    folder.mkdir()
    (folder / "title.basics.tsv").write_bytes(b"\xef\xbb\xbf" + BASICS.encode())
    (folder / "title.crew.tsv.gz").write_bytes(gzip.compress(CREW.encode()))
    (folder / "title.principals.tsv").write_bytes(PRINCIPALS.replace("\n", "\r\n").encode())
    (folder / "name.basics.tsv").write_bytes(gzip.compress(NAMES.encode()))
    (folder / "title.ratings.tsv").write_text(RATINGS)
    (folder / "title.akas.tsv").write_text(AKAS, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Asked("tt0000002", None, None), "The Lamp (1999) Comedy"),
        (Asked("tt0000008", None, None), "Untold "),
        (Asked(None, "the lamp", "1999"), "The Lamp (1999) Drama, War"),  # films before series
        (Asked(None, "Die Lampe", "1999"), "The Lamp (1999) Drama, War"),  # the original title
        (Asked(None, "The Lamp", "2005"), "The Lamp (2005) "),
        (Asked(None, "La\u0301mpara", "2005"), "The Lamp (2005) "),  # a title of another country
        (Asked(None, "3_10 to Bell", "2007"), '3:10 to "Bell (2007) Western'),
        (Asked(None, "Bell", "2010"), "BELL! (2010) Horror"),  # more votes
        (Asked("tt0000099", "The Lamp", "2005"), "The Lamp (2005) "),  # a number that is not there
        (Asked("tt0000007", None, None), "Only an Episode (2010) Drama"),
        (Asked(None, "Only an Episode", "2010"), None),
        (Asked(None, "The Lamp", None), None),
        (Asked(None, "???", "2010"), None),
        (Asked(None, None, None), None),
    ],
)
def test_a_movie_is_found_by_number_or_by_title_and_year(tsv, asked, expected):
    found = ImdbTables(tsv).find({"x": asked})
    if expected is None:
        assert found == {}
    else:
        assert f"{found['x']['title']} {found['x']['genres']}" == expected


def test_directors_are_those_of_the_crew_and_the_cast_is_in_order(tsv):
    tables = ImdbTables(tsv)
    found = tables.find({n: Asked(n, None, None) for n in ("tt0000001", "tt0000004")})
    assert found["tt0000001"]["directors"] == "Name 2, Name 1"
    assert found["tt0000001"]["cast"] == "Name 3, Name 5, Name 6"
    assert found["tt0000004"]["directors"] == "Name 1", "the principals' where the crew has none"
    assert tables.said == ["  IMDb tables: 2 of 2 items found, 2 by number, 0 by title and year"]


def test_tables_describe_json_reviews_and_metadata_comes_first(tsv, tmp_path, capsys):
    rows = [PARTS, PARTS | {"movie": "Bell (2010– )"}, PARTS | {"movie": "Nowhere (1901)"}]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    about = {"title": "Bell", "year": 2010, "movie": "Bell (2010– )", "genres": "Fantasy"}
    (tmp_path / "about.jsonl").write_text(json.dumps(about))
    convert(
        tmp_path / "r.json",
        tmp_path / "d",
        *("--imdb_tsv", tsv, "--metadata", tmp_path / "about.jsonl"),
    )
    assert [row[:3] for row in table(tmp_path / "d" / "d.item")] == [
        ("Bell (2010– )", "Bell (2010)", "Fantasy"),
        ("Nowhere (1901)", "Nowhere (1901)", ""),
        ("The Lamp (1999)", "The Lamp (1999)", "Drama, War"),
    ]
    assert "IMDb tables: 2 of 3 items found, 0 by number, 2 by title and year" in (
        capsys.readouterr().out
    )


def test_tables_describe_the_csv_files(tsv, tmp_path):
    head = '"username","rating","helpful","total","date","title","review"\n'
    line = '"ann","8","1","2","30 January 2019","So","Good."\n'
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("The Lamp 1999", "3_10 to _Bell 2007", "Numbered 2000"):
        (folder / f"{name}.csv").write_text(head + line)
    known = {"file": "Numbered 2000.csv", "tconst": "tt0000005", "title": "Ours", "plot": "P"}
    (folder / "movie_metadata.jsonl").write_text(json.dumps(known))
    convert(folder, tmp_path / "d", "--imdb_tsv", tsv)
    assert table(tmp_path / "d" / "d.item") == [
        ("3_10 to _Bell 2007", '3:10 to "Bell (2007)', "Western", "Name 1", "", ""),
        (
            "The Lamp 1999",
            "The Lamp (1999)",
            "Drama, War",
            "Name 2, Name 1",
            "Name 3, Name 5, Name 6",
            "",
        ),
        ("tt0000005", "Ours (2000)", "Drama", "", "", "P"),
    ]


def test_only_title_basics_is_needed(tsv):
    for path in tsv.iterdir():
        if path.name != "title.basics.tsv":
            path.unlink()
    tables = ImdbTables(tsv)
    assert tables.find({"a": Asked(None, "Bell", "2010")})["a"]["title"] == "Bell (2010)"
    assert tables.said[0].endswith(
        "without title.ratings, title.crew, title.principals, name.basics"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no title.basics.tsv"),
        ("", "is empty"),
        ("tconst\tprimaryTitle\n", "lacks the column titleType, originalTitle, startYear, genres"),
    ],
)
def test_a_folder_without_usable_tables(tmp_path, text, message):
    if text is not None:
        (tmp_path / "title.basics.tsv").write_text(text)
    with pytest.raises(UsageError, match=message):
        ImdbTables(tmp_path)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("tt0111161", "tt0111161"),
        ("/title/tt0111161/", "tt0111161"),
        ("0111161", "tt0111161"),
        ("111161", "tt0111161"),
        ("The Lamp (1999)", None),
        ("1999", None),
        (7, None),
    ],
)
def test_numbers_of_movies(text, number):
    assert number_of(text) == number
