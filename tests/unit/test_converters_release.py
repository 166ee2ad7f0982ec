"""The authors' release whole: each part of each data set, and the test rows kept apart."""

import json

import pytest
import yaml

from dataset_converters.__main__ import main
from dataset_converters.release import convert_released, parts_of
from recbole_exp3rt.errors import UsageError

SECRET = "secret of the test part"
PROFILE = f"[Like]\n- {SECRET}\n\n[Dislike]\n- None\n\n[Average Rating]\n4.5"
TOLD = "[Like]\n- calm score\n\n[Dislike]\n- None\n---\n[Like]\n- None.\n\n[Dislike]\n- haste\n---"


def test_row(**change):
    row = {"user_id": "/user/1/", "item_id": "0001", "user_persona": PROFILE, "score": "9"}
    return row | {"item_synopsis": PROFILE, "item_description": "Title: T\nPlot: P"} | change


test_row.__test__ = False  # a row of their test part, no test


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def write_topk(folder, items_in=""):
    write(folder / "user_list.txt", "org_id remap_id\n/user/1/ 0\n/user/2/ 1\n")
    write(folder / items_in / "item_list.txt", "org_id remap_id\n0001 0\n0002 1\n0003 2\n")
    write(folder / "train.txt", "0 0 1\n1 2\n")
    write(folder / "test.txt", "0 2\n1 0\n")


def write_profiles(folder):
    entry = {"instruction": "", "input": TOLD, "output": "[Like]\n- Calm\n\n[Dislike]\n- Haste"}
    for side in ("user", "item"):
        for name in ("valid", "test"):
            write(folder / f"{side}_profile" / f"{side}_{name}.json", [entry])


@pytest.fixture
def release(tmp_path):
    """Two data sets in the authors' tree; their second split and older copies stand in it, too."""
    data = tmp_path / "EXP3RT" / "data"
    for name in ("imdb", "amazon-book"):
        write_profiles(data / name)
        write_topk(data / "topk" / name, items_in="org" if name == "imdb" else "")
        write(data / "topk" / name / "org" / "train.txt", "0 0\n")
    write(data / "imdb" / "rating_bias" / "test_helpful.json", [test_row(), test_row(score="x")])
    write(data / "imdb" / "rating_bias" / "test_similarity.json", [test_row(score=8)])
    profiles = [{"user_id": "/user/1/", "user_persona": "no lists"}]
    write(data / "imdb" / "user_profile" / "user_profile.json", profiles)
    unseen = test_row(rationale="Because.", score="1")
    write(data / "amazon-book" / "rating_bias" / "unseen.json", [unseen])
    return tmp_path / "EXP3RT"


def convert(folder, out, *options, code=0):
    arguments = ["exp3rt", "--input_path", str(folder), "--output_path", str(out)]
    assert main([*arguments, *options]) == code


def test_each_part_of_each_data_set_has_a_folder(release, tmp_path, capsys):
    out = tmp_path / "out"
    convert(release, out)
    assert sorted(path.name for path in out.iterdir()) == [
        f"{name}-{part}"
        for name in ("amazon-book", "imdb")
        for part in ("profiles", "released", "topk")
    ]
    settings = yaml.safe_load((out / "amazon-book-topk" / "amazon-book-topk.yaml").read_text())
    assert settings["item_word"] == "book" and settings["rating_scale"] == [1, 5]
    pairs = (out / "imdb-topk" / "imdb-topk.test.inter").read_text().splitlines()[1:]
    assert pairs == ["/user/1/\t0003", "/user/2/\t0001"]
    card = json.loads((out / "imdb-topk" / "dataset.json").read_text())
    assert card["counts"]["parts"] == {"train": 3, "valid": 0, "test": 2}
    said = capsys.readouterr().out.splitlines()
    assert "  test_helpful.jsonl: 1 rows" in said and "  dropped 1: malformed" in said


def test_test_rows_and_their_averages_stand_in_no_other_folder(release, tmp_path):
    out = tmp_path / "out"
    convert(release, out)
    holding = {
        path.parent.name for path in out.rglob("*") if path.is_file() and SECRET in path.read_text()
    }
    assert holding == {"imdb-released", "amazon-book-released"}
    for folder in holding:
        assert not [path for path in (out / folder).iterdir() if path.suffix in (".inter", ".yaml")]
    (row,) = map(json.loads, (out / "amazon-book-released" / "unseen.jsonl").open())
    profile = {"likes": [SECRET], "dislikes": [], "average_rating": 4.5}
    assert row == {
        "user_id": "/user/1/",
        "item_id": "0001",
        "rating": 1.0,
        "user_profile": profile,
        "item_profile": profile,
        "item_description": "Title: T\nPlot: P",
        "rationale": "Because.",
    }
    note = json.loads((out / "imdb-released" / "dataset.json").read_text())["counts"]["note"]
    assert "test rows included" in note


def test_a_profile_of_another_form_keeps_its_text(release, tmp_path):
    convert(release, tmp_path / "out")
    (row,) = map(json.loads, (tmp_path / "out" / "imdb-released" / "user_profile.jsonl").open())
    assert row["likes"] is None and row["text"] == "no lists"


def test_all_or_nothing(release, tmp_path, capsys):
    out = tmp_path / "out"
    write(release / "data" / "imdb" / "rating_bias" / "test_helpful.json", "[]")
    convert(release, out, code=2)
    assert "test_helpful.json has no readable row (it is empty)" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["EXP3RT"]


def test_what_is_there_is_replaced_only_when_told(release, tmp_path, capsys):
    out = tmp_path / "out"
    convert(release, out)
    write(out / "mine" / "notes.txt", "mine")
    convert(release, out, code=2)
    assert "already holds amazon-book-profiles; add --overwrite" in capsys.readouterr().err
    write(out / "imdb-topk" / "old.txt", "old")
    convert(release, out, "--overwrite")
    assert not (out / "imdb-topk" / "old.txt").exists() and (out / "mine" / "notes.txt").exists()
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_dry_run_of_all_and_of_a_part(release, tmp_path, capsys):
    for options in ([], ["--part", "topk"], ["--part", "released"]):
        folder = release / "data" / ("topk/imdb" if "topk" in options else "imdb")
        convert(folder if options else release, tmp_path / "out", "--dry_run", *options)
        assert capsys.readouterr().out.endswith("  dry run: nothing was written\n")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["EXP3RT"]


def test_a_flat_folder_has_no_name_before_its_parts(tmp_path):
    write_topk(tmp_path / "in" / "topk")
    write(tmp_path / "in" / "test_helpful.json", [test_row()])
    assert parts_of(tmp_path / "in") == {
        "": {"released": tmp_path / "in", "topk": tmp_path / "in" / "topk"}
    }
    convert(tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["released", "topk"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--since", "2015"], "part all has no ratings; leave it out"),
        (["--k_core", "5"], "k_core belongs to one part"),
        (["--part", "released", "--rating_scale", "1", "5"], "rating_scale: released keep theirs"),
    ],
)
def test_options_that_a_part_has_not(release, tmp_path, capsys, options, message):
    convert(release, tmp_path / "out", *options, code=2)
    assert message in capsys.readouterr().err


def test_folders_without_a_release(tmp_path):
    with pytest.raises(UsageError, match="holds nothing of the release"):
        parts_of(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        parts_of(tmp_path / "none")
    with pytest.raises(UsageError, match=r"has none of test_helpful\.json"):
        convert_released(tmp_path, tmp_path / "out")
