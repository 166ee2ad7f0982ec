"""The bulk flow gives the predictions of a run and asks no question twice, whatever is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import counting
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cable import Cable

from recbole_exp3rt.cli.main import main
from recbole_exp3rt.cluster import rows, train_tables
from recbole_exp3rt.cluster.asking import Asking
from recbole_exp3rt.cluster.flow import Flow, original
from recbole_exp3rt.cluster.scaling import STEPS, check_settings, check_steps, scale
from recbole_exp3rt.cluster.session import ray_module
from recbole_exp3rt.cluster.tally import Tally
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.cost.budget import BudgetReached
from recbole_exp3rt.llm.store import open_store
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.recommender import Recommender

OWN = {"student": "oracle", "use_gpu": False}
RAY = {**OWN, "workers": "ray", "num_workers": 2}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The folder of the sample, with 8 test pairs and 4 train pairs in `pairs.csv`."""
    from dataset_converters.sample import make_sample

    folder = tmp_path_factory.mktemp("sample")
    make_sample(folder / "dataset" / "sample")
    split = load_split(Config("EXP3RT", "sample", config_dict=settings(folder)))
    chosen = split.pairs("test")[:80:10] + split.pairs("train")[:40:10]
    pd.DataFrame(chosen, columns=["user_id", "item_id"]).to_csv(folder / "pairs.csv", index=False)
    return folder


def settings(folder, **more):
    return {**OWN, "data_path": str(folder / "dataset"), "store_path": "one.sqlite", **more}


def given(folder):
    """The pairs of the file."""
    return list(pd.read_csv(folder / "pairs.csv", dtype=str).itertuples(index=False, name=None))


def expected(folder, **more):
    """What one machine says of the pairs."""
    config = Config("EXP3RT", "sample", config_dict=settings(folder, **more))
    recommender = Recommender.from_config(config)
    pairs = given(folder)
    said = recommender.rate(pairs)
    return {
        pair: (one.expected, one.rationale) for pair, one in zip(pairs, said, strict=True)
    }, recommender.rater.calls


@pytest.fixture(scope="module")
def told(sample, tmp_path_factory):
    """What one machine says of the pairs, and how many questions it asks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("one"))
        return expected(sample)


def predicted(folder):
    table = pd.read_parquet(folder / "ratings")
    ids = zip(table["user_id"], table["item_id"], strict=True)
    return dict(zip(ids, zip(table["EXP3RT"], table["rationale"], strict=True), strict=True))


def of_pairs(folder, store="many.sqlite", **more):
    """The arguments of `scale` for the pairs of the file."""
    own = {**settings(folder), **RAY, "store_path": store, **more}
    return {"pairs": folder / "pairs.csv", "output": "tables", "config_dict": own}


# --- the same predictions, nothing asked twice


class OneProcess(Flow):
    """The flow without Ray: a table at a time, a group at a time."""

    def _read(self, name):
        return pq.read_table(self.folder / name)

    def _map(self, table, function, schema):
        return rows.each(function, schema)(table)

    def _needed(self, reviews):
        pairs = self._read("pairs").to_pylist()
        users, items = ({pair[name] for pair in pairs} for name in ("user_id", "item_id"))
        kept = [
            row for row in reviews.to_pylist() if row["user_id"] in users or row["item_id"] in items
        ]
        return rows.table(kept, rows.REVIEWS)

    def _together(self, parts):
        return pa.concat_tables(parts)

    def _grouped(self, parts, of_group):
        groups = defaultdict(list)
        for row in self._together(parts).to_pylist():
            groups[row["key"]].append(row)
        work = of_group(self.settings)
        return pa.concat_tables(work(rows.table(group, rows.GROUPED)) for group in groups.values())

    def _ask(self, table, step, name, asking):
        self.tally = Tally()
        worker = step(asking(self.tally.add))
        size = max(1, len(table) // 3)
        return pa.concat_tables(
            worker(table.slice(first, size)) for first in range(0, len(table), size)
        )

    def _write(self, made, name, mark):
        (self.folder / name).mkdir()
        pq.write_table(made, self.folder / name / "part.parquet")
        return self.tally.total


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"profile_leave_one_out": True},
        {"item_profile": "helpful", "helpful_top": 2, "profile_leave_one_out": True},
        {"profile_reviews": 3, "use_bias": "none", "use_reasoning": False},
        {"item_profile": "helpful", "helpful_top": 1, "refit": True},
    ],
    ids=["all", "leave-one-out", "helpful", "newest", "refit"],
)
def test_the_steps_predict_what_a_run_does_and_ask_as_much(sample, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    told, calls = expected(sample, **more)
    config = Config("EXP3RT", "sample", config_dict=settings(sample, **more))
    own, split = Settings.from_config(config), load_split(config)
    train = split.merged().train if config["refit"] else split.train
    folder, log = tmp_path / "tables", tmp_path / "asked"
    train_tables.write_reviews(train, own, folder / "reviews")
    train_tables.write_items(train, own, folder / "items")
    train_tables.write_pairs_of(sample / "pairs.csv", folder / "pairs")

    def asking(add):
        load, identity = counting.Load(log), counting.Load.identity
        return Asking(load, identity, "many.sqlite", None, own.stages, load_prompts(), add)

    flow = OneProcess(None, folder, own.stages, {}, lambda *_: None)
    asked = [getattr(flow, step)(asking, "").asked for step in STEPS]
    assert predicted(folder) == told
    assert counting.again(log) == (sum(asked), 0)
    assert sum(asked) >= calls
    assert expected(sample, store_path="many.sqlite", **more) == (told, 0)


def test_the_flow_gives_the_ratings_of_a_run_which_then_asks_nothing(
    nodes, sample, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    few = {"eval_pairs": 6, "task": "rating", "baselines": [], "export_dir": "exported"}
    first = run("EXP3RT", "sample", config_dict=settings(sample, **few))
    log, given = tmp_path / "asked", of_pairs(sample, num_workers=1)
    given["pairs"] = "exported/ratings.parquet"
    done = scale("sample", **given, load=counting.Load(log)).done
    assert counting.again(log) == (sum(one.asked for one in done.values()), 0)
    own = {**few, "store_path": "many.sqlite", "export_dir": "again"}
    second = run("EXP3RT", "sample", config_dict=settings(sample, **own))
    assert sum(row.calls for row in first.rows) > sum(row.calls for row in second.rows) == 0
    exported, scaled = (
        pd.read_parquet(file).set_index(["user_id", "item_id"]).sort_index()
        for file in ("again/ratings.parquet", "tables/ratings")
    )
    exported = exported.drop(columns=["constant", "Bias"])  # systems that no model is asked for
    assert len(exported) == 6 and list(exported)[-1] == "p_10"
    pd.testing.assert_frame_equal(exported, scaled[list(exported)], check_dtype=False)
    # what is whole is not done again, by the command either
    words = [f"--{key}={value}" for key, value in given["config_dict"].items()]
    words += ["--pairs=exported/ratings.parquet", "--output=tables"]
    assert main(["scale", "--dataset=sample", *words]) == 0
    said = capsys.readouterr().out
    assert "ratings: 6 rows are there (6 asked, 0 known, 6 readable, 0 failed)" in said


def test_what_a_worker_raises_is_said_in_its_own_words(nodes, sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LLMError, match=r"^the server takes no questions today$"):
        scale("sample", **of_pairs(sample), load=counting.Refusing(tmp_path / "asked"))


# --- kills


def during(log, questions, kill):
    """`kill()` in a thread, once so many questions were asked."""

    def work():
        counting.wait_for(lambda: len(counting.lines(log)) >= questions)
        kill()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_killed_workers_nodes_and_databases_lose_no_answer(
    nodes, cluster, place, sample, told, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "asked"
    second = nodes.add()

    def kill_worker():
        os.kill(int(counting.lines(log)[-1][1]), signal.SIGKILL)

    def kill_node():
        second.all_processes["raylet"][0].process.kill()  # its workers end with it

    def kill_database():
        cluster.kill()
        cluster.start(after=0.5)

    order = {25: kill_worker, 60: kill_node, 110: kill_database}
    kills = [during(log, questions, kill) for questions, kill in order.items()]
    scale("sample", **of_pairs(sample, store=place), load=counting.Load(log, 0.02))
    assert not any(kill.is_alive() for kill in kills)
    predictions, calls = told
    assert predicted(tmp_path / "tables") == predictions
    distinct, twice = counting.again(log)
    assert distinct >= calls
    assert twice <= 8  # in progress at a kill, or answered and on their way to a commit


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_a_worker_that_is_cut_off_from_the_store_goes_on_once_it_is_back(
    nodes, cluster, place, sample, told, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGPORT", str(cluster.port))  # that of the other worker
    log, behind, cable = tmp_path / "asked", tmp_path / "behind", Cable(cluster.port)

    def asked(cut_off):
        return sum((pid == behind.read_text()) is cut_off for _, pid in counting.lines(log))

    def wait_for(more, cut_off):
        before = asked(cut_off)
        counting.wait_for(lambda: asked(cut_off) >= before + more)

    def pull():
        counting.wait_for(behind.exists)
        for pull_it in (cable.cut, cable.hold):
            wait_for(10, cut_off=True)
            pull_it()
            wait_for(20, cut_off=False)  # the other one goes on
            time.sleep(1.2)  # longer than a silent server is waited for here
            cable.mend()
        wait_for(5, cut_off=True)

    pulling = threading.Thread(target=pull, daemon=True)
    pulling.start()
    load = counting.LoadBehindCable(log, 0.05, behind, cable.port)
    store = place.replace(f":{cluster.port}/", "/")
    done = scale("sample", **of_pairs(sample, store=store), load=load).done
    assert not pulling.is_alive() and cable.broken and cable.held
    assert predicted(tmp_path / "tables") == told[0]
    distinct, twice = counting.again(log)
    assert distinct == len(open_store(place)) and twice == 0
    assert sum(one.asked for one in done.values()) == distinct
    cable.cut()


DRIVER = """
import sys
import counting
from recbole_exp3rt.cluster.scaling import scale

own = {"student": "oracle", "use_gpu": False, "workers": "ray", "num_workers": 2}
own |= {"data_path": sys.argv[1] + "/dataset", "store_path": "many.sqlite"}
load = counting.Load(sys.argv[2], 0.02)
scale("sample", pairs=sys.argv[1] + "/pairs.csv", output="tables", config_dict=own, load=load)
"""


def test_a_killed_driver_loses_no_answer(nodes, sample, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "asked"
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(sample), str(log)])
    counting.wait_for(lambda: len(counting.lines(log)) >= 30 or driver.poll() is not None)
    driver.kill()
    driver.wait()
    before = len(counting.lines(log))
    assert before >= 30
    scale("sample", **of_pairs(sample), load=counting.Load(log))
    assert predicted(tmp_path / "tables") == told[0]
    distinct, twice = counting.again(log)
    assert distinct > before - twice and twice <= 3


# --- what it refuses


def test_steps_that_cannot_be_are_named():
    with pytest.raises(UsageError, match=r"rating is none of .*did you mean ratings"):
        check_steps(["preferences", "rating"], None)
    with pytest.raises(UsageError, match="needs those before it"):
        check_steps(["preferences", "ratings"], None)
    with pytest.raises(UsageError, match="no effect without the step ratings"):
        check_steps(["preferences"], "pairs.csv")
    with pytest.raises(UsageError, match="no such file"):
        check_steps(["preferences", "profiles", "ratings"], "nowhere.csv")


@pytest.mark.parametrize(
    ("key", "value"),
    [("item_profile", "neighbor"), ("use_bias", "baseline"), ("rating_reasoning", "uncertain:10")],
)
def test_what_needs_all_reviews_in_one_place_is_refused(sample, key, value):
    config = Config("EXP3RT", "sample", config_dict=settings(sample, **{key: value}))
    with pytest.raises(UsageError, match=f"{key}={value} needs all reviews in one place"):
        check_settings(Settings.from_config(config))


def test_an_error_of_a_worker_is_found_within_those_of_ray():
    budget = BudgetReached("the budget of $1 is reached")
    around = RuntimeError("The worker failed")
    around.__cause__ = ValueError("wrapped")
    around.__cause__.cause = budget
    assert original(around) is budget
    assert str(original(RuntimeError("first\nno memory"))) == "Ray: no memory"


def test_without_ray_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'recbole-exp3rt\[ray\]'"):
        ray_module()


def test_the_parquet_of_the_train_part_is_the_corpus_of_a_run(sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config("EXP3RT", "sample", config_dict=settings(sample))
    own, train = Settings.from_config(config), load_split(config).train
    train_tables.write_reviews(train, own, Path("reviews"))
    table = pd.read_parquet("reviews").to_dict("records")
    whole = corpus_of(train, own.description_fields, None)
    assert Corpus(map(rows.review_of, table)).by_user == whole.by_user
