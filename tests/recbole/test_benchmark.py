"""A grid that is killed goes on, a changed setting runs its cells alone, what fails is a note."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from recbole_exp3rt.benchmark import benchmark, grid_of
from recbole_exp3rt.cli.main import main
from recbole_exp3rt.errors import UsageError

ORACLE = {"name": "EXP3RT: oracle", "model": "EXP3RT", "settings": {"student": "oracle"}}
GRID = {
    "title": "tiny",
    "datasets": ["sample"],
    "systems": ["MF", ORACLE],
    "seeds": 2,
    "settings": {"eval_pairs": 12, "explanations": 0},
}
ROWS = ["Bias", "MF", "EXP3RT: oracle"]
CELLS = [f"sample · {name} · seed {seed}" for seed in (2020, 2021) for name in ROWS]
SCRIPT = """
import json, sys
from recbole_exp3rt.benchmark import benchmark, grid_of
values, options = json.load(open(sys.argv[1]))
benchmark(grid_of(values), **options)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory, sample_files) -> Path:
    folder = tmp_path_factory.mktemp("grids")
    shutil.copytree(sample_files, folder / "sample")
    return folder


def options(folder, world, **more):
    """What every benchmark here is called with."""
    own = {"data_path": str(world), "epochs": 1, "use_gpu": False}
    own |= {"store_path": str(folder / "answers.sqlite"), "fit_cache": str(folder / "fits")}
    return {"output": str(folder / "out"), "systems": ROWS, "settings": own | more}


def start(values, given):
    """Run the grid -> what it has, and what it prints."""
    console = Console(file=io.StringIO(), width=200)
    found = benchmark(grid_of(values), **given, console=console)
    return found, console.file.getvalue()


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """The folder of a benchmark that was killed in its middle and went on to its end."""
    folder = tmp_path_factory.mktemp("killed")
    given = options(folder, world)
    (folder / "grid.json").write_text(json.dumps([GRID, given]))
    command = [sys.executable, "-c", SCRIPT, str(folder / "grid.json")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    log = folder / "out" / "benchmark.log"
    process = subprocess.Popen(command, cwd=folder, env=environment)
    while not log.exists() or len(log.read_text().splitlines()) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    files = sorted((folder / "out" / "cells").rglob("*.json"))
    before = {file: file.read_bytes() for file in files}
    assert 2 <= len(files) < len(CELLS)
    found, said = start(GRID, given)
    return folder, before, found, said


def test_a_killed_grid_goes_on_and_runs_no_finished_cell_again(finished, world):
    folder, before, found, said = finished
    assert found.ran == CELLS[len(before) :] and found.code == 0 and not found.notes
    assert f"{len(before)} of 6 cells are finished already" in said and "left" in said
    assert all(file.read_bytes() == content for file, content in before.items())
    log = (folder / "out" / "benchmark.log").read_text().splitlines()
    assert [sum(cell in line for line in log) for cell in CELLS] == [1] * 6
    assert all("RMSE" in line for line in log)
    found, _ = start(GRID, options(folder, world))
    assert found.ran == [] and len(found.results) == 6
    with pytest.raises(UsageError, match=r"results of another grid, tiny; .*--output"):
        benchmark("quick", **options(folder, world) | {"systems": []})


def test_its_tables_have_each_row_once_with_all_seeds(finished):
    _, _, found, said = finished
    table = next(one for one in found.tables if (one.task, one.view) == ("rating", "all"))
    assert sorted(line.system for line in table.lines) == sorted(["constant", *ROWS])
    assert {line.seeds for line in table.lines} == {2}
    assert "EXP3RT: oracle (2 seeds)" in said and "±" in said
    for line in table.lines:
        values = [
            row.metrics["rmse"]
            for results in found.results
            for row in results.rows
            if (row.name, row.slice) == (line.system, "all")
        ]
        assert len(values) == 2  # one a seed
        assert line.figures[0].value == pytest.approx(sum(values) / 2, abs=1e-3)
    assert found.files and all(file.exists() for file in found.files)


def test_a_changed_setting_runs_its_cells_alone_and_says_why(finished, world):
    folder, _, _, _ = finished
    changed = {**ORACLE, "settings": {"student": "oracle", "profile_reviews": 3}}
    found, said = start({**GRID, "systems": ["MF", changed]}, options(folder, world))
    assert found.ran == [cell for cell in CELLS if "oracle" in cell]
    assert "seed 2021 is run again: profile_reviews=3, was None" in said
    given = {**options(folder, world), "report": folder / "told"}
    found, _ = start(GRID, given)
    assert found.ran == []  # the old results are there still
    (folder / "told" / "report.md").write_text("an earlier report of this grid")
    start(GRID, given)
    assert "MF" in (folder / "told" / "report.md").read_text()
    with pytest.raises(UsageError, match=r"report.*is there already"):
        start({**GRID, "title": "other"}, {**given, "output": folder / "other"})


def test_a_dry_run_counts_and_runs_nothing(world, tmp_path):
    given = {**options(tmp_path, world), "dry_run": True, "seeds": 1}
    found, said = start(GRID, given)
    (line,) = [line for line in said.splitlines() if "EXP3RT: oracle" in line]
    assert int(line.split("seed 2020")[1].split()[0].replace(",", "")) > 12
    assert "3 to run" in said and not found.results and not (tmp_path / "out").exists()


def test_what_is_not_here_is_a_note_and_what_is_wrong_is_an_exit_code(world, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    served = {"name": "served", "model": "LLMRec", "settings": {"student": "openai:gpt-4o"}}
    values = {**GRID, "seeds": 1, "datasets": ["nowhere", "sample"], "systems": ["MF", served]}
    values["paper"] = {"source": "a table", "figures": {"there": {"MF": {"rmse": 1.25}}}}
    values["datasets"] = [{"name": "nowhere", "paper": "there"}, "sample"]
    given = options(tmp_path, world) | {"systems": ["MF", "served"]}
    found, said = start(values, given)
    assert found.ran == [CELLS[0], CELLS[1]] and found.code == 0
    texts = " ".join(said.split())
    assert "note: nowhere: data set nowhere does not exist" in texts
    assert "note: sample · served · seed 2020: openai:gpt-4o needs a key" in texts
    assert "nowhere: the paper alone; ours n/a" in texts and "1.2500" in texts
    (report,) = (file for file in found.files if file.name == "report.md")
    assert "openai:gpt-4o needs a key" in report.read_text(encoding="utf-8")

    wrong = {"name": "wrong", "model": "MF", "settings": {"embedding_size": -1}}
    values = {**GRID, "seeds": 1, "systems": [wrong, "MF"]}
    found, said = start(values, given | {"systems": []} | {"systems": ["wrong", "MF"]})
    assert found.ran == [] and found.code == 2
    assert "embedding_size=-1 is not above 0" in said and len(found.results) == 2


def test_a_row_trains_its_student_and_another_asks_it(world, tiny, tmp_path):
    train = {"base": tiny, "epochs": 1, "batch_size": 3, "rank": 2, "alpha": 4, "valid_rows": 2}
    steps = {"preference_model": "oracle", "profile_model": "oracle", "max_new_tokens": 4}
    own = {"name": "trained", "model": "EXP3RT", "train": train, "settings": steps}
    switched = {**own, "name": "switched", "student_of": "trained"}
    switched["settings"] = {**steps, "use_bias": False}
    del switched["train"]
    values = {**GRID, "seeds": 1, "systems": [switched, own]}
    values["settings"] = {"eval_pairs": 3, "annotate_pairs": 6, "explanations": 0}
    given = options(tmp_path, world, student=tiny) | {"systems": ["trained", "switched"]}
    found, said = start(values, given)
    assert not found.notes and found.ran[-2:] == [
        "sample · trained · seed 2020",
        "sample · switched · seed 2020",
    ]
    (student,) = (tmp_path / "out" / "students").iterdir()
    asked = {
        results.about["cell"]["system"]: results.about.get("steps", {}).get("rating", "")
        for results in found.results
    }
    assert f"+{student.name}@" in asked["trained"] and asked["switched"] == asked["trained"]
    assert "trained: trains a student of its own" in said
    assert "switched: asks the student of trained, which is not trained again" in said
    card = student / "exp3rt_card.json"
    before = card.stat().st_mtime_ns
    given["settings"]["eval_pairs"] = 4
    found, _ = start(values, given | {"systems": ["trained"]})
    assert len(found.ran) == 2 and card.stat().st_mtime_ns == before  # measured again, not trained


FOREIGN = {
    "dataset": "theirs",
    "seed": 1,
    "rated": {
        "users": ["a", "a", "b", "c"],
        "items": ["x", "y", "x", "y"],
        "ratings": [1, 5, 3, 4],
        "train_ratings": [5, 5, 2, 0],
        "scale": [1, 5],
    },
}


def foreign(path, **predicted):
    rated = {**FOREIGN["rated"], "predicted": predicted}
    path.write_text(json.dumps({**FOREIGN, "rated": rated}))
    return str(path)


def test_files_of_other_programs_are_compared(tmp_path, capsys):
    a = foreign(tmp_path / "a.json", Bias=[3, 3, 3, 3], mine=[1, 5, 3, 4])
    b = foreign(tmp_path / "b.json", theirs=[2, 4, None, 3])
    report = tmp_path / "report"
    assert main(["compare", f"best={b}", a, f"--report={report}"]) == 0
    said = capsys.readouterr().out
    assert "theirs: Rating prediction" in said
    mine = [line for line in said.splitlines() if line.strip().startswith("mine")]
    assert mine and all("0.0000" in line for line in mine)
    assert "on the rows that every system answered" in said  # one of b's is missing
    assert any(line.strip().startswith("best") for line in said.splitlines())
    assert any(report.iterdir())
    assert main(["compare", a, b, f"--report={report}"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "none.json"), a]) == 2
    (tmp_path / "bad.json").write_text("[]")
    assert main(["compare", str(tmp_path / "bad.json"), a]) == 2
    assert all(line.startswith("error: ") for line in capsys.readouterr().err.splitlines())
