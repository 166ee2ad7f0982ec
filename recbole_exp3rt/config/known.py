"""What can be named in a run: the settings and models of RecBole, and our settings.

Read from RecBole's and our own yaml files, so that a list never grows stale.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from recbole_exp3rt.paths import properties_dir

# Read in RecBole's code, but in none of its yaml files.
UNLISTED = {
    *("model", "dataset", "config_files", "encoding", "double_tower"),
    *("local_rank", "world_size", "nproc", "ip", "port", "offset", "group_offset"),
    *("neg_sampling", "training_neg_sample_num", "token_num_threshold", "mf_embedding_size"),
    *("has_residual", "hidden_dimension", "eta", "contrast", "sim", "norm", "tail_ratio"),
    "xgb_early_stopping_rounds",
}


def _recbole() -> Path:
    spec = find_spec("recbole")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("recbole is not installed; pip install recbole==1.2.1")
    return Path(spec.origin).parent


def _recbole_properties() -> Path:
    return _recbole() / "properties"


@cache
def known_keys() -> frozenset[str]:
    """Every setting that RecBole or this package reads."""
    from recbole.utils import argument_list

    keys = set(UNLISTED)
    for name in ("general", "training", "evaluation", "dataset"):
        keys.update(getattr(argument_list, f"{name}_arguments"))
    folders = (_recbole_properties(), properties_dir())
    for file in (path for folder in folders for path in folder.rglob("*.yaml")):
        if file.name not in ("url.yaml", "kg_url.yaml", "prices.yaml", "train.yaml"):
            keys.update(yaml.safe_load(file.read_text(encoding="utf-8")) or ())
    return frozenset(keys)


@cache
def model_values(model: str) -> Mapping[str, Any]:
    """The settings in the yaml files of `model`, ours over RecBole's."""
    values: dict[str, Any] = {}
    for folder in (_recbole_properties(), properties_dir()):
        file = folder / "model" / f"{model}.yaml"
        if file.is_file():
            values.update(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    return values


def default_values(model: str) -> dict[str, Any]:
    """Our settings and their defaults as `model` has them, without a data set."""
    overall = yaml.safe_load((properties_dir() / "overall.yaml").read_text(encoding="utf-8"))
    return {**overall, **model_values(model)}


def model_keys(model: str) -> frozenset[str]:
    """The settings that shape `model`: those of its yaml files, without the search."""
    return frozenset(model_values(model).keys() - {"search"})


# Every trained model of a run has these; a run may shorten all of them at once.
LENGTH = frozenset({"epochs", "train_batch_size", "stopping_step"})
TRAINING = frozenset({"learning_rate", "weight_decay", "embedding_size"})


def shaping_keys(model: str) -> frozenset[str]:
    """The settings that make `model` another model; they never follow to others of a run."""
    return (model_keys(model) | TRAINING) - LENGTH


@cache
def keys_of_models() -> frozenset[str]:
    """Every setting that shapes some model and means nothing to a run as a whole."""
    files = (
        path
        for folder in (_recbole_properties(), properties_dir())
        for path in (folder / "model").glob("*.yaml")
    )
    shaped = set(TRAINING).union(*(model_keys(path.stem) for path in files))
    whole = yaml.safe_load((properties_dir() / "overall.yaml").read_text(encoding="utf-8"))
    return frozenset(shaped - LENGTH - UNLISTED - set(whole))


@cache
def recbole_models() -> tuple[str, ...]:
    """Names of RecBole's own models, by its properties and module files."""
    root = _recbole()
    modules = {
        module.name
        for folder in (root / "model").glob("*_recommender")
        for module in pkgutil.iter_modules([str(folder)])
    }
    names = (path.stem for path in (root / "properties" / "model").glob("*.yaml"))
    return tuple(sorted(name for name in names if name.lower() in modules))
