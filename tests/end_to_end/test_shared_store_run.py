"""Whole commands on a store in a real PostgreSQL database: same results, and no password shown."""

import json
import sys
from pathlib import Path

import pytest

from recbole_exp3rt.cli.main import main

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "contract"))
from batch_stand_in import batches  # noqa: E402

SMALL = ["--student=oracle", "--use_gpu=False", "--task=rating", "--baselines=[]"]


@pytest.fixture
def called(tmp_path, monkeypatch, capsys):
    """called(*arguments) -> what a command in `tmp_path` prints; its exit code is 0."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, code=0):
        assert main(list(arguments)) == code
        said = capsys.readouterr()
        call.all += said.out + said.err
        return said.out + said.err

    call.all = ""
    return call


def rows(file):
    """Name and metrics of each row, and how many questions were asked."""
    content = json.loads(Path(file).read_text())["rows"]
    return [(row["name"], row["metrics"]) for row in content], sum(row["calls"] for row in content)


def test_a_run_is_the_same_on_both_stores_and_shows_no_password(called, cluster, tmp_path):
    store = f"--store_path={cluster.database()}"
    called("run", *SMALL, "--eval_pairs=6", "--result_file=file.json")
    called("run", *SMALL, "--eval_pairs=6", store, "--result_file=first.json", "--log_file=run.log")
    called("run", *SMALL, "--eval_pairs=6", store, "--result_file=again.json", "--log_file=2.log")
    (in_file, asked), (first, also_asked), (again, more) = map(
        rows, ("file.json", "first.json", "again.json")
    )
    assert in_file == first == again
    assert asked == also_asked > 0 and more == 0
    pair = ["--user=viewer000", "--item=syn0090", "--student=oracle", "--use_gpu=False"]
    assert "viewer000" in called("show", *pair, store)
    few = ["--annotate_pairs=6", "--profile_reviews=3", "--use_gpu=False", "--annotate_dir=data"]
    called("annotate", *few, store)
    assert f"postgresql://127.0.0.1:{cluster.port}/one" in called("doctor", store)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    from postgres_server import PASSWORD

    assert PASSWORD not in called.all and PASSWORD.encode() not in kept
    assert f"postgresql://127.0.0.1:{cluster.port}/one".encode() in kept
    assert not (tmp_path / "postgresql:").exists()


def test_what_is_paid_stands_in_the_database_and_its_budget_holds_for_the_next(
    called, cluster, tmp_path
):
    (tmp_path / "prices.yaml").write_text("models: {teacher: {prompt: 1000, new: 1000}}")
    store = f"--store_path={cluster.database()}"
    with batches() as (_, url):
        paid = [*SMALL, "--max_new_tokens=6", "--rating_model=batch:teacher", f"--base_url={url}"]
        paid += ["--prices=prices.yaml", "--batch_poll_seconds=0.1", store]
        told = called("run", *paid, "--budget=20", "--eval_pairs=6")
        assert "Paid by this run: 6 calls" in told
        assert f"(postgresql://127.0.0.1:{cluster.port}/one)" in told
        stopped = called("run", *paid, "--budget=0.01", "--eval_pairs=9", code=3)
    assert "the budget of $0.01 is reached" in stopped
    assert not list(tmp_path.rglob("ledger.jsonl"))
    refused = called("run", *SMALL, store, "--ledger=mine.jsonl", code=2)
    assert "leave ledger out" in refused
