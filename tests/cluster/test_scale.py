"""The bulk flow gives the predictions of a run and asks no question twice, whatever is killed."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import counting
import pandas as pd
import pytest

from recbole_exp3rt.cluster.scaling import check_settings, check_steps, scale
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.recommender import Recommender

OWN = {"student": "oracle", "use_gpu": False}
RAY = {**OWN, "workers": "ray", "num_workers": 2}
HELPFUL = {"item_profile": "helpful", "helpful_top": 2, "profile_leave_one_out": True}


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


def predicted(folder):
    table = pd.read_parquet(folder / "ratings")
    ids = zip(table["user_id"], table["item_id"], strict=True)
    return dict(zip(ids, zip(table["EXP3RT"], table["rationale"], strict=True), strict=True))


def of_pairs(folder, store="many.sqlite", **more):
    """The arguments of `scale` for the pairs of the file."""
    own = {**settings(folder), **RAY, "store_path": store, **more}
    return {"pairs": folder / "pairs.csv", "output": "tables", "config_dict": own}


# --- the same predictions, nothing asked twice


@pytest.mark.parametrize("more", [{}, HELPFUL], ids=["all", "helpful-leave-one-out"])
def test_the_flow_predicts_what_one_machine_does_and_asks_as_much(
    nodes, sample, tmp_path, monkeypatch, more
):
    monkeypatch.chdir(tmp_path)
    told, calls = expected(sample, **more)
    log = tmp_path / "asked"
    made = scale("sample", **of_pairs(sample, **more), load=counting.Load(log))
    assert predicted(tmp_path / "tables") == told
    distinct, twice = counting.again(log)
    assert twice == 0
    assert sum(done.asked for done in made.done.values()) == distinct >= calls
    # one machine on the store of the flow asks nothing, nor does the flow itself
    assert expected(sample, store_path="many.sqlite", **more) == (told, 0)
    if not more:
        assert scale("sample", **of_pairs(sample), load=counting.Load(log)).done == {}
        assert counting.again(log) == (distinct, 0)


def test_a_run_takes_the_answers_of_the_flow_and_its_exports_are_pairs(
    nodes, sample, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    few = {"eval_pairs": 6, "task": "rating", "baselines": [], "export_dir": "exported"}
    first = run("EXP3RT", "sample", config_dict=settings(sample, **few))
    pairs = {**of_pairs(sample), "pairs": "exported/ratings.parquet"}
    scale("sample", **pairs)
    own = {**few, "store_path": "many.sqlite", "export_dir": "again"}
    second = run("EXP3RT", "sample", config_dict=settings(sample, **own))
    assert sum(row["calls"] for row in first.rows) > sum(row["calls"] for row in second.rows) == 0
    exported, scaled = (
        pd.read_parquet(file).set_index(["user_id", "item_id"]).sort_index()
        for file in ("again/ratings.parquet", "tables/ratings")
    )
    common = [
        "rating",
        "EXP3RT",
        "expected",
        "modal",
        "rationale",
        *[f"p_{k}" for k in range(1, 6)],
    ]
    common = [name for name in common if name in exported]
    pd.testing.assert_frame_equal(exported[common], scaled[common], check_dtype=False)


# --- kills


def during(log, questions, kill):
    """`kill()` in a thread, once so many questions were asked."""

    def work():
        counting.wait_for(lambda: len(counting.lines(log)) >= questions)
        kill()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_killed_worker_and_a_killed_node_lose_no_answer(nodes, sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "asked"
    second = nodes.add()

    def kill_worker():
        os.kill(int(counting.lines(log)[-1][1]), signal.SIGKILL)

    def kill_node():
        raylet = second.all_processes["raylet"][0].process
        raylet.kill()  # its workers end with it

    kills = [during(log, 25, kill_worker), during(log, 60, kill_node)]
    scale("sample", **of_pairs(sample), load=counting.Load(log, 0.02))
    assert not any(kill.is_alive() for kill in kills)
    told, calls = expected(sample)
    assert predicted(tmp_path / "tables") == told
    distinct, twice = counting.again(log)
    assert distinct >= calls
    assert twice <= 3  # what the killed processes had in progress


DRIVER = """
import sys
import counting
from recbole_exp3rt.cluster.scaling import scale

own = {"student": "oracle", "use_gpu": False, "workers": "ray", "num_workers": 2}
own |= {"data_path": sys.argv[1] + "/dataset", "store_path": "many.sqlite"}
load = counting.Load(sys.argv[2], 0.02)
scale("sample", pairs=sys.argv[1] + "/pairs.csv", output="tables", config_dict=own, load=load)
"""


def test_a_killed_driver_loses_no_answer(nodes, sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "asked"
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(sample), str(log)])
    counting.wait_for(lambda: len(counting.lines(log)) >= 30 or driver.poll() is not None)
    driver.kill()
    driver.wait()
    before = len(counting.lines(log))
    assert before >= 30
    scale("sample", **of_pairs(sample), load=counting.Load(log))
    assert predicted(tmp_path / "tables") == expected(sample)[0]
    distinct, twice = counting.again(log)
    assert distinct > before - twice and twice <= 3


def test_a_database_that_is_killed_and_started_loses_no_answer(
    nodes, cluster, sample, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    log, url = tmp_path / "asked", cluster.database()

    def restart():
        cluster.kill()
        cluster.start(after=0.5)

    kill = during(log, 30, restart)
    scale("sample", **of_pairs(sample, store=url), load=counting.Load(log, 0.01))
    kill.join()
    assert predicted(tmp_path / "tables") == expected(sample)[0]
    assert counting.again(log)[1] <= 8  # answered, and on their way to a commit


# --- what it refuses


def test_steps_that_cannot_be_are_named():
    with pytest.raises(
        UsageError, match="rating is none of preferences, profiles, ratings .did you mean"
    ):
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


def test_the_parquet_of_the_train_part_is_the_corpus_of_a_run(sample, tmp_path, monkeypatch):
    from recbole_exp3rt.cluster import rows, train_tables
    from recbole_exp3rt.corpus import Corpus
    from recbole_exp3rt.data.train_corpus import corpus_of

    monkeypatch.chdir(tmp_path)
    config = Config("EXP3RT", "sample", config_dict=settings(sample))
    own, train = Settings.from_config(config), load_split(config).train
    train_tables.write_reviews(train, own, Path("reviews"))
    table = pd.read_parquet("reviews").to_dict("records")
    whole = corpus_of(train, own.description_fields, None)
    assert Corpus(map(rows.review_of, table)).by_user == whole.by_user
