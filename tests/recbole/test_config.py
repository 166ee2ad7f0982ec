"""Layers of settings, and mistakes answered in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from worlds import structured_rows

from recbole_exp3rt.config.arguments import parse_arguments
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import properties_dir


def test_layers_in_their_order(make_world, tmp_path, monkeypatch):
    make_world(structured_rows(), model="MF")
    beside = tmp_path / "dataset" / "world" / "world.yaml"

    def item_word(**given):
        return Config("MF", "world", **given)["item_word"]

    ours = yaml.safe_load((properties_dir() / "overall.yaml").read_text())
    assert item_word() == ours["item_word"]
    beside.write_text("item_word: book\n")
    assert item_word() == "book"
    user_file = tmp_path / "mine.yaml"
    user_file.write_text("item_word: comic\n")
    files = [str(user_file)]
    assert item_word(config_file_list=files) == "comic"
    assert item_word(config_file_list=files, config_dict={"item_word": "film"}) == "film"
    monkeypatch.setattr(sys, "argv", ["run", "--item_word=song"])
    assert item_word(config_dict={"item_word": "film"}) == "film", "arguments are a command's"
    for arguments in (["--item_word=song"], ["--item_word", "song", "--refit"]):
        assert item_word(config_dict={"item_word": "film"}, arguments=arguments) == "song"


def test_data_set_says_how_to_split_and_model_how_to_measure(make_world, tmp_path):
    make_world(structured_rows())
    beside = tmp_path / "dataset" / "world" / "world.yaml"
    beside.write_text("eval_args: {split: {LS: valid_and_test}, order: TO}\n")
    rating, ranking = Config("Bias", "world"), Config("BPR", "world")
    for config in (rating, ranking):
        assert config["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert rating["eval_args"]["mode"]["test"] == "labeled"
    assert ranking["eval_args"]["mode"]["test"] == "full"


def test_values_of_one_kind_do_not_follow_to_the_other(make_world):
    rating = make_world(
        structured_rows(), metrics=["MAE"], valid_metric="MAE", seed=7, eval_args={"order": "RO"}
    )
    ranking = rating.for_model("LightGCN", n_layers=1)
    assert ranking["metrics"] == ["Recall", "NDCG"] and ranking["valid_metric"] == "Recall@20"
    assert ranking["seed"] == 7 and ranking["n_layers"] == 1
    assert ranking["eval_args"]["order"] == "RO"
    assert rating.for_model("MF")["metrics"] == ["MAE"]


def test_what_a_data_set_says_can_be_switched_off(make_world, tmp_path):
    make_world(structured_rows())
    (tmp_path / "dataset" / "world" / "world.yaml").write_text("relevant_from: 4\n")
    assert Config("BPR", "world")["relevant_from"] == 4
    assert Config("BPR", "world", config_dict={"relevant_from": "~"})["relevant_from"] is None
    with pytest.raises(UsageError, match="epochs=None is not a number"):
        Config("BPR", "world", config_dict={"epochs": None})


def test_any_model_of_recbole_keeps_its_own_properties(make_world):
    config = make_world(structured_rows(), model="NeuMF")
    assert config["mf_embedding_size"] == 64 and config["metrics"] == ["Recall", "NDCG"]
    context = make_world(structured_rows(), model="FM", threshold={"rating": 3})
    assert context["metrics"] == ["AUC", "LogLoss"]


def test_valid_metric_goes_along_with_topk(make_world):
    assert make_world(structured_rows(), model="BPR", topk=[3, 7])["valid_metric"] == "Recall@7"


def test_valid_metric_goes_along_with_metrics(make_world):
    assert make_world(structured_rows(), model="BPR", metrics=["MRR"])["valid_metric"] == "MRR@20"
    assert make_world(structured_rows(), model="MF", metrics=["MAE"])["valid_metric"] == "MAE"


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        ("Bias", {"metrics": ["Recall"]}, "'Recall' does not measure this run; take RMSE, MAE"),
        ("MF", {"metrics": ["AUC"]}, "'AUC' does not measure this run; take RMSE, MAE"),
        ("MF", {"valid_metric": "RMSE@10"}, "valid_metric=RMSE@10 has another form; take RMSE"),
        ("EXP3RT", {"metrics": ["MRR"], "task": "rating"}, "'MRR' does not measure this run"),
        ("EXP3RT", {"metrics": ["MAE"], "task": "rerank"}, "'MAE' does not measure this run"),
        ("EXP3RT", {"metrics": ["LogLoss"]}, "take RMSE, MAE or Recall"),
    ],
)
def test_a_metric_that_measures_nothing_of_a_run_is_refused(make_world, model, values, message):
    with pytest.raises(UsageError, match=message):
        make_world(structured_rows(), model=model, **values)


def test_each_kind_of_a_run_takes_its_own_metrics(make_world):
    """EXP3RT rates and reranks; Bias and MF beside it rate, its generator ranks."""
    chosen = {"metrics": "[MAE,MRR,Hit]", "valid_metric": "MRR@10"}
    config = make_world(structured_rows(), model="EXP3RT", **chosen)
    for rating in (config, config.for_model("Bias"), config.for_model("EXP3RT")):
        assert (rating["metrics"], rating["valid_metric"]) == (["MAE"], "MAE")
    ranking = config.for_model("BPR")
    assert (ranking["metrics"], ranking["valid_metric"]) == (["MRR", "Hit"], "MRR@10")
    only = make_world(structured_rows(), model="EXP3RT", metrics=["MRR"], task="rerank")
    assert only.for_model("Bias")["metrics"] == ["RMSE", "MAE"]
    assert only.for_model("LightGCN")["metrics"] == ["MRR"]


def test_what_shapes_a_model_stays_with_it(make_world):
    """`reg_weight` is another thing in each model; one value for all would be silently wrong."""
    config = make_world(structured_rows(), "MF", **{"reg_weight": 77.0, "LightGCN.n_layers": 1})
    usual = make_world(structured_rows(), "MF")
    assert config["reg_weight"] == config.for_model("MF")["reg_weight"] == 77.0
    for other in ("Bias", "BPR", "LightGCN"):
        wanted = usual.for_model(other)["reg_weight"]
        assert config.for_model(other)["reg_weight"] == wanted != 77.0
    assert config.for_model("LightGCN")["n_layers"] == 1
    assert usual.for_model("LightGCN")["n_layers"] == 3


def test_epochs_and_batch_sizes_go_to_every_model_of_a_run(make_world):
    config = make_world(structured_rows(), "EXP3RT", epochs=2, train_batch_size=64)
    for model in ("MF", "LightGCN", "NGCF"):
        other = config.for_model(model)
        assert (other["epochs"], other["train_batch_size"]) == (2, 64)


def test_text_values_are_read_not_run(make_world):
    config = make_world(structured_rows(), topk="[5, 10]", review_file="os.getcwd()")
    assert config["topk"] == [5, 10] and config["review_file"] == "os.getcwd()"


MISTAKES = [
    ({"learning_rat": 0.1}, "learning_rat .*did you mean learning_rate"),
    ({"rerank_dept": 5}, "rerank_dept .*did you mean rerank_depth"),
    ({"epochs": "many"}, "epochs='many' is not a number"),
    ({"epochs": 0}, "epochs=0 is not above 0"),
    ({"epochs": 2.5}, "epochs=2.5 is not a whole number"),
    ({"refit": "maybe"}, "refit='maybe' is not True or False"),
    ({"topk": [0]}, r"topk=\[0\]"),
    ({"topk": "deep"}, "topk='deep'"),
    ({"metrics": ["Recal"]}, "'Recal' .*did you mean recall"),
    ({"metrics": ["RMSE", "Recall"]}, "metrics: 'RMSE' does not measure this run; take Recall"),
    ({"metrics": ["AUC"]}, "metrics: 'AUC' does not measure this run; take Recall"),
    ({"metrics": []}, r"metrics=\[\] names no metric"),
    ({"metrics": None}, "metrics=None names no metric"),
    ({"metrics": 5}, "metrics=5 is not a name or a list of names"),
    ({"valid_metric": "Recall"}, "valid_metric=Recall has another form; take Recall@20"),
    ({"valid_metric": "Recal@20"}, "valid_metric: 'Recal' .*did you mean recall"),
    ({"valid_metric": "RMSE"}, "valid_metric: 'RMSE' does not measure this run; take Recall"),
    ({"valid_metric": "NDCG@7"}, "valid_metric=NDCG@7 is not within topk"),
    ({"valid_metric": "Hit@10"}, "valid_metric=Hit@10 is not among metrics"),
    ({"eval_args": {"mode": "sideways"}}, "sideways"),
    ({"train_neg_sample_args": {"distribution": "odd"}}, "odd"),
    ({"data_path": "nowhere"}, "world does not exist: no nowhere/world/world.inter; convert"),
    ({"benchmark_filename": ["train", "valid", "test"]}, "no dataset/world/world.train.inter"),
    ({"search": [1, 2]}, "search="),
    ({"search": {"reg_weight": 3.0}}, r"search: reg_weight=3\.0 is not a list"),
    ({"search": {"reg_wait": [3.0]}}, "search: .*did you mean reg_weight"),
    ({"search": {"epochs": [0, 5]}}, "search: epochs=0 is not above 0"),
    ({"reg_weight": -1}, "reg_weight=-1 is below 0"),
    ({"mlp_hidden_size": [8]}, "mlp_hidden_size is no setting of BPR.*--WDL.mlp_hidden_size"),
    ({"LightGNC.n_layers": 2}, "LightGNC is no model .*did you mean LightGCN"),
    ({"LightGCN.n_layer": 2}, "LightGCN.n_layer is known neither .*did you mean n_layers"),
    ({"LightGCN.n_layers": "many"}, "LightGCN.n_layers='many' is not a number"),
    ({"LightGCN.reg_weight": -1}, "LightGCN.reg_weight=-1 is below 0"),
    ({"reg_weight": "1e999"}, "reg_weight=inf is not a finite number"),
    ({"learner": "nope"}, "learner='nope' is not one of adam"),
    ({"eval_step": 0}, "eval_step=0 is not above 0"),
    ({"stopping_step": -1}, "stopping_step=-1 is below 0"),
    ({"device": "cpu"}, "device is known neither"),
    ({"data_path": 5}, "data_path=5 is not a text"),
    ({"eval_args": {"foo": 1}}, "eval_args: foo is none of split, order"),
    ({"eval_args": {"mode": "uni100"}}, "eval_args: mode='uni100' measures no ranking here"),
    ({"search": {"eval_pairs": [3]}}, "search: eval_pairs is no setting of BPR"),
    ({"search": {"MF.reg_weight": [3]}}, "search: MF.reg_weight is no setting of BPR"),
]


@pytest.mark.parametrize(("values", "message"), MISTAKES)
def test_a_mistake_is_named_in_one_line(make_world, values, message):
    with pytest.raises(UsageError, match=message) as raised:
        make_world(structured_rows(), model="BPR", **values)
    assert "\n" not in str(raised.value)


def test_unknown_model_and_missing_names(make_world):
    make_world(structured_rows())
    with pytest.raises(UsageError, match=r"LightGNC .*did you mean LightGCN"):
        Config("LightGNC", "world")
    with pytest.raises(UsageError, match=r"lightgcn .*did you mean LightGCN"):
        Config("lightgcn", "world")
    with pytest.raises(UsageError, match="model=KGAT needs a knowledge graph"):
        Config("KGAT", "world")
    with pytest.raises(UsageError, match="no model"):
        Config(dataset="world")
    with pytest.raises(UsageError, match="no data set"):
        Config("BPR")


def test_settings_files_that_cannot_be_read(make_world, tmp_path):
    make_world(structured_rows())
    with pytest.raises(UsageError, match=r"absent\.yaml"):
        Config("BPR", "world", config_file_list=["absent.yaml"])
    (tmp_path / "broken.yaml").write_text("epochs: [1\n")
    with pytest.raises(UsageError, match=r"not YAML.*broken\.yaml"):
        Config("BPR", "world", config_file_list=["broken.yaml"])
    with pytest.raises(UsageError, match=r"settings file cannot be read: .*directory"):
        Config("BPR", "world", config_file_list=["."])
    (tmp_path / "list.yaml").write_text("- epochs\n")
    with pytest.raises(UsageError, match=r"list\.yaml does not contain settings"):
        Config("BPR", "world", config_file_list=["list.yaml"])


@pytest.mark.parametrize("argument", ["-m", "--epochs", "epochs=3", "--=3"])
def test_arguments_have_one_form(argument):
    with pytest.raises(UsageError, match=r"not of the form --key=value|has no value"):
        parse_arguments([argument])


def test_an_argument_keeps_its_later_equals_signs():
    assert parse_arguments(["--result_file=a=b.json"]) == {"result_file": "a=b.json"}
    with pytest.raises(UsageError, match="given twice"):
        parse_arguments(["--seed=1", "--seed=2"])


def test_every_setting_of_ours_is_known():
    from recbole_exp3rt.config.known import NO_SETTINGS, known_keys

    found = Path(properties_dir()).rglob("*.yaml")
    grids = "benchmark"
    files = [f for f in found if f.name not in NO_SETTINGS and f.parent.name != grids]
    assert files
    for file in files:
        keys = yaml.safe_load(file.read_text()) or {}
        assert {key.rpartition(".")[2] for key in keys} <= known_keys(), file


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        ("EXP3RT", {"threshold": {"rating": 4}}, "threshold=.*turns the ratings into labels 0 and"),
        ("MF", {"threshold": {"rating": 4}}, "MF predicts ratings; leave it out"),
        ("Bias", {"normalize_field": ["rating"]}, "normalize_field=.*changes the ratings"),
        ("BPR", {"normalize_all": True}, "normalize_all=True changes the ratings"),
        ("BPR", {"discretization": {"rating": {}}}, "discretization=.*changes the ratings"),
        ("BPR", {"repeatable": True}, "repeatable=True: .*always masked"),
    ],
)
def test_what_would_change_the_meaning_of_a_metric_is_refused(make_world, model, values, message):
    """RMSE of labels 0 and 1, or of ratings in other units, would pass as RMSE of ratings."""
    with pytest.raises(UsageError, match=message):
        make_world(structured_rows(), model=model, rating_scale=[0, 5], **values)
    make_world(structured_rows(), model=model, normalize_field=["timestamp"])
