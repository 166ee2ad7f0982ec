"""What a run says before it asks, what it refuses to replace, and what its files tell later."""

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.store import Store
from recbole_exp3rt.quick_start.quick_start import run


@pytest.fixture(scope="module")
def world(tmp_path_factory, sample_files) -> Path:
    folder = tmp_path_factory.mktemp("planned")
    shutil.copytree(sample_files, folder / "sample")
    return folder


@pytest.fixture
def oracle_run(world, tmp_path):
    """oracle_run(**settings) -> what a small run prints, and its results."""

    def start(**values):
        own = {"student": "oracle", "eval_pairs": 10, "rerank_users": 2, "baselines": []}
        own |= {"data_path": str(world), "epochs": 1, "generator": "BPR", "use_gpu": False}
        own |= {"store_path": str(tmp_path / "answers.sqlite"), "explanations": 0}
        own |= {"fit_cache": str(tmp_path / "fits"), "log_file": str(tmp_path / "run.log")}
        console = Console(file=io.StringIO(), width=200)
        results = run("EXP3RT", "sample", config_dict=own | values, console=console)
        return console.file.getvalue(), results

    return start


def planned(said: str) -> dict[str, int]:
    """Step -> calls to ask, of a printed plan."""
    lines = [line.strip() for line in said.split("Plan")[1].splitlines()]
    asked = {}
    for line in lines:
        step, colon, rest = line.partition(": ")
        if step in ("preferences", "profiles", "rating") and colon:
            _, _, open_calls = rest.partition("to ask: ")
            asked[step] = (
                int(open_calls.split(": ")[1].split()[0].replace(",", "")) if open_calls else 0
            )
    return asked


def test_a_dry_run_asks_and_trains_nothing_and_its_plan_is_what_a_run_asks(oracle_run, tmp_path):
    said, results = oracle_run(dry_run=True, task="rating")
    store = Store(tmp_path / "answers.sqlite")
    assert results.rows == [] and not store.identities() and not (tmp_path / "fits").exists()
    plan = planned(said)
    assert plan["rating"] == 10 and plan["preferences"] > 10 and "no cost" in said
    _, results = oracle_run(task="rating")
    (row,) = (row for row in results.rows if (row.name, row.slice) == ("EXP3RT", "all"))
    assert sum(plan.values()) == row.calls
    said, _ = oracle_run(dry_run=True, task="rating")
    assert set(planned(said).values()) == {0} and "nothing is to be asked" in said


def test_a_plan_says_why_pairs_need_many_calls_and_what_would_be_less(oracle_run, monkeypatch):
    from recbole_exp3rt.quick_start import plan

    said, _ = oracle_run(dry_run=True, task="rating")
    assert "why so many" not in said  # of the sample's pairs, few need much
    monkeypatch.setattr(plan, "MANY", 20)
    said, _ = oracle_run(dry_run=True, task="rating")
    (why,) = (line for line in said.splitlines() if "why so many preferences" in line)
    (less,) = (line for line in said.splitlines() if "less: profile_reviews=10 would" in line)
    assert "the 10 users have" in why and "items have" in why
    limited, whole = (int(word) for word in less.split() if word.isdigit())
    # two reviews with the same words are one question
    assert limited < planned(said)["preferences"] <= whole <= planned(said)["preferences"] + 3
    said, _ = oracle_run(dry_run=True, task="rating", profile_reviews=10)
    assert limited - 3 <= planned(said)["preferences"] <= limited and "why so many" not in said


def test_a_plan_counts_the_candidates_of_every_user_and_knows_fitted_ones(oracle_run):
    said, _ = oracle_run(dry_run=True, task="rerank")
    assert planned(said)["rating"] == 2 * 20 and "are not known before it is fitted" in said
    oracle_run(task="rerank")
    said, _ = oracle_run(dry_run=True, task="rerank")
    assert set(planned(said).values()) == {0} and "To fit: BPR, which is in the cache" in said


def test_paid_work_is_planned_in_dollars_before_a_baseline_is_fitted(oracle_run, monkeypatch):
    """The oracle stands in for a model behind a server."""
    from recbole_exp3rt.quick_start import plan

    monkeypatch.setattr(plan, "is_served", lambda name: True)
    said, _ = oracle_run(task="rating")
    assert said.index("Plan") < said.index("Reading reviews") < said.index("Fitted Bias")


def test_a_second_run_fits_nothing_and_says_the_same(oracle_run):
    (_, first), (said, second) = oracle_run(), oracle_run()
    assert "Fitted BPR in 0 s" in said and said.count("from the cache") == 2
    assert [r.metrics for r in first.rows] == [r.metrics for r in second.rows]
    assert not any(row.calls for row in second.rows)


def test_a_result_is_not_replaced_without_being_asked_to(oracle_run, tmp_path):
    file = tmp_path / "result.json"
    places = {"result_file": str(file), "task": "rating"}
    oracle_run(**places)
    before = file.read_bytes()
    with pytest.raises(UsageError, match=r"result\.json is there already.*--overwrite"):
        oracle_run(**places)
    assert file.read_bytes() == before
    oracle_run(**places, overwrite=True)
    assert file.read_bytes() != before  # another date
    exported = {"export_dir": str(tmp_path), "export_format": "csv", "task": "rating"}
    (tmp_path / "profiles.jsonl").touch()
    with pytest.raises(UsageError, match=r"profiles\.jsonl is there already"):
        oracle_run(**exported)


def test_a_result_file_says_where_it_comes_from(oracle_run, tmp_path):
    oracle_run(result_file=str(tmp_path / "r.json"), task="rating")
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["date"].endswith("+00:00") and told["duration_seconds"] > 0
    assert told["machine"]["cores"] >= 1 and told["machine"]["device"] == "cpu"
    assert {"python", "torch", "recbole"} <= told["libraries"].keys()
    assert told["effective_settings"]["max_prompt_tokens"] == 1200  # that nobody gave
    assert told["version"] and told["prompts_digest"] and told["split_digest"]


def test_the_log_file_tells_each_step_with_its_time(oracle_run, tmp_path):
    oracle_run(task="rating")
    with pytest.raises(UsageError):
        oracle_run(task="rating", export_dir="/proc/none")
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert all(line[:4].isdigit() and line[13] == ":" for line in lines)
    texts = "\n".join(lines)
    for step in ("Rating 10 test pairs with EXP3RT …", "Reading reviews", "Fitting Bias …", "done"):
        assert step in texts
    assert lines[-1].split("stopped: ")[1].startswith("UsageError: ")
