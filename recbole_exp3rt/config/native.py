"""`register()`: RecBole's own Config, quick start and tuning find our models and settings.

It is for scripts that call RecBole. Our own runs do not need it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

from recbole_exp3rt.config import compat

compat.apply()

import recbole.trainer  # noqa: E402
from recbole.config import Config as RecBoleConfig  # noqa: E402
from recbole.trainer import TraditionalTrainer, Trainer  # noqa: E402

from recbole_exp3rt.config.checks import check_measured  # noqa: E402
from recbole_exp3rt.config.configurator import Config, columns_read, kind_of  # noqa: E402
from recbole_exp3rt.config.dataset_file import read_dataset_file  # noqa: E402
from recbole_exp3rt.config.layers import merge_layer, read_layer  # noqa: E402
from recbole_exp3rt.config.registry import MODELS, find_model  # noqa: E402
from recbole_exp3rt.errors import UsageError  # noqa: E402
from recbole_exp3rt.paths import properties_dir  # noqa: E402
from recbole_exp3rt.trainer.trainer import RatingMixin  # noqa: E402


def register(trust_checkpoint: bool = False) -> None:
    """Make RecBole work with today's libraries and find our models by name. Call it first.

    Then RecBole's `Config`, `run_recbole`, `load_data_and_model`, `objective_function`,
    `HyperTuning` and `get_model` know Bias, MF, WDL and EXP3RT, and use our BPR, LightGCN and Pop
    in place of RecBole's. With `trust_checkpoint`, RecBole also reads checkpoints that another
    process wrote. They contain pickled objects, which can run code.
    """
    quick_start = compat.apply_to_quick_start()
    compat.CHECKPOINTS.trusted = trust_checkpoint
    if getattr(quick_start.get_model, "__wrapped__", None) is None:
        _find_our_models(quick_start)
        _load_our_settings()
    recbole.trainer.EXP3RTTrainer = EXP3RTTrainer  # where `get_trainer` looks
    recbole.trainer.RGCLTrainer = RGCLTrainer


class EXP3RTTrainer(RatingMixin, TraditionalTrainer):  # type: ignore[misc]
    """RecBole's trainer of EXP3RT: one epoch, because nothing is trained.

    An unreadable answer counts as the level with the largest error. RecBole rates all validation
    rows and all test rows; `eval_pairs` has no effect here.
    """


class RGCLTrainer(RatingMixin, Trainer):  # type: ignore[misc]
    """RecBole's trainer of RGCL: unknown users and items, and a learning rate that falls."""


def _find_our_models(quick_start: Any) -> None:
    """Replace `get_model`, which only looks in `recbole.model`."""
    utils: Any = import_module("recbole.utils.utils")
    original = utils.get_model

    @wraps(original)
    def get_model(model_name: str) -> Any:
        if model_name in MODELS:
            return find_model(model_name)
        with compat.no_search_for_anomalies():
            return original(model_name)

    names = ("recbole.utils", "recbole.config.configurator")
    for module in (utils, quick_start, *map(import_module, names)):
        module.get_model = get_model


def _load_our_settings() -> None:
    """Add our defaults to `Config`, which only reads RecBole's own folder."""
    original = RecBoleConfig._load_internal_config_dict

    @wraps(original)
    def _load_internal_config_dict(self: Any, model: str, model_class: type, dataset: str) -> None:
        original(self, model, model_class, dataset)
        if not isinstance(self, Config):  # our Config has its own layers
            _merge_defaults(self, model, model_class, dataset)

    RecBoleConfig._load_internal_config_dict = _load_internal_config_dict


def _merge_defaults(config: Any, model: str, model_class: type, dataset: str) -> None:
    """Add our defaults for our models, and the data set's own settings for every model.

    Our defaults never change the split here: in one script, RecBole's models and ours are trained
    and measured on the same rows.
    """
    internal, external = config.internal_config_dict, config.external_config_dict

    def merge(file: Path, *, only_new: bool = False) -> dict[str, Any]:
        layer = read_layer(file, config.yaml_loader) if file.is_file() else {}
        merge_layer(internal, {k: v for k, v in layer.items() if not only_new or k not in internal})
        return layer

    ours = model in MODELS and model_class.__module__ == MODELS[model].module
    if ours:
        folder = properties_dir()
        for name in ("overall", "llm"):
            merge(folder / f"{name}.yaml", only_new=True)
        if MODELS[model].kind == "rating":
            merge(folder / "rating.yaml")
        merge(folder / "model" / f"{model}.yaml")
        merge(folder / "model" / f"{model}-{dataset}.yaml")
    data_path = Path(str(external.get("data_path", internal["data_path"])))
    own = read_dataset_file(data_path / dataset / f"{dataset}.yaml")
    merge_layer(internal, own)
    kind = kind_of(model, model_class)
    read = columns_read({**internal, **external}, kind)
    if kind == "other":
        read |= _labels(model, {**internal, **external})
    internal.update(read)
    external.update({key: value for key, value in read.items() if key in external})
    own_args = dict(own.get("eval_args") or {})
    args = external.get("eval_args")
    if isinstance(args, Mapping):  # RecBole would drop the other keys
        own_args = {**own_args, **args}
        external["eval_args"] = {**internal["eval_args"], **args}
    final = {**internal, **external}
    if ours and MODELS[model].kind == "rating":
        check_measured(final, "rating", model)
    if (
        "order" not in own_args
        and final["eval_args"]["order"] == "RO"
        and not final["benchmark_filename"]
    ):
        _warn_of_split(dataset)


_WARNED: set[str] = set()  # names of data sets


def _warn_of_split(dataset: str) -> None:
    """Warns, once for each data set, that RecBole's default split is not that of our command."""
    if dataset in _WARNED:
        return
    _WARNED.add(dataset)
    warnings.warn(
        f"data set {dataset} is split at random here, which is RecBole's default. The command "
        "exp3rt splits by time, so its rows, results, candidates files and checkpoints are "
        "different. To have one split, set eval_args={'order': 'TO'} (by time) or 'RO' (random) in "
        "both",
        stacklevel=2,
    )


def _labels(model: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The `threshold` for a model that learns labels of 0 and 1, if nothing else makes labels.

    Without labels RecBole would fail in training. Ratings from `relevant_from` on get label 1.

    Raises: UsageError if the data set has no `relevant_from` or no ratings.
    """
    columns = (values["load_col"] or {}).get("inter", "*")
    if columns == "*" or values["LABEL_FIELD"] in columns:
        return {}
    if values["threshold"] or values["train_neg_sample_args"]:  # sampled rows are label 0
        return {}
    rating, relevant = values["RATING_FIELD"], values.get("relevant_from")
    if relevant is None or rating not in columns:
        raise UsageError(
            f"{model} learns labels of 0 and 1, and no column {values['LABEL_FIELD']} is loaded: "
            f"load it (LABEL_FIELD, load_col), or give threshold={{'{rating}': 4}}, so that "
            "ratings from 4 on become 1"
        )
    return {"threshold": {rating: relevant}}
