"""A run with a prior, and one that reasons about the best or the most uncertain pairs alone.

The oracle of the synthetic sample is the student.
"""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.ratings import rate_pairs
from recbole_exp3rt.llm.store import Store
from recbole_exp3rt.model.rater import make_rater
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.recommender import Recommender
from recbole_exp3rt.records import Candidates
from recbole_exp3rt.rerank.reasoned import TopReasoned, reranker_of
from recbole_exp3rt.sample.oracle import OracleTeacher
from recbole_exp3rt.stages.bias import CorpusBias
from recbole_exp3rt.stages.reasoning import entropy, most_uncertain
from recbole_exp3rt.trainer.fitting import fit


@pytest.fixture(scope="module")
def world(tmp_path_factory, sample_files) -> Path:
    folder = tmp_path_factory.mktemp("reasoned")
    shutil.copytree(sample_files, folder / "sample")
    return folder


def values(world: Path, store: Path, **given):
    own = {"student": "oracle", "eval_pairs": 20, "rerank_users": 2, "baselines": []}
    own |= {"data_path": str(world), "store_path": str(store), "epochs": 1, "explanations": 2}
    own |= {"generator": "BPR", "use_gpu": False, "calibration_pairs": 30, "prior_pairs": 20}
    own |= {"fit_cache": str(world / "fits"), "refit": False}
    return own | given


def oracle_run(world: Path, store: Path, **given):
    console = Console(file=io.StringIO(), width=200)
    results = run("EXP3RT", "sample", config_dict=values(world, store, **given), console=console)
    return console.file.getvalue(), results


@pytest.fixture(scope="module")
def scored(world, tmp_path_factory):
    """A store with the answers of a run without rationales, what the run said, and its results."""
    store = tmp_path_factory.mktemp("scored") / "answers.sqlite"
    none = {"rating_reasoning": "none", "rerank_reasoning": "none"}
    return store, *oracle_run(world, store, **none)


@pytest.fixture
def store(scored, tmp_path):
    """A copy of that store: reviews need not be read again."""
    return Path(shutil.copy(scored[0], tmp_path / "answers.sqlite"))


def overall(results, task="rating"):
    return {r.name: r for r in results.rows if r.slice == "all" and r.task == task}


@pytest.fixture
def reasoned(monkeypatch):
    """The requests for a rationale and a rating that the oracle has answered."""
    asked, generate = [], OracleTeacher.generate

    def counting(self, requests):
        asked.extend(r for r in requests if r.readout and r.max_new_tokens)
        return generate(self, requests)

    monkeypatch.setattr(OracleTeacher, "generate", counting)
    return asked


def test_a_prior_is_shown_in_the_result_and_its_questions_are_those_of_none(world, store, tmp_path):
    file, folder = tmp_path / "result.json", tmp_path / "tables"
    said, results = oracle_run(
        world,
        store,
        use_bias="prior",
        refit=True,
        result_file=str(file),
        export_dir=str(folder),
        export_format="csv",
    )
    prior = json.loads(file.read_text())["prior"]["reasoning"]
    assert prior["pairs"] == prior["answered"] == 30 and prior["base_pairs"] == 20
    assert 0 < prior["weight"] <= 2 and len(prior["base"]) == 10 and prior["sigma"] > 0.5
    assert f"weight {prior['weight']:.2f}" in said
    rows = overall(results)
    assert rows["EXP3RT"].metrics["rmse"] < rows["Bias"].metrics["rmse"]  # texts tell tastes
    table = pd.read_csv(folder / "ratings.csv")
    shares = table[[f"p_{level}" for level in range(1, 11)]].to_numpy()
    assert shares.sum(axis=1) == pytest.approx(1)
    assert shares @ np.arange(1, 11) == pytest.approx(table["expected"])
    assert table["expected"].to_numpy() == pytest.approx(table["EXP3RT"], abs=1e-5)
    ranked = pd.read_csv(folder / "topk.csv")
    own = ranked[ranked["system"] == "BPR + EXP3RT"]
    assert own["score"].to_numpy() == pytest.approx(own["expected"], abs=1e-5)
    # the store knows what the model says: another prior asks for nothing
    before = Store(store).identities()
    for other in ({"use_bias": False}, {"use_bias": "prior", "prior_weight": 0}):
        _, again = oracle_run(world, store, refit=True, task="rating", **other)
        assert sum(row.calls for row in again.rows) == 0
    assert Store(store).identities() == before
    raw = overall(again)
    assert raw["EXP3RT"].metrics["rmse"] == pytest.approx(raw["Bias"].metrics["rmse"], abs=0.003)


def test_bias_over_the_corpus_is_recboles_bias(world, tmp_path):
    given = values(world, tmp_path / "a.sqlite", **{"Bias.reg_weight": 5.0})
    config = Config("EXP3RT", "sample", config_dict=given)
    split = load_split(config)
    settings = Settings.from_config(config)
    corpus = corpus_of(split.train, settings.description_fields, None)
    pairs = split.pairs("test")
    model = fit("Bias", config, split, refit=False)
    own = CorpusBias(corpus, settings.stages.scale, 5.0).rate(pairs)
    assert own == pytest.approx(rate_pairs(model, split, pairs), abs=1e-4)
    assert np.ptp(own) > 1


@pytest.fixture(scope="module")
def recommender(world, tmp_path_factory):
    """recommender(**settings) -> a Recommender over the sample with the oracle; one store."""
    store = tmp_path_factory.mktemp("store") / "answers.sqlite"

    def make(**given) -> Recommender:
        return Recommender.from_config(
            Config("EXP3RT", "sample", config_dict=values(world, store, **given))
        )

    return make


def some_lists(recommender: Recommender, number=4, depth=12) -> list[Candidates]:
    corpus = recommender.rater.pipeline.corpus
    items = sorted(corpus.by_item)
    return [
        Candidates(user, tuple(items[k * 7 : k * 7 + depth]), ())
        for k, user in enumerate(sorted(corpus.by_user)[:number])
    ]


class Counting:
    """The oracle, and how often it was asked with and without a rationale."""

    def __init__(self):
        self.oracle, self.identity = OracleTeacher(), OracleTeacher.identity
        self.asked = {True: 0, False: 0}

    def generate(self, requests):
        for request in requests:
            if request.readout:
                self.asked[request.max_new_tokens > 0] += 1
        return self.oracle.generate(requests)

    def count_tokens(self, text):
        return self.oracle.count_tokens(text)


@pytest.fixture
def counted(world, tmp_path):
    """counted(**settings) -> a rater over the sample, and its counting model."""

    def make(**given):
        config = Config(
            "EXP3RT", "sample", config_dict=values(world, tmp_path / "new.sqlite", **given)
        )
        settings, model = Settings.from_config(config), Counting()
        corpus = corpus_of(load_split(config).train, settings.description_fields, None)
        return make_rater(settings, corpus, load=lambda name, **options: model), model

    return make


def test_top_k_asks_for_exactly_k_rationales_a_list_and_keeps_these_in_front(counted):
    rater, model = counted(rerank_reasoning="top:3")
    lists = some_lists(Recommender(rater))
    scores = reranker_of(rater).rerank(lists)
    assert model.asked == {True: 3 * 4, False: 12 * 4}
    for one, own in zip(lists, scores, strict=True):
        direct = rater.ratings([(one.user, item) for item in one.items], reasoning=False)
        best = sorted(range(12), key=lambda k: -direct[k])[:3]
        assert sorted(range(12), key=lambda k: -own[k])[:3] == sorted(best, key=lambda k: -own[k])
        again = rater.ratings([(one.user, one.items[k]) for k in best], reasoning=True)
        assert [own[k] for k in best] == again
    assert model.asked == {True: 3 * 4, False: 12 * 4}  # nothing is asked twice


def test_the_others_stay_below_the_best_in_their_order():
    class Rater:
        def ratings(self, pairs, *, reasoning):
            table = {
                "a": (4.0, 2.0),
                "b": (3.9, None),
                "c": (3.0, 0),
                "d": (3.5, 0),
                "e": (None, 0),
            }
            return [table[item][reasoning] for _, item in pairs]

    (scores,) = TopReasoned(Rater(), 2).rerank([Candidates("u", ("a", "b", "c", "d", "e"), ())])
    assert scores[0] == 2.0 and scores[1] is None and scores[4] is None
    assert scores[2] < scores[3] < scores[0] and scores[3] - scores[2] == pytest.approx(0.5)


def test_the_order_of_candidates_and_of_users_changes_nothing(counted):
    rater, _ = counted(rerank_reasoning="top:3", use_bias="prior", prior_weight=0.5)
    lists = some_lists(Recommender(rater))
    turned = [Candidates(one.user, one.items[::-1], ()) for one in lists[::-1]]
    straight = reranker_of(rater).rerank(lists)
    back = [own[::-1] for own in reranker_of(rater).rerank(turned)][::-1]
    assert np.array(back) == pytest.approx(np.array(straight))


def test_the_most_uncertain_pairs_alone_get_a_rationale(counted):
    rater, model = counted(rating_reasoning="uncertain:25", use_bias="prior", prior_weight=1.0)
    pairs = [(one.user, item) for one in some_lists(Recommender(rater)) for item in one.items]
    rated = rater.rate(pairs)
    prior = {way: 20 for way in model.asked}  # train pairs behind the model's own distribution
    assert model.asked == {True: 12 + prior[True], False: 48 + prior[False]}
    direct = rater.pipeline.rated(pairs, reasoning=False)
    reasoned = [pair for pair, one in zip(pairs, rated, strict=True) if one.rationale]
    assert sorted(reasoned) == sorted(most_uncertain(pairs, direct, 0.25)) and len(reasoned) == 12
    of = dict(zip(pairs, map(entropy, direct), strict=True))
    assert min(of[pair] for pair in reasoned) >= max(of[p] for p in pairs if p not in reasoned)
    back = rater.rate(pairs[::-1])[::-1]
    assert [one.expected for one in back] == [one.expected for one in rated]


def test_the_table_tells_new_tokens_and_pairs_a_second_of_each_way(world, scored, store, reasoned):
    def told(said, results):
        rating, ranking = overall(results)["EXP3RT"], overall(results, "rerank")["BPR + EXP3RT"]
        assert (rating.pairs, ranking.pairs) == (20, 40)
        assert f"{ranking.new_tokens:,} new tokens for 40 pairs" in said
        return rating.new_tokens, ranking.new_tokens

    _, said, results = scored
    speed = overall(results)["EXP3RT"].pairs_per_second
    assert speed and f"{speed:,.2f} pairs/s" in said
    none = told(said, results)
    given = {"rating_reasoning": "uncertain:25", "rerank_reasoning": "top:5"}
    said, results = oracle_run(world, store, **given)
    some = told(said, results)
    assert overall(results)["EXP3RT"].pairs_per_second is None  # the first answers were stored
    assert len(reasoned) == 5 + 2 * 5
    every = told(*oracle_run(world, store))
    assert len(reasoned) == 20 + 40  # those of before are in the store
    assert none[0] < some[0] < every[0] and none[1] < some[1] < every[1]
    # the answers of use_reasoning=False
    _, again = oracle_run(world, store, use_reasoning=False, task="rating")
    assert sum(row.calls for row in again.rows) == 0


def test_a_dry_run_plans_what_each_way_asks(world, tmp_path):
    given = {"rating_reasoning": "uncertain:25", "use_bias": "prior", "task": "rating"}
    said, _ = oracle_run(world, tmp_path / "a.sqlite", dry_run=True, **given)
    line = next(line for line in said.splitlines() if line.strip().startswith("rating:"))
    planned = int(line.split("to ask: ")[1].split()[1].replace(",", ""))
    assert planned == 20 + 5 + 2 * (20 + 30)


def test_show_and_explain_tell_bias_and_give_a_rationale(recommender):
    joined = recommender(use_bias="prior", rating_reasoning="uncertain:25")
    one = some_lists(joined)[0]
    told = joined.explain(one.user, one.items[0])
    assert told.prediction.rationale and f"Bias        {told.baseline:.2f}" in str(told)
    assert "Average" not in str(told.prompt) and "Reason about this" in str(told.prompt)
    assert "average" not in str(told)


def test_a_prior_is_taken_from_a_corpus_that_has_not_read_validation(recommender):
    joined = recommender(use_bias="prior", refit=True)
    taken, own = joined.rater.pipeline.priors, joined.rater.pipeline
    held = taken.held_out
    assert len(held.pairs) > 300 and len(held.asked) == 30
    assert all(own.corpus.has(*pair) for pair in held.pairs)  # the run has read them
    assert not any(taken.pipeline.corpus.has(*pair) for pair in held.pairs)
    new = joined.with_reviews(descriptions={"new": {"Title": "New"}})
    assert new.rater.pipeline.priors is taken


def test_labels_that_are_only_written_cannot_be_anchored(world, tmp_path):
    class Written(OracleTeacher):
        readout = "parsed"

    config = Config(
        "EXP3RT", "sample", config_dict=values(world, tmp_path / "a.sqlite", use_bias="prior")
    )
    settings = Settings.from_config(config)
    corpus = corpus_of(load_split(config).train, settings.description_fields, None)
    with pytest.raises(UsageError, match="needs the probability of every label"):
        make_rater(settings, corpus, load=lambda name, **options: Written())
