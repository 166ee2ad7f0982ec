"""`--train=True`: from reviews to a table with the student; errors come before any work."""

import io
import json

import pytest
from rich.console import Console

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.quick_start.quick_start import run


def test_a_run_without_a_step_for_the_student_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="a model is named for every step"):
        run("EXP3RT", "sample", config_dict={"train": True, "rating_model": "oracle"})
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["run.log"]


LITTLE = {
    "train": True,
    "train_dir": "taught",
    "annotate_pairs": 6,
    "train_args": {"epochs": 1, "batch_size": 3, "rank": 2, "alpha": 4, "valid_rows": 2},
    "task": "rating",
    "eval_pairs": 2,
    "max_new_tokens": 4,
    "baselines": [],
    "use_gpu": False,
}


def test_from_reviews_to_a_student_in_the_table(home, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {**LITTLE, "data_path": str(home / "dataset"), "student": tiny}
    out = Console(file=io.StringIO(), width=200)
    results = run("EXP3RT", "sample", config_dict=given, console=out)
    student = tmp_path / "taught"
    assert f"+{student.name}@" in results.about["steps"]["rating"]
    (row,) = [row for row in results.rows if row.name == "EXP3RT" and row.slice == "all"]
    assert row.calls and row.metrics["rmse"] > 0
    card = json.loads((student / "exp3rt_card.json").read_text(encoding="utf-8"))
    assert 0 < card["metrics"]["examples"]["rating"]["train"] <= 6

    out = Console(file=io.StringIO(), width=200)
    again = run("EXP3RT", "sample", config_dict=given, console=out)
    assert "taught, from an earlier run" in out.file.getvalue()
    assert [row.metrics for row in again.rows] == [row.metrics for row in results.rows]

    # data and students of other settings are not used
    for changed, said in [
        ({"train_args": {**LITTLE["train_args"], "rank": 4}}, "trained with rank=2, not 4"),
        ({"annotate_pairs": 7}, "annotated with annotate_pairs=6, not 7"),
        ({"profile_leave_one_out": False}, "annotated with profile_leave_one_out=True, not False"),
    ]:
        with pytest.raises(UsageError, match=said):
            run("EXP3RT", "sample", config_dict={**given, **changed})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"train_args": {"bogus": 1}}, "bogus is not a setting of a training"),
        ({"train_args": {"rank": 4096}}, "rank=4096 is larger than layer"),
        ({"train_args": 5}, "train_args=5 is not a mapping of settings"),
        ({"train_dir": "/dev/null"}, "/dev/null is not a folder"),
    ],
)
def test_a_wrong_training_is_refused_before_the_teacher_is_asked(
    changed, said, home, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    given = {**LITTLE, "data_path": str(home / "dataset"), **changed}
    with pytest.raises(UsageError, match=said):
        run("EXP3RT", "sample", config_dict=given)
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["run.log"]
