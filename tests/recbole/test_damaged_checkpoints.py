"""Checkpoints with anything in any place, and a disk that is full: one line, results kept."""

import json
import random

import pytest
import torch
from worlds import structured_rows

from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.exports import WRITERS, write_table
from recbole_exp3rt.quick_start.experiment import Experiment
from recbole_exp3rt.rerank.generators import load_generator
from recbole_exp3rt.trainer.fitting import fit

# What stands where something else should.
ANYTHING = [None, 0, -1, 1e300, "", "BPR", b"\xff", [], [[1]], {}, {"a": {}}, {1: 2}, True]
PLACES = ["config", "state_dict", "other_parameter", "tokens", "split", "refitted"]


@pytest.fixture
def checkpoint(make_world):
    config = make_world(structured_rows(), model="BPR", epochs=1, reg_weight=0.01)
    split = load_split(config)
    return config, split, fit("BPR", config, split).save()


def test_anything_in_any_place_of_a_checkpoint_is_one_line_or_the_same_model(checkpoint):
    config, split, path = checkpoint
    stored = torch.load(path)
    spoilt = [{**stored, place: value} for place in PLACES for value in ANYTHING]
    for place in ("config", "state_dict", "tokens"):  # and one level deeper
        for key in list(stored[place]):
            value = random.Random(f"{place} {key}").choice(ANYTHING)
            spoilt.append({**stored, place: {**stored[place], key: value}})
    spoilt += ANYTHING
    refused = 0
    for number, one in enumerate(spoilt):
        torch.save(one, "spoilt.pth")
        try:
            load_generator("spoilt.pth", config, split)
        except UsageError as error:
            assert "spoilt.pth" in str(error) and "\n" not in str(error), (number, error)
            refused += 1
        except Exception as error:
            raise AssertionError(f"case {number}: {str(one)[:300]}") from error
    assert refused > len(PLACES) * len(ANYTHING) / 2


def test_a_checkpoint_that_was_cut_off_is_one_line(checkpoint):
    config, split, path = checkpoint
    whole = path.read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UsageError, match=r"generator=.*pth "):
            load_generator(str(path), config, split)


def test_a_full_disk_ends_an_export_in_one_line_and_the_old_table_stays(small_disk):
    import pandas as pd

    disk, make_room = small_disk
    small = pd.DataFrame({"user_id": ["a"], "rating": [1.0]})
    random.seed(1)
    large = pd.DataFrame({"user_id": [random.random().hex() for _ in range(50_000)]})
    for form in WRITERS:
        path = write_table(small, disk, "ratings", form)
        before = path.read_bytes()
        with pytest.raises(UsageError, match=rf"ratings\.{form} cannot be written: .*No space"):
            write_table(large, disk, "ratings", form)
        assert path.read_bytes() == before
        assert not list(disk.glob(".*"))
    assert make_room()
    assert write_table(large, disk, "ratings", "csv").stat().st_size > 200_000


def test_a_full_disk_keeps_no_checkpoint_but_the_results(make_world, small_disk, tmp_path):
    from rich.console import Console

    disk, _ = small_disk
    (disk / "filler").write_bytes(bytes(190_000))
    settings = {"embedding_size": 512, "epochs": 1, "search": None, "use_gpu": False}
    config = make_world(
        structured_rows(),
        model="BPR",
        save_checkpoints=True,
        checkpoint_dir=str(disk),
        result_file=str(tmp_path / "result.json"),
        **settings,
    )
    console = Console(record=True, width=200)
    Experiment(config, console).run()
    assert "note: BPR is not kept: " in console.export_text()
    assert [file.name for file in disk.iterdir()] == ["filler"]
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    assert rows[0]["name"] == "BPR"


def test_the_results_are_kept_where_exports_cannot_be(make_world, tmp_path, monkeypatch):
    from rich.console import Console

    def full(table, path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(WRITERS, "csv", full)
    result = tmp_path / "result.json"
    config = make_world(
        structured_rows(),
        model="Bias",
        use_gpu=False,
        result_file=str(result),
        export_dir=str(tmp_path / "out"),
        export_format="csv",
    )
    with pytest.raises(UsageError, match=r"ratings\.csv cannot be written: No space"):
        Experiment(config, Console(quiet=True)).run()
    assert json.loads(result.read_text())["rows"]
    assert not list((tmp_path / "out").iterdir())
