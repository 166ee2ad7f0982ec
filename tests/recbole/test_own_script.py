"""RecBole's own Config, data and trainers in a user's script: reranked, and with our models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from worlds import LOADED, SETTINGS, prepare, structured_rows, write_inter

import recbole_exp3rt
from recbole_exp3rt import Candidates, UsageError, make_reranking_trainer
from recbole_exp3rt.rerank.reranker import KeepOrder

SEQUENTIAL = {
    "train_neg_sample_args": None,
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
}


class Reverse:
    def rerank(self, lists: Sequence[Candidates]) -> list[Sequence[float]]:
        return [range(len(one.items)) for one in lists]


@pytest.fixture(autouse=True)
def registered(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["script.py"])  # RecBole's Config reads the command line
    recbole_exp3rt.register()
    write_inter(tmp_path / "dataset" / "world" / "world.inter", structured_rows(n_items=60))


def stock(name):
    """A class of RecBole's, whatever `get_model` now answers to its name."""
    from recbole.model import general_recommender, sequential_recommender

    return getattr(general_recommender, name, None) or getattr(sequential_recommender, name)


# --- make_reranking_trainer


@pytest.mark.parametrize("name", ["BPR", "LightGCN", "Pop", "SASRec"])
def test_stock_models_and_trainers_are_reranked(name):
    from recbole.utils import get_trainer

    settings = SEQUENTIAL if name == "SASRec" else {}
    config, train, valid, test, model = prepare(stock(name), **settings)
    assert type(model).__module__.startswith("recbole.model")
    plain = get_trainer(config["MODEL_TYPE"], config["model"])
    trainer = plain(config, model)
    trainer.fit(train, valid, verbose=False)
    base = trainer.evaluate(test)  # the best epoch's checkpoint, which this process wrote
    same = make_reranking_trainer(plain, KeepOrder())(config, model)
    file = trainer.saved_model_file
    assert same.evaluate(test, model_file=file) == base and base["recall@20"] > 0
    turned = make_reranking_trainer(plain, Reverse())(config, model)
    after = turned.evaluate(test, model_file=file)
    assert after["recall@20"] == base["recall@20"] and after["ndcg@5"] != base["ndcg@5"]
    assert len(turned.lists) == 60 and {len(one.order) for one in turned.lists} == {20}
    assert turned.lists[0].candidates.user.startswith("u")
    turned.evaluate(test, load_best_model=False)
    assert len(turned.lists) == 60, "of the latest evaluation"


def test_fit_validates_the_generator_and_evaluate_asks_the_reranker():
    from recbole.trainer import Trainer

    class Counts(Reverse):
        asked = 0

        def rerank(self, lists):
            self.asked += len(lists)
            return super().rerank(lists)

    config, train, valid, test, model = prepare("BPR")
    counts = Counts()
    trainer = make_reranking_trainer(Trainer, counts)(config, model)
    trainer.fit(train, valid, verbose=False)
    assert counts.asked == 0, "a language model is not asked once an epoch"
    trainer.evaluate(test)
    assert counts.asked == 60


def test_depth_of_the_lists():
    from recbole.trainer import Trainer

    config, *_, test, model = prepare("BPR", topk=[5], rerank_depth=7)
    made = [make_reranking_trainer(Trainer, KeepOrder(), depth) for depth in (None, 9)]
    for trainer_class, depth in zip(made, (7, 9), strict=True):
        trainer = trainer_class(config, model)
        trainer.evaluate(test, load_best_model=False)
        assert {len(one.order) for one in trainer.lists} == {depth}
    with pytest.raises(UsageError, match=r"rerank_depth=4 is below max\(topk\)=5"):
        make_reranking_trainer(Trainer, KeepOrder(), depth=4)(config, model)


def test_sampled_candidates_cannot_be_reranked():
    from recbole.trainer import Trainer

    config, *_, test, model = prepare("BPR", eval_args={"mode": "uni10"})
    trainer = make_reranking_trainer(Trainer, KeepOrder())(config, model)
    with pytest.raises(UsageError, match="only an evaluation of all items can be reranked"):
        trainer.evaluate(test, load_best_model=False)


# --- RecBole's functions with our models

OURS = ["MF", "Bias", "WDL", "BPR", "LightGCN"]


def settings_file(model, **settings):
    ranks = model in ("BPR", "LightGCN")
    values = {k: v for k, v in SETTINGS.items() if ranks or k in ("load_col", "show_progress")}
    path = Path("mine.yaml")
    more = {"model": model, "dataset": "world", "use_gpu": False, **settings}
    path.write_text(json.dumps({**values, "epochs": 2, **more}))  # JSON is YAML
    return [str(path)]


@pytest.mark.parametrize("name", OURS)
def test_run_recbole_then_load_data_and_model(name):
    from recbole.quick_start import load_data_and_model, run_recbole
    from recbole.trainer import Trainer

    result = run_recbole(config_file_list=settings_file(name))["test_result"]
    assert set(result) >= ({"recall@20"} if name in ("BPR", "LightGCN") else {"rmse", "mae"})
    (file,) = Path("saved").glob(f"{name}-*.pth")
    config, model, _, _, _, test = load_data_and_model(str(file))
    assert type(model).__module__.startswith("recbole_exp3rt.model")
    assert Trainer(config, model).evaluate(test, load_best_model=False) == result


@pytest.mark.parametrize("name", OURS)
def test_objective_function_and_hyper_tuning_agree(name):
    from recbole.quick_start import objective_function
    from recbole.trainer import HyperTuning

    pytest.importorskip("hyperopt")
    files = settings_file(name)
    one = objective_function({"learning_rate": 0.02}, files)
    space = {"choice": {"learning_rate": [0.02]}}
    tuning = HyperTuning(objective_function, params_dict=space, fixed_config_file_list=files)
    tuning.run()
    assert tuning.params2result == {"learning_rate:0.02": one} and one["model"] == name


@pytest.mark.parametrize("algorithm", ["exhaustive", "bayes", "random"])
def test_hyper_tuning_finds_the_better_setting(algorithm):
    from recbole.quick_start import objective_function
    from recbole.trainer import HyperTuning

    pytest.importorskip("hyperopt")
    space = {"choice": {"reg_weight": [0.5, 500.0]}}
    files = settings_file("Bias")
    one = objective_function({"reg_weight": 500.0}, files)
    tuning = HyperTuning(
        objective_function,
        params_dict=space,
        fixed_config_file_list=files,
        algo=algorithm,
        max_evals=2,
    )
    tuning.run()
    assert set(tuning.score_list) <= {one["best_valid_score"], tuning.best_score}
    if algorithm == "exhaustive":
        assert tuning.best_params == {"reg_weight": 0.5} and len(tuning.params2result) == 2


@pytest.fixture(scope="module")
def sample(sample_files):
    return sample_files.parent


def test_exp3rt_through_every_function_of_recbole(sample):
    from recbole.quick_start import load_data_and_model, objective_function, run_recbole
    from recbole.trainer import HyperTuning, Trainer

    values = {"data_path": str(sample), "student": "oracle", "max_new_tokens": 256}
    files = settings_file("EXP3RT", dataset="sample", epochs=50, load_col=None, **values)
    text = json.loads(Path(files[0]).read_text())
    del text["load_col"]  # the data set's own file names what is loaded
    Path(files[0]).write_text(json.dumps(text))
    result = run_recbole(config_file_list=files)["test_result"]
    assert result["rmse"] < 1.6, "one epoch of nothing, and the teacher's ratings"
    tuning = HyperTuning(
        objective_function,
        params_dict={"choice": {"use_bias": [True]}},
        fixed_config_file_list=files,
    )
    tuning.run()
    assert next(iter(tuning.params2result.values()))["test_result"] == result
    file = max(Path("saved").glob("EXP3RT-*.pth"))
    config, model, _, _, _, test = load_data_and_model(str(file))
    assert Trainer(config, model).evaluate(test, load_best_model=False) == result


def test_exp3rt_reranks_in_a_script_from_the_train_rows_it_is_given(sample):
    from recbole.config import Config
    from recbole.trainer import Trainer

    from recbole_exp3rt import RatingReranker
    from recbole_exp3rt.model.exp3rt import EXP3RT

    here = {"data_path": str(sample), "load_col": LOADED}
    config, train, _, test, model = prepare("BPR", dataset="sample", **here)
    rates = Config("EXP3RT", "sample", config_dict={**here, "student": "oracle"})
    reranker = RatingReranker(EXP3RT(rates, train.dataset).rate)
    turned = make_reranking_trainer(Trainer, reranker)(config, model)
    base = Trainer(config, model).evaluate(test, load_best_model=False)
    after = turned.evaluate(test, load_best_model=False)
    assert after["recall@20"] == base["recall@20"] and after["ndcg@5"] > base["ndcg@5"]


def test_an_unreadable_answer_counts_as_the_farthest_level(sample, monkeypatch):
    from recbole.quick_start import run_recbole

    from recbole_exp3rt.model.exp3rt import EXP3RT

    def unread(self, interaction):
        return torch.full_like(interaction["rating"], float("nan"))

    monkeypatch.setattr(EXP3RT, "predict", unread)
    values = {"data_path": str(sample), "student": "oracle", "show_progress": False}
    result = run_recbole("EXP3RT", "sample", config_dict=values)["test_result"]
    assert 4.5 < result["mae"] <= 9, "on 1–10 the farthest level is five or more away"


# --- layers of settings in RecBole's Config


def test_our_defaults_stand_below_the_user_s_values_and_split_nothing():
    from recbole.config import Config

    values = {"load_col": LOADED}
    ours = Config("MF", "world", config_dict=values)
    assert ours["reg_bias"] == 3.0 and ours["metrics"] == ["RMSE", "MAE"]
    assert Config("MF", "world", config_dict={**values, "reg_bias": 4.0})["reg_bias"] == 4.0
    theirs = Config("NeuMF", "world", config_dict=values)
    for key in ("split", "order", "group_by"):
        assert ours["eval_args"][key] == theirs["eval_args"][key]
    assert theirs["topk"] == [10] and theirs["reg_bias"] is None


def test_a_data_set_says_how_it_is_split_for_every_model():
    from recbole.config import Config

    Path("dataset/world/world.yaml").write_text("eval_args: {split: {RS: [6, 2, 2]}, order: TO}")
    for name in ("MF", "NeuMF", stock("BPR")):
        by_time = Config(name, "world")["eval_args"]
        assert (by_time["split"], by_time["order"]) == ({"RS": [6, 2, 2]}, "TO")
        given = Config(name, "world", config_dict={"eval_args": {"order": "RO"}})["eval_args"]
        assert (given["split"], given["order"]) == ({"RS": [6, 2, 2]}, "RO")


def test_recbole_s_own_split_is_told_once_where_ours_is_another(recwarn, tmp_path):
    from recbole.config import Config

    def told(name, **values):
        write_inter(tmp_path / "dataset" / name / f"{name}.inter", structured_rows(n_users=5))
        recwarn.clear()
        for model in (stock("BPR"), "MF"):
            Config(model, name, config_dict={"load_col": LOADED, **values})
        return [str(w.message) for w in recwarn if "split at random" in str(w.message)]

    (said,) = told("unsaid")
    assert "data set unsaid is split at random here" in said and "splits by time" in said
    assert not told("unsaid"), "once"
    assert not told("by_time", eval_args={"order": "TO"})
    assert not told("at_random", eval_args={"order": "RO"})
    assert not told("fixed", benchmark_filename=["train", "valid", "test"])
    (tmp_path / "dataset" / "says" / "says.yaml").parent.mkdir()
    (tmp_path / "dataset" / "says" / "says.yaml").write_text("eval_args: {order: RO}")
    assert not told("says")
    assert told("ratio", eval_args={"split": {"RS": [6, 2, 2]}})


def test_labels_instead_of_ratings_are_refused_in_a_script_too():
    from recbole.config import Config

    values = {"load_col": LOADED, "threshold": {"rating": 4}}
    with pytest.raises(UsageError, match=r"threshold=.*into labels.*leave it out"):
        Config("MF", "world", config_dict=values)
    assert Config("BPR", "world", config_dict=values)["threshold"]


def test_our_own_config_is_as_it_was(make_world):
    config = make_world(structured_rows(), model="BPR")
    assert config["topk"] == [5, 10, 15, 20] and config["eval_args"]["order"] == "TO"


def test_a_ray_that_does_not_import_is_stood_in_for(monkeypatch):
    import sys

    from recbole_exp3rt.config import compat

    for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it raises
    compat._replace_ray()
    from ray import tune

    assert tune.report(rmse=1.0) is None


@pytest.mark.parametrize("name", sorted(recbole_exp3rt.__all__))
def test_public_names_arrive_when_they_are_used(name):
    assert getattr(recbole_exp3rt, name).__name__ == name and name in dir(recbole_exp3rt)
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = recbole_exp3rt.nothing
