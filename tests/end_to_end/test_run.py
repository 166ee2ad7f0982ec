"""The README's first command, made small: real student, real RecBole, tables, explanations."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.model.rater import make_rater
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.quick_start.quick_start import main, run
from recbole_exp3rt.rerank.evaluation import evaluate_ranking
from recbole_exp3rt.rerank.reranker import RatingReranker
from recbole_exp3rt.sample.oracle import OracleTeacher
from recbole_exp3rt.stages.pipeline import Models, Pipeline
from recbole_exp3rt.trainer.fitting import fit

ROOT = Path(__file__).parents[2]
SMALL = ["--eval_pairs=4", "--rerank_users=1", "--max_new_tokens=6", "--baselines=[]"]
SMALL += ["--student=smollm2", "--epochs=5", "--search=~", "--topk=[5,10]", "--rerank_depth=10"]


def command(folder: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run_recbole.py"), *SMALL, "--use_gpu=False", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory, smollm2):
    """Folder and output of a whole run that was killed in its middle and started again."""
    folder = tmp_path_factory.mktemp("first")
    store = folder / "saved" / "answers.sqlite"
    killed = command(folder)
    deadline = time.monotonic() + 300
    while stored(store, smollm2.identity) < 1 and time.monotonic() < deadline:
        assert killed.poll() is None, killed.stdout.read()
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    kept = stored(store, smollm2.identity) + stored(store, OracleTeacher.identity)
    again = command(folder, "--result_file=result.json")
    output, _ = again.communicate(timeout=500)
    assert again.returncode == 0, output
    return folder, output, kept


def stored(store: Path, identity: str) -> int:
    """Answers of a model in the store of a running process."""
    if not store.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as reader:
            query = "SELECT COUNT(*) FROM requests WHERE identity = ?"
            return int(reader.execute(query, (identity,)).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def rows(folder: Path, name: str = "result.json") -> dict:
    return {
        (row["name"], row["slice"]): row for row in json.loads((folder / name).read_text())["rows"]
    }


def test_the_tables_hold_constant_bias_the_model_and_both_sides_of_reranking(first):
    folder, output, _ = first
    table = rows(folder)
    for name in ("constant", "Bias", "EXP3RT", "LightGCN", "LightGCN + EXP3RT"):
        row = table[name, "all"]
        assert row["split"] == "test" and row["coverage"] == 1.0 and name in output
    assert table["EXP3RT", "all"]["n"] == 4 and 0 < table["EXP3RT", "all"]["metrics"]["rmse"] < 9
    assert "smoke run" in output


def test_reranking_the_top_10_cannot_change_recall_at_10(first):
    table = rows(first[0])
    before, after = (table[n, "all"]["metrics"] for n in ("LightGCN", "LightGCN + EXP3RT"))
    assert before["recall@10"] == after["recall@10"]
    assert set(before) == {f"{m}@{k}" for m in ("recall", "ndcg") for k in (5, 10)}


def test_the_output_says_who_did_what_and_explains_three_pairs(first, smollm2):
    _, output, _ = first
    said = " ".join(output.split())
    assert "preferences by sample-oracle (synthetic)" in said
    assert f"rating by {smollm2.identity}" in said
    assert said.split("Explanations")[1].count("predicted ") == 3
    assert "smollm2: " in said and "oracle: " in said  # extractions side by side


def test_after_a_kill_no_stored_answer_is_asked_for_again(first, smollm2):
    folder, _, kept = first
    total = stored(folder / "saved" / "answers.sqlite", smollm2.identity) + stored(
        folder / "saved" / "answers.sqlite", OracleTeacher.identity
    )
    calls = sum(row["calls"] for row in rows(folder).values())
    shown = 2  # the student's own extractions, which no row counts
    assert kept >= 1 and calls + shown == total - kept


def test_a_second_run_asks_for_nothing_and_says_the_same(first, monkeypatch):
    folder, _, _ = first
    monkeypatch.chdir(folder)
    assert main([*SMALL, "--use_gpu=False", "--result_file=again.json"]) == 0
    before, after = rows(folder), rows(folder, "again.json")
    assert all(row["calls"] == 0 for row in after.values())
    assert {k: r["metrics"] for k, r in before.items()} == {
        k: r["metrics"] for k, r in after.items()
    }


def test_candidates_stand_in_the_order_of_their_predicted_ratings(first):
    folder, _, _ = first
    values = {"data_path": str(folder / "dataset"), "use_gpu": False, "student": "oracle"}
    values |= {"store_path": str(folder / "o.sqlite"), "epochs": 5, "search": None}
    config = Config("EXP3RT", "sample", config_dict=values)
    split, settings = load_split(config), Settings.from_config(config)
    corpus = corpus_of(split.train, settings.description_fields, settings.review_file)
    rater = make_rater(settings, corpus)
    generator = fit("BPR", config, split, refit=False)
    reranker = RatingReranker(lambda pairs: [p.expected for p in rater.rate(pairs)])
    users = list(split.user_tokens[5:15])
    lists = evaluate_ranking(config, split, generator, reranker, users).lists
    assert lists and all(len(one.candidates.items) == 20 for one in lists)
    fresh = make_rater(settings, corpus)
    for one in lists:
        ranked = [one.candidates.items[position] for position in one.order]
        ratings = [p.expected for p in fresh.rate([(one.candidates.user, i) for i in ranked])]
        assert ratings == sorted(ratings, reverse=True)


def test_a_rating_prompt_of_the_sample_stays_under_250_tokens(first, smollm2):
    folder, _, _ = first
    values = {"data_path": str(folder / "dataset"), "use_gpu": False}
    config = Config("EXP3RT", "sample", config_dict=values)
    split, settings = load_split(config), Settings.from_config(config)
    corpus = corpus_of(split.train, settings.description_fields, settings.review_file)
    oracle = OracleTeacher()
    pipeline = Pipeline(corpus, Models(oracle, oracle, smollm2), load_prompts(), settings.stages)
    prompts = [pipeline.request(pipeline.pair(*pair)) for pair in split.pairs("test")]
    assert max(len(smollm2.chat.prompt(prompt)) for prompt in prompts) < 250


def rate(folder, **values):
    """The rows of a rating run from Python, and what it printed."""
    places = {"data_path": str(folder / "dataset"), "store_path": str(folder / "python.sqlite")}
    console = Console(record=True, file=open(os.devnull, "w"), width=200)  # noqa: SIM115
    given = {**places, "use_gpu": False, "task": "rating", **values}
    return run("EXP3RT", "sample", config_dict=given, console=console), console.export_text()


def test_a_run_from_python_returns_its_rows(first):
    results, said = rate(first[0], student="oracle", eval_pairs=200, refit=True, baselines=[])
    rmse = {row.name: row.metrics["rmse"] for row in results.rows if row.slice == "all"}
    assert rmse["EXP3RT"] < rmse["Bias"] < rmse["constant"]  # the oracle reads what biases cannot
    assert "smoke run" not in said
    slices = [row for row in results.rows if row.name == "Bias" and row.slice != "all"]
    assert sum(row.n for row in slices) == 200 and len(slices) >= 2


def test_the_student_of_the_sample_comes_with_the_package(first):
    results, said = rate(first[0], eval_pairs=1, baselines=[])
    assert "+sample-student@" in results.about["steps"]["rating"]
    assert "not trained for this task" not in said
    assert "by both models" not in said, "it was trained to rate alone"
    assert "The user " in said.split("Explanations")[1]  # it reasons as its teacher does


def test_a_shipped_student_that_has_seen_a_splits_test_pairs_is_refused(first):
    drawn = {"split": {"RS": [8, 1, 1]}, "group_by": "user", "order": "RO"}
    with pytest.raises(UsageError, match="student sample-student was trained on"):
        rate(first[0], eval_args=drawn)
