"""What is read quickly from RecBole's files is what RecBole itself says, imported."""

from importlib.util import find_spec

import pytest
import yaml
from worlds import structured_rows

from recbole_exp3rt.config import compat, known
from recbole_exp3rt.config.configurator import Config, kind_of
from recbole_exp3rt.config.precheck import precheck
from recbole_exp3rt.config.registry import find_model
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import properties_dir

# What RecBole completes when it has read all
COMPLETED = {"eval_args", "train_neg_sample_args", "encoding", "LABEL_FIELD"}
COMPLETED |= {"valid_metric_bigger"}


def test_the_keys_are_those_of_every_yaml_file_and_argument_list():
    from recbole.utils import argument_list

    keys = set(known.UNLISTED)
    for name in ("general", "training", "evaluation", "dataset"):
        keys.update(getattr(argument_list, f"{name}_arguments"))
    for folder in (known.recbole_properties(), properties_dir()):
        for file in folder.rglob("*.yaml"):
            if file.parent.name == "benchmark":  # grids, not settings
                continue
            values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
            own = {key for key in values if "." not in key}  # the others are of one model
            assert known.top_keys(file) == own, file
            if file.name not in known.NO_SETTINGS:
                keys.update(own)
    assert known.known_keys() == keys


def test_metrics_are_of_a_ranking_where_recbole_says_so():
    compat.apply()
    from recbole.evaluator import metric_types
    from recbole.utils import EvaluatorType

    ranking = {name: kind == EvaluatorType.RANKING for name, kind in metric_types.items()}
    assert known.ranking_metrics() == ranking


def test_a_model_is_of_the_kind_that_its_class_says():
    from recbole.utils import ModelType

    packages = {"xgboost": "xgboost", "lightgbm": "lightgbm"}
    names = [n for n in known.all_models() if n not in packages or find_spec(packages[n])]
    assert len(names) > 80
    for name in names:
        model_class = find_model(name)
        type_ = getattr(model_class, "type", None)
        assert known.is_sequential(name) == (type_ == ModelType.SEQUENTIAL)
        more = type_ == ModelType.KNOWLEDGE or name in known.NEED_MORE
        assert known.needs_more(name) == more
        if not known.needs_more(name):
            assert known.kind_by_name(name) == kind_of(name, model_class), name


@pytest.mark.parametrize(
    "model", ["EXP3RT", "Bias", "MF", "BPR", "LightGCN", "NeuMF", "NGCF", "SASRec"]
)
def test_the_settings_that_are_checked_are_those_of_the_run(model, make_world):
    given = {"topk": "[3, 7]", "seed": 9, f"{model}.epochs": 2, "eval_args": {"order": "RO"}}
    make_world(structured_rows(), rating_scale=[0, 5])
    given |= {"rating_scale": [0, 5]}
    checked, config = precheck(model, "world", None, given), Config(model, "world", None, given)
    assert checked["epochs"] == 2 and checked["topk"] == [3, 7]
    made = config.final_config_dict
    for key in checked.keys() - COMPLETED:
        assert checked[key] == made[key], key
    assert (
        checked["eval_args"].items()
        <= {**made["eval_args"], "mode": checked["eval_args"]["mode"]}.items()
    )


def test_a_package_that_a_model_needs_is_named_with_its_command(make_world, monkeypatch):
    make_world(structured_rows())
    monkeypatch.setattr("recbole_exp3rt.config.precheck.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="xgboost needs xgboost: pip install 'xgboost'"):
        precheck("xgboost", "world")
    with pytest.raises(UsageError, match=r"train needs trl: pip install 'recbole-exp3rt\[train\]'"):
        precheck("EXP3RT", "world", None, {"train": True, "rating_scale": [0, 5]})


def test_the_public_config_is_recboles_and_can_be_extended(make_world):
    import recbole_exp3rt
    from recbole_exp3rt.config.configurator import Config as Real

    make_world(structured_rows())

    class Own(recbole_exp3rt.Config):
        pass

    made = recbole_exp3rt.Config("BPR", "world")
    assert type(made) is Real and isinstance(made, recbole_exp3rt.Config)
    assert isinstance(Own("BPR", "world"), Real) and issubclass(Own, recbole_exp3rt.Config)
    assert recbole_exp3rt.Config.for_model is Real.for_model
