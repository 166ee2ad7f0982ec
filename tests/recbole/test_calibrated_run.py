"""A run with a calibration: its rows stand beside the raw ones, in the tables and the file."""

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from recbole_exp3rt.evaluator.comparison import compare
from recbole_exp3rt.evaluator.results import Results
from recbole_exp3rt.quick_start.quick_start import run


@pytest.fixture(scope="module")
def world(tmp_path_factory, sample_files) -> Path:
    folder = tmp_path_factory.mktemp("calibrated")
    shutil.copytree(sample_files, folder / "sample")
    return folder


def calibrated(world: Path, **values):
    """What a run of the oracle says, and its results."""
    own = {"student": "oracle", "eval_pairs": 50, "rerank_users": 3, "baselines": []}
    own |= {"data_path": str(world), "store_path": str(world / "answers.sqlite"), "epochs": 1}
    own |= {"generator": "BPR", "use_gpu": False, "calibration_pairs": 100}
    console = Console(file=io.StringIO(), width=120)
    results = run("EXP3RT", "sample", config_dict=own | values, console=console)
    return console.file.getvalue(), results


def overall(results, task):
    return {r.name: r for r in results.rows if r.slice == "all" and r.task == task}


def test_a_blend_has_its_row_in_both_tables_and_its_weights_in_the_result(world, tmp_path):
    file = tmp_path / "result.json"
    said, results = calibrated(world, calibration="blend", result_file=str(file))
    ratings, rankings = overall(results, "rating"), overall(results, "rerank")
    assert list(ratings) == ["constant", "Bias", "EXP3RT", "EXP3RT (blend)"]
    assert list(rankings) == ["BPR", "BPR + Bias", "BPR + EXP3RT", "BPR + EXP3RT (blend)"]
    assert ratings["EXP3RT (blend)"].calls > 0  # validation pairs cost their own row
    assert rankings["BPR + EXP3RT (blend)"].calls == 0  # what is known is mixed, not asked
    check_tables(Results.read(file))
    blend = json.loads(file.read_text())["calibration"]
    assert blend["kind"] == "blend" and blend["pairs"] == blend["answered"] == 100
    assert blend["slope"] + blend["bias_weight"] == pytest.approx(1) and blend["intercept"] == 0
    told = f"EXP3RT (blend): weight {blend['slope']:.3f}, of Bias {blend['bias_weight']:.3f}"
    assert f"{told} (100 of 100 validation pairs)" in said


def check_tables(kept: Results) -> None:
    """The metrics that are computed from the kept rows and lists are RecBole's."""
    measured = {(r.task, r.name, r.slice): r for r in kept.rows}
    for table in compare([kept], draws=50):
        for line in table.lines:
            for column, figure in zip(table.columns, line.figures, strict=True):
                if line.system.endswith("perfect order"):
                    continue
                row = measured[table.task, line.system, column.slice]
                assert figure.value == pytest.approx(row.metrics[column.metric], abs=2e-4)
                assert (column.rows, column.users) == (row.n, row.users)
    assert {table.task for table in compare([kept], draws=50)} == {"rating", "rerank"}


def test_the_raw_row_is_the_same_with_and_without_a_calibration(world):
    rows = {
        kind: overall(calibrated(world, calibration=kind, task="rating")[1], "rating")
        for kind in ("none", "affine")
    }
    assert list(rows["affine"]) == [*rows["none"], "EXP3RT (affine)"]
    assert rows["affine"]["EXP3RT"].metrics == rows["none"]["EXP3RT"].metrics
    assert rows["affine"]["EXP3RT (affine)"].metrics != rows["none"]["EXP3RT"].metrics


def test_without_validation_rows_the_ratings_stay_as_they_are_and_the_run_says_so(world):
    split = {"split": {"RS": [9, 0, 1]}, "group_by": "user", "order": "TO"}
    with pytest.warns(UserWarning, match="no validation rows"):
        said, results = calibrated(world, calibration="affine", task="rating", eval_args=split)
    assert "EXP3RT (affine): not calibrated, 0 validation answers, fewer than 10" in said
    rows = overall(results, "rating")
    assert rows["EXP3RT (affine)"].metrics == rows["EXP3RT"].metrics
