"""A whole run whose ratings come from a server: the same command, another model's name."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from recbole_exp3rt.quick_start.quick_start import main

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "contract"))
from batch_stand_in import batches  # noqa: E402
from stand_ins import Plain, playing  # noqa: E402

KEY = "sk-most-secret-0123456789"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """run(*arguments) -> exit code and what is printed, of a small run in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_KEY", KEY)

    def start(*arguments: str) -> SimpleNamespace:
        steps = ["--student=oracle", "--task=rating"]
        if not any(argument.startswith("--rating_model") for argument in arguments):
            steps.append("--rating_model=openai:smollm2")
        if not any(argument.startswith("--eval_pairs") for argument in arguments):
            steps.append("--eval_pairs=4")
        small = ["--max_new_tokens=6", "--baselines=[]", "--use_gpu=False"]
        code = main([*steps, *small, *arguments])
        said = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    return start


def test_a_run_against_a_server_says_how_ratings_were_read(run, llama_server, tmp_path):
    server = [f"--base_url={llama_server}", "--api_key_env=MY_KEY"]
    done = run(*server, "--result_file=first.json")
    assert done.returncode == 0, done.stderr
    assert "rating by openai:smollm2@" in done.stdout and ", readout exact" in done.stdout

    again = run(*server, "--readout=exact", "--concurrency=2", "--result_file=again.json")
    assert again.returncode == 0, again.stderr
    first, second = (
        next(
            row
            for row in json.loads((tmp_path / name).read_text())["rows"]
            if (row["name"], row["slice"]) == ("EXP3RT", "all")
        )
        for name in ("first.json", "again.json")
    )
    assert (first["readout"], first["missing_labels"], first["coverage"]) == ("exact", 0, 1.0)
    assert first["calls"] > 0 and second["calls"] == 0  # nothing is paid twice
    assert first["metrics"] == second["metrics"]
    said = done.stdout + done.stderr + again.stdout + again.stderr
    kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert KEY not in said and KEY.encode() not in kept


def test_a_budget_stops_a_run_with_a_line_and_a_larger_one_goes_on(run, llama_server, tmp_path):
    (tmp_path / "prices.yaml").write_text("models: {smollm2: {prompt: 1000, new: 1000}}")
    server = [f"--base_url={llama_server}", "--prices=prices.yaml", "--concurrency=2"]
    done = run(*server, "--budget=1")  # a pair is some 600 tokens: 60 cents
    assert done.returncode == 3 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("stopped: the budget of $1.00 is reached: $")
    ledger = tmp_path / "saved" / "ledger.jsonl"
    paid = len(ledger.read_text().splitlines())
    assert 0 < paid < 4
    again = run(*server, "--budget=50")
    assert again.returncode == 0, again.stderr
    assert f"Paid by this run: {4 - paid} calls" in again.stdout
    assert len(ledger.read_text().splitlines()) == 4  # none twice


def test_a_run_by_the_batch_route_costs_half(run, tmp_path):
    (tmp_path / "prices.yaml").write_text(
        "models: {teacher: {prompt: 1000, new: 1000, batch_discount: 0.5}}"
    )
    quick = ["--prices=prices.yaml", "--budget=9", "--batch_poll_seconds=0.1"]
    with batches() as (server, url):
        done = run(f"--base_url={url}", "--rating_model=batch:teacher", *quick)
    assert done.returncode == 0, done.stderr
    assert "rating by openai:teacher@teacher-2026-01-01+top" in done.stdout
    assert len(server.batches) == 1 and len(server.paid) == 4
    entries = map(json.loads, (tmp_path / "saved" / "ledger.jsonl").read_text().splitlines())
    for entry in entries:
        tokens = entry["prompt_tokens"] + entry["new_tokens"]
        assert entry["cost"] == pytest.approx(tokens * 1000 / 1e6 / 2)
    assert list((tmp_path / "saved" / "batches").glob("*.json")) == []


def test_a_server_that_is_not_there_is_one_line(run):
    done = run("--base_url=http://127.0.0.1:9/v1")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: no server answers at http://127.0.0.1:9/v1: start it")


def test_a_run_that_reads_no_rating_keeps_its_tables_and_quotes_an_answer(run, tmp_path, capsys):
    said = "<think>Predicted User Rating: 9</think>I'd say it is [bold]fine."
    with playing(Plain, answer=said) as (server, url):
        reached = [f"--base_url={url}", "--result_file=kept.json"]
        done = run(*reached, "--eval_pairs=40")
        asked = [body for _, body in server.asked if "<User Profile>" in str(body)]
        args = ["show", "--user=viewer000", "--item=syn0090", "--student=oracle", "--use_gpu=False"]
        assert main([*args, "--rating_model=openai:smollm2", f"--base_url={url}"]) == 0
        shown = capsys.readouterr().out
    assert done.returncode == 4, done.stderr
    assert " constant " in done.stdout and " Bias " in done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert "such as “" in last and "fine." in last and "expected: 'Predicted User Rating:'" in last
    assert "the other 35 are not asked" in last and len(asked) == 5
    names = {row["name"] for row in json.loads((tmp_path / "kept.json").read_text())["rows"]}
    assert names == {"constant", "Bias"}
    for part in ("<User Profile>", "I'd say it is [bold]fine.", "Predicted User Rating: 9"):
        assert part in shown
