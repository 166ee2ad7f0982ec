"""What can be named in a run: the settings, models and metrics of RecBole, and our settings.

Read from the files of RecBole and of ours, so that a list never grows stale; neither RecBole nor
torch is imported for it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import yaml

from recbole_exp3rt.config.layers import Loader
from recbole_exp3rt.config.registry import MODELS
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import properties_dir

Kind = Literal["rating", "ranking", "other"]
RECBOLE = "pip install --no-deps recbole==1.2.1"

# Data sets that come with the package: name -> the module that makes it where it is missing.
BUILT_IN = {"sample": "dataset_converters.sample"}
# Read in RecBole's code, but in none of its yaml files.
UNLISTED = {
    *("model", "dataset", "config_files", "encoding", "double_tower"),
    *("local_rank", "world_size", "nproc", "ip", "port", "offset", "group_offset"),
    *("neg_sampling", "training_neg_sample_num", "token_num_threshold", "mf_embedding_size"),
    *("has_residual", "hidden_dimension", "eta", "contrast", "sim", "norm", "tail_ratio"),
    "xgb_early_stopping_rounds",
}
# yaml files of other things
NO_SETTINGS: tuple[str, ...] = (
    "url.yaml",
    "kg_url.yaml",
    "prices.yaml",
    "train.yaml",
    "tune.yaml",
    "spaces.yaml",
)
NO_SETTINGS += ("judge.yaml", "ground.yaml", "study.yaml")
GRIDS = "benchmark"  # a folder of grids, which are no settings
WHOLE = ("overall", "llm")  # yaml files of settings that a run has as a whole
_KEY = re.compile(r"^([A-Za-z_][\w-]*)\s*:", re.MULTILINE)


@cache
def recbole_dir() -> Path:
    """The folder of RecBole. Raises: UsageError, with the command, if it is not installed."""
    spec = find_spec("recbole")
    if spec is None or spec.origin is None:
        raise UsageError(f"RecBole is not installed; install it with `{RECBOLE}`")
    return Path(spec.origin).parent


def recbole_properties() -> Path:
    """The folder of RecBole's yaml files."""
    return recbole_dir() / "properties"


@cache
def top_keys(file: Path) -> frozenset[str]:
    """The keys at the top of a yaml file, found without a yaml parser, which takes long."""
    return frozenset(_KEY.findall(file.read_text(encoding="utf-8")))


@cache
def known_keys() -> frozenset[str]:
    """Every setting that RecBole or this package reads."""
    keys = set(UNLISTED)
    keys.update(*_argument_lists().values())
    for folder in (recbole_properties(), properties_dir()):
        for file in folder.rglob("*.yaml"):
            if file.name not in NO_SETTINGS and file.parent.name != GRIDS:
                keys |= top_keys(file)
    return frozenset(keys)


def _argument_lists() -> dict[str, list[str]]:
    """The lists of RecBole's `utils/argument_list.py`."""
    tree = ast.parse((recbole_dir() / "utils" / "argument_list.py").read_text(encoding="utf-8"))
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


# --- models

# Sequential models that need embeddings of a knowledge graph, a training before their training, or
# sequences of negative items and labels, by which RecBole cannot rank all items.
NEED_MORE = frozenset({"GRU4RecKG", "KSR", "S3Rec", "DIN", "DIEN"})


@cache
def model_values(model: str) -> Mapping[str, Any]:
    """The settings in the yaml files of `model`, ours over RecBole's."""
    values: dict[str, Any] = {}
    for file in _model_files(model):
        values.update(yaml.load(file.read_text(encoding="utf-8"), Loader) or {})
    return values


def _model_files(model: str) -> list[Path]:
    folders = (recbole_properties(), properties_dir())
    files = (folder / "model" / f"{model}.yaml" for folder in folders)
    return [file for file in files if file.is_file()]


def layer_names(model: str, kind: Kind, dataset: str, external: Mapping[str, Any]) -> list[str]:
    """Names of our yaml files that a run of `model` on `dataset` has, in the order of layers.

    A model with presets has the file `model/<Model>-<preset>.yaml` too, where there is one.
    """
    own = model_values(model).get("preset")
    preset = external.get("preset", own) if own else None
    presets = [f"model/{model}-{preset}"] if preset else []
    more = [f"dataset/{dataset}", f"model/{model}-{dataset}"]
    return [*WHOLE, kind, f"model/{model}", *presets, *more]


def default_values(model: str) -> dict[str, Any]:
    """Our settings and their defaults as `model` has them, without a data set."""
    values: dict[str, Any] = {}
    for name in WHOLE:
        file = properties_dir() / f"{name}.yaml"
        values |= yaml.load(file.read_text(encoding="utf-8"), Loader)
    return {**values, **model_values(model)}


@cache
def model_keys(model: str) -> frozenset[str]:
    """The settings that shape `model`: those of its yaml files, without the search."""
    keys: set[str] = set()
    return frozenset(keys.union(*map(top_keys, _model_files(model))) - {"search"})


# Every trained model of a run has these; a run may shorten all of them at once.
LENGTH = frozenset({"epochs", "train_batch_size", "stopping_step"})
TRAINING = frozenset(
    {"learning_rate", "learning_rate_patience", "learning_rate_floor", "learning_rate_falls"}
    | {"weight_decay", "clip_grad_norm", "embedding_size"}
)


def shaping_keys(model: str) -> frozenset[str]:
    """The settings that make `model` another model; they never follow to others of a run."""
    return (model_keys(model) | TRAINING) - LENGTH


def passed_on(values: Mapping[str, Any], own: str, other: str) -> dict[str, Any]:
    """Of a run of the model `own`, the user's `values` that its model `other` has too."""
    left = {"search"} | shaping_keys(own) | shaping_keys(other)
    return {key: value for key, value in values.items() if key not in left}


@cache
def keys_of_models() -> frozenset[str]:
    """Every setting that shapes some model and means nothing to a run as a whole."""
    files = (
        path
        for folder in (recbole_properties(), properties_dir())
        for path in (folder / "model").glob("*.yaml")
    )
    shaped = set(TRAINING).union(*(model_keys(path.stem) for path in files))
    whole = frozenset[str]().union(*(top_keys(properties_dir() / f"{name}.yaml") for name in WHOLE))
    return frozenset(shaped - LENGTH - UNLISTED - whole)


@cache
def _families() -> dict[str, str]:
    """Each of RecBole's own models -> the folder it stands in, such as `general`."""
    root = recbole_dir()
    modules = {
        file.stem: file.parent.name.removesuffix("_recommender")
        for file in (root / "model").glob("*_recommender/*.py")
    }
    names = sorted(path.stem for path in (root / "properties" / "model").glob("*.yaml"))
    return {name: modules[name.lower()] for name in names if name.lower() in modules}


def recbole_models() -> tuple[str, ...]:
    """Names of RecBole's own models, by its properties and module files."""
    return tuple(_families())


def all_models() -> list[str]:
    """Names of our models, then of RecBole's others."""
    return list(dict.fromkeys([*MODELS, *recbole_models()]))


def needs_more(model: str) -> bool:
    """Whether a model of RecBole's needs a knowledge graph, or what else a run does not have."""
    family = None if model in MODELS else _families().get(model)
    return family == "knowledge_aware" or model in NEED_MORE


def is_sequential(model: str) -> bool:
    """Whether a model of RecBole's learns from sequences."""
    return model not in MODELS and _families().get(model) == "sequential"


def kind_by_name(model: str) -> Kind:
    """What a model is measured by: given ratings, full-sort ranking, or as RecBole says."""
    if model in MODELS:
        return "rating" if MODELS[model].kind == "rating" else "ranking"
    return "other" if _families().get(model) in ("context_aware", "exlib") else "ranking"


# --- metrics


def ranking_metrics() -> Mapping[str, bool]:
    """RecBole's metrics, in small letters -> whether they measure a ranking.

    Once RecBole is imported, also those that a script has added to its register.
    """
    register = sys.modules.get("recbole.evaluator.register")
    added = getattr(register, "metric_types", {})
    ranking = {name: kind.name == "RANKING" for name, kind in added.items()}
    return {**_metrics_of_files(), **ranking}


@cache
def _metrics_of_files() -> Mapping[str, bool]:
    """A metric's file says its type, or the class that it extends does."""
    classes: dict[str, ast.ClassDef] = {}
    metrics: list[str] = []
    for name in ("base_metric", "metrics"):
        file = recbole_dir() / "evaluator" / f"{name}.py"
        found = _classes(ast.parse(file.read_text(encoding="utf-8")).body)
        classes |= found
        metrics = list(found)  # of the last file
    return {name.lower(): _is_ranking(name, classes) for name in metrics}


def _classes(nodes: Iterable[ast.stmt]) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


def _is_ranking(name: str, classes: Mapping[str, ast.ClassDef]) -> bool:
    for node in classes[name].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "metric_type":
            return ast.unparse(node.value).endswith(".RANKING")
    bases = (base.id for base in classes[name].bases if isinstance(base, ast.Name))
    return any(_is_ranking(base, classes) for base in bases if base in classes)
