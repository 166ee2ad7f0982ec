"""What can be named in a run: the settings and models of RecBole, and our settings.

Read from RecBole's and our own yaml files, so that a list never grows stale.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import yaml

from recbole_exp3rt.paths import properties_dir

# Read in RecBole's code, but in none of its yaml files.
UNLISTED = {
    *("model", "dataset", "config_files", "device", "encoding", "double_tower"),
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
        if file.name not in ("url.yaml", "kg_url.yaml"):  # lists of data sets, not settings
            keys.update(yaml.safe_load(file.read_text(encoding="utf-8")) or ())
    return frozenset(keys)


def model_keys(model: str) -> frozenset[str]:
    """The settings that shape `model`: those of its yaml files, without the search."""
    files = (
        folder / "model" / f"{model}.yaml" for folder in (_recbole_properties(), properties_dir())
    )
    keys: set[str] = set()
    for file in files:
        if file.is_file():
            keys.update(yaml.safe_load(file.read_text(encoding="utf-8")) or ())
    return frozenset(keys - {"search"})


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
