"""RecBole's own Config, quick start, tuning and look-up with our models: what `register()` does.

For scripts that are written against RecBole. Our own runs (`quick_start.py`) need none of it.
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
import torch  # noqa: E402
from recbole.config import Config as RecBoleConfig  # noqa: E402
from recbole.trainer import TraditionalTrainer  # noqa: E402

from recbole_exp3rt.config.checks import check_measured  # noqa: E402
from recbole_exp3rt.config.configurator import Config, columns_read, kind_of  # noqa: E402
from recbole_exp3rt.config.dataset_file import read_dataset_file  # noqa: E402
from recbole_exp3rt.config.layers import lay_over, read_layer  # noqa: E402
from recbole_exp3rt.config.registry import MODELS, find_model  # noqa: E402
from recbole_exp3rt.config.settings import read_scale  # noqa: E402
from recbole_exp3rt.errors import UsageError  # noqa: E402
from recbole_exp3rt.evaluator.ratings import filled  # noqa: E402
from recbole_exp3rt.paths import properties_dir  # noqa: E402


def register(trust_checkpoint: bool = False) -> None:
    """Let RecBole run on today's libraries and find our models by name. Call it first.

    From here on RecBole's `Config`, `run_recbole`, `load_data_and_model`, `objective_function`,
    `HyperTuning` and `get_model` know Bias, MF, WDL and EXP3RT, and take our BPR, LightGCN
    and Pop for RecBole's. With `trust_checkpoint`, RecBole also reads checkpoints that another
    process wrote; they hold pickled objects, which can run code.
    """
    quick_start = compat.apply_to_quick_start()
    compat.CHECKPOINTS.trusted = trust_checkpoint
    if getattr(quick_start.get_model, "__wrapped__", None) is None:
        _find_our_models(quick_start)
        _load_our_settings()
    recbole.trainer.EXP3RTTrainer = EXP3RTTrainer  # where `get_trainer` looks


class EXP3RTTrainer(TraditionalTrainer):  # type: ignore[misc]
    """One epoch, as nothing is trained; an unreadable answer counts as the farthest level.

    RecBole rates all validation rows, then all test rows: `eval_pairs` belongs to our own runs.
    """

    def _neg_sample_batch_eval(self, batched_data: Any) -> Any:
        interaction, ratings, *positives = super()._neg_sample_batch_eval(batched_data)
        # ratings: [batch], NaN where no answer could be read
        given = interaction[self.config["RATING_FIELD"]].cpu().numpy()
        counted = filled(ratings.cpu().numpy(), given, read_scale(self.config))
        return interaction, torch.from_numpy(counted).to(ratings), *positives


def _find_our_models(quick_start: Any) -> None:
    """`get_model` looks in `recbole.model` only."""
    utils: Any = import_module("recbole.utils.utils")
    original = utils.get_model

    @wraps(original)
    def get_model(model_name: str) -> Any:
        return find_model(model_name) if model_name in MODELS else original(model_name)

    names = ("recbole.utils", "recbole.config.configurator")
    for module in (utils, quick_start, *map(import_module, names)):
        module.get_model = get_model


def _load_our_settings() -> None:
    """`Config` reads defaults from RecBole's own folder only; ours go above them."""
    original = RecBoleConfig._load_internal_config_dict

    @wraps(original)
    def _load_internal_config_dict(self: Any, model: str, model_class: type, dataset: str) -> None:
        original(self, model, model_class, dataset)
        if not isinstance(self, Config):  # which has its own layers
            _lay_over_defaults(self, model, model_class, dataset)

    RecBoleConfig._load_internal_config_dict = _load_internal_config_dict


def _lay_over_defaults(config: Any, model: str, model_class: type, dataset: str) -> None:
    """Our model's settings over RecBole's, and for any model what the data set says of itself.

    How a data set is split is never a model's matter here: in one script, all models of RecBole
    and of ours are trained and measured on the same rows.
    """
    internal, external = config.internal_config_dict, config.external_config_dict

    def lay(file: Path, *, only_new: bool = False) -> dict[str, Any]:
        layer = read_layer(file, config.yaml_loader) if file.is_file() else {}
        lay_over(internal, {k: v for k, v in layer.items() if not only_new or k not in internal})
        return layer

    ours = model in MODELS and model_class.__module__ == MODELS[model].module
    if ours:
        folder = properties_dir()
        lay(folder / "overall.yaml", only_new=True)
        if MODELS[model].kind == "rating":
            lay(folder / "rating.yaml")
        lay(folder / "model" / f"{model}.yaml")
        lay(folder / "model" / f"{model}-{dataset}.yaml")
    data_path = Path(str(external.get("data_path", internal["data_path"])))
    said = read_dataset_file(data_path / dataset / f"{dataset}.yaml")
    lay_over(internal, said)
    kind = kind_of(model, model_class)
    read = columns_read({**internal, **external}, kind)
    if kind == "other":
        read |= _labels(model, {**internal, **external})
    internal.update(read)
    external.update({key: value for key, value in read.items() if key in external})
    own = dict(said.get("eval_args") or {})
    args = external.get("eval_args")
    if isinstance(args, Mapping):  # RecBole would drop what it leaves out
        own = {**own, **args}
        external["eval_args"] = {**internal["eval_args"], **args}
    final = {**internal, **external}
    if ours and MODELS[model].kind == "rating":
        check_measured(final, "rating", model)
    if (
        "order" not in own
        and final["eval_args"]["order"] == "RO"
        and not final["benchmark_filename"]
    ):
        _say_split(dataset)


_SAID: set[str] = set()  # data sets of whose split was told


def _say_split(dataset: str) -> None:
    """Warns, once a data set, that RecBole's usual split is not the usual one of our command."""
    if dataset in _SAID:
        return
    _SAID.add(dataset)
    warnings.warn(
        f"data set {dataset} is split at random here, RecBole's default; run by recbole_exp3rt's "
        "command it is split by time, so rows, results, candidates files and checkpoints are not "
        "those of the command: say eval_args={'order': 'TO'}, or 'RO', to both",
        stacklevel=2,
    )


def _labels(model: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The `threshold` of a model that learns labels of 0 and 1, where nothing else makes them.

    RecBole would fail in training. What counts as relevant in the data set is its label 1.
    Raises: UsageError if the data set does not say that.
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
            f"load it (LABEL_FIELD, load_col), or give threshold={{'{rating}': 4}}, which makes 1 "
            "of ratings from 4 on"
        )
    return {"threshold": {rating: relevant}}
