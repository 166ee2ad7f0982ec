"""Counts on real data: the figures that the project's tables start from."""

import os
from pathlib import Path

import pytest

from dataset_converters.__main__ import main

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("EXP3RT_DATA", ROOT.parent / "shared" / "data"))

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no data at {DATA}"),
]


@pytest.fixture
def convert(tmp_path, capsys):
    def run(source, *options):
        output = ["--output_path", str(tmp_path / source), "--overwrite"]
        assert main([source, *map(str, options), *output]) == 0
        return tmp_path / source, capsys.readouterr().out

    return run


@pytest.mark.parametrize("options", [[], ["--k_core", "0"]])
def test_imdb(convert, options):
    """These movies are a 5-core already."""
    _, report = convert("imdb", "--input_path", DATA / "imdb-raw-mini", *options)
    assert report.splitlines() == [
        "imdb: 400 users, 110 items, 4,423 interactions, density 0.1005",
        "  dropped 88: unrated",
        "  dropped 11: duplicate (user, item), an earlier one",
    ]


def test_digital_music_is_the_same_in_the_forms_of_2014_and_2023(convert):
    old, new = DATA / "amazon-2014-digital-music", DATA / "amazon-2023-format"
    tables = []
    for reviews, meta in (
        (old / "reviews_Digital_Music_5.json.gz", old / "meta_Digital_Music.json.gz"),
        (new / "Digital_Music.jsonl.gz", new / "meta_Digital_Music.jsonl.gz"),
    ):
        folder, report = convert("amazon-book", "--reviews", reviews, "--meta", meta)
        assert report.splitlines() == [
            "amazon-book: 268 users, 206 items, 2,480 interactions, density 0.0449",
            "  dropped 4,428: below the 5-core",
            "  unseen: 2,732 rows of 987 users below the core, 2,104 of them about its items",
        ]
        tables.append((folder / "amazon-book.inter").read_bytes())
        tables.append((folder / "amazon-book.reviews.jsonl").read_bytes())
    assert tables[:2] == tables[2:]


def test_musical_instruments_is_a_whole_5_core(convert):
    path = DATA / "amazon-2014-musical-instruments" / "reviews_Musical_Instruments_5.json.gz"
    _, report = convert("amazon-book", "--reviews", path)
    assert report == ("amazon-book: 1,429 users, 900 items, 10,261 interactions, density 0.0080\n")


def test_the_authors_top_k_split(convert):
    source = DATA / "exp3rt-imdb" / "topk"
    folder, report = convert("exp3rt", "--input_path", source, "--part", "topk")
    assert report.splitlines() == [
        "exp3rt: 791 users, 1,155 items, 14,613 interactions, density 0.0160",
        "  train: 10,014 rows",
        "  valid: 1,173 rows",
        "  test: 3,426 rows",
    ]
    kept = sum(
        len((folder / f"exp3rt.{p}.inter").open().readlines()) - 1 for p in ("train", "valid")
    )
    assert kept == sum(len(line.split()) - 1 for line in (source / "train.txt").open())


def test_the_authors_release_whole(convert):
    folder, report = convert("exp3rt", "--input_path", DATA / "exp3rt-imdb")
    assert sorted(path.name for path in folder.iterdir()) == ["profiles", "released", "topk"]
    lines = report.splitlines()
    assert lines[3:8] == [
        "released: test rows and profiles released by the authors, kept apart",
        "  test_helpful.jsonl: 2,073 rows",
        "  test_similarity.jsonl: 2,073 rows",
        "  user_profile.jsonl: 859 rows",
        "  item_profile.jsonl: 1,155 rows",
    ]
    assert "  test: 3,426 rows" in lines and "  item_profile: 115 train, 116 valid" in lines


def test_the_authors_rating_split(convert):
    _, report = convert("exp3rt", "--input_path", DATA / "imdb-aligned", "--part", "aligned")
    assert report.splitlines() == [
        "exp3rt: 348 users, 489 items, 3,993 interactions, density 0.0235",
        "  train: 3,239 rows",
        "  valid: 347 rows",
        "  test: 407 rows",
        "  dropped 40: unrated",
    ]
