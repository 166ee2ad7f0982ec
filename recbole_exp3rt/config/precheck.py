"""All of a run that can be checked without torch, which takes seconds to import.

`precheck` reads the settings in the order of `configurator.Config` and raises what that would
raise: unknown settings, models, data sets, generators, baselines, values out of range, packages
and keys that are missing. It returns the settings; RecBole makes its own of them afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from recbole_exp3rt.config.arguments import parse_arguments
from recbole_exp3rt.config.checks import (
    MissingDataset,
    check_dataset,
    check_keys,
    check_measured,
    check_metrics,
    check_shaping,
    check_values,
    kinds_measured,
)
from recbole_exp3rt.config.dataset_file import read_dataset_file
from recbole_exp3rt.config.described import flags, groups_of_run
from recbole_exp3rt.config.known import (
    BUILT_IN,
    all_models,
    kind_by_name,
    layer_names,
    model_values,
    needs_more,
    passed_on,
    recbole_dir,
    recbole_properties,
)
from recbole_exp3rt.config.layers import (
    merge_layer,
    of_own_model,
    read_layer,
    read_layers,
    read_values,
)
from recbole_exp3rt.config.registry import MODELS, asks
from recbole_exp3rt.config.registry import names as systems
from recbole_exp3rt.config.settings import ModelSettings, RunSettings, Settings
from recbole_exp3rt.config.systems import SETTINGS
from recbole_exp3rt.encode.encoders import PACKAGE as ENCODE
from recbole_exp3rt.encode.encoders import missing_package
from recbole_exp3rt.errors import NotHere, UsageError, nearest
from recbole_exp3rt.llm.card import folder_of
from recbole_exp3rt.llm.names import ORACLE, PRESETS, is_served
from recbole_exp3rt.llm.server.openai_llm import HTTPOptions
from recbole_exp3rt.paths import properties_dir

USUAL = {"model": "EXP3RT", "dataset": "sample"}  # of a command line alone
CHECKPOINTS = (".pth", ".pt")
TABLES = {".tsv": "\t", ".txt": "\t", ".csv": ","}
# Packages that a model or a setting needs, and how they are installed.
PACKAGES = {
    "xgboost": {"xgboost": "xgboost"},
    "lightgbm": {"lightgbm": "lightgbm"},
    "log_wandb": {"wandb": "wandb"},
    "train": {"trl": "recbole-exp3rt[train]", "accelerate": "recbole-exp3rt[train]"},
}
ENCODES = {"TextKNN", "RGCL"}  # systems that need the setting `encoder`


def precheck(
    model: str | type | None = None,
    dataset: str | None = None,
    config_files: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    arguments: Sequence[str] | None = None,
    *,
    annotates: bool = False,
) -> dict[str, Any]:
    """The settings of a run as they will be, checked.

    With `annotates` the teacher is checked, who is asked nothing in a run.
    Raises: UsageError in one line; MissingDataset if nothing of the data set is there.
    """
    external = given_settings(config_files, config_dict, arguments)
    name, data = named(model, dataset, external, on_command_line=arguments is not None)
    if isinstance(name, type):
        return external  # a class of the caller's, which only RecBole can look into
    check_model(name)
    check_runs(name)
    check_shaping(external, name)
    plain = dict(external)
    external |= of_own_model(name, _given_layers(config_files, config_dict, arguments))
    internal = _internal(name, data, external)
    final = dict(internal)
    merge_layer(final, external)
    check_values(external, internal, name)
    for key, value in external.items():  # those for other models
        other, dot, own = key.rpartition(".")
        if dot:
            check_values({own: value}, model_values(other), other, prefix=f"{other}.")
    if isinstance(final["topk"], int):
        final["topk"] = [final["topk"]]
    kind = kind_by_name(name)
    check_metrics(final, internal, kinds_measured(kind, name, final["task"]), kind, external)
    check_measured(final, kind, name)
    final |= {"model": name, "dataset": data, "data_path": _data_path(final, data)}
    missing = None
    try:
        check_dataset(final)
    except MissingDataset as error:
        if data not in BUILT_IN:
            raise
        missing = error  # it will be made, once all else is right
    run = RunSettings.from_config(final)
    beside = (*run.baselines, *run.rerankers, *run.explainers)
    check_packages(final, {name, *beside})
    check_baselines(run.baselines)
    check_rerankers(run.rerankers)
    check_explainers(run.explainers)
    for spec in run.generators:
        check_generator(spec)
    check_system(name, final)
    for other in dict.fromkeys(beside):
        if other != name:
            check_system(other, _of_other(other, name, data, plain), prefix=f"{other}: ")
    if name == "EXP3RT":
        check_language_models(final, annotates)
        check_student_of(str(final["student"]), filter(asks, beside))
    elif any(map(asks, (name, *beside))):
        models = ModelSettings.from_config(final)
        check_student_of(models.student, filter(asks, (name, *beside)))
        check_language_model(models.student, "student", models.http)
    if missing:
        raise missing
    return final


def given_settings(
    config_files: Sequence[str] | None,
    config_dict: Mapping[str, Any] | None,
    arguments: Sequence[str] | None,
) -> dict[str, Any]:
    """What the user gave: files, then the dictionary, then the command line.

    Raises: UsageError for an argument or a file that cannot be read, or a key nobody knows.
    """
    external: dict[str, Any] = {}
    for layer in _given_layers(config_files, config_dict, arguments):
        merge_layer(external, layer)
    return external


def _given_layers(
    config_files: Sequence[str] | None,
    config_dict: Mapping[str, Any] | None,
    arguments: Sequence[str] | None,
) -> list[dict[str, Any]]:
    given = parse_arguments(arguments or (), flags(groups_of_run("EXP3RT")))
    layers = [read_layers(config_files or ()), read_values(config_dict or {})]
    for layer in (*layers, given):
        check_keys(layer)
    return [*layers, read_values(given)]


def named(
    model: str | type | None,
    dataset: str | None,
    external: Mapping[str, Any],
    *,
    on_command_line: bool,
) -> tuple[str | type, str]:
    """The model and the data set of a run. Raises: UsageError if one is not named."""
    usual = USUAL if on_command_line else {}
    model = model or external.get("model", usual.get("model"))
    dataset = dataset or external.get("dataset", usual.get("dataset"))
    if model is None:
        raise UsageError("no model; name one, such as --model=EXP3RT")
    if dataset is None:
        raise UsageError("no data set; name one, such as --dataset=sample")
    return model if isinstance(model, type) else str(model), str(dataset)


def check_model(name: str) -> None:
    """Raises: UsageError for a name that is no model, or a model that a run cannot feed."""
    if name not in all_models():
        hint = nearest(name, all_models())
        raise UsageError(f"model={name} is not a model of this package or of RecBole{hint}")
    if needs_more(name):
        raise UsageError(
            f"model={name} needs a knowledge graph or another file, which a run does not have; "
            "use LightGCN, SASRec or another model"
        )


def check_runs(name: str) -> None:
    """Raises: UsageError for a system that is no run's own model: it stands beside one."""
    if name in MODELS and (kind := MODELS[name].kind) in ("reranker", "explainer"):
        raise UsageError(
            f"model={name} is {kind_said(name)}; name it so, such as --model=LightGCN "
            f"--{kind}={name}"
        )


def kind_said(name: str) -> str:
    """What a system of ours is: "a reranker", "an explainer", "a rating model"."""
    kind = MODELS[name].kind
    return {"reranker": "a reranker", "explainer": "an explainer"}.get(kind, f"a {kind} model")


def is_file(spec: str) -> bool:
    """Whether `spec` names a checkpoint or a candidates file, by its ending."""
    return Path(spec).suffix in (*CHECKPOINTS, *TABLES)


def check_generator(spec: str) -> None:
    """Raises: UsageError if `spec` is neither a file nor a model that ranks all items."""
    if is_file(spec):
        if not Path(spec).is_file():
            raise UsageError(f"generator={spec} does not exist; check the path")
        return
    if spec not in all_models():
        hint = nearest(spec, all_models())
        if "," in spec:
            hint = f"; write several as [{spec}]"
        raise UsageError(
            f"generator={spec} is not a model{hint}, a checkpoint (.pth) or a candidates file "
            "(.tsv, .csv)"
        )
    if needs_more(spec):
        raise UsageError(
            f"generator={spec} needs a knowledge graph or another file, which this run does not "
            "have; give its candidates as a file (.tsv)"
        )
    if kind_by_name(spec) != "ranking":
        raise UsageError(f"generator={spec} does not rank; use a ranking model such as LightGCN")


def check_baselines(names: Iterable[str]) -> None:
    """Raises: UsageError for a baseline that predicts no ratings."""
    _check_named("baselines", names, systems("rate"), "predicts no ratings")


def check_rerankers(names: Iterable[str]) -> None:
    """Raises: UsageError for a reranker that is none."""
    _check_named("reranker", names, systems("rerank"), "does not rerank")


def check_explainers(names: Iterable[str]) -> None:
    """Raises: UsageError for an explainer that is none."""
    _check_named("explainer", names, systems("explain"), "does not explain")


def _check_named(key: str, names: Iterable[str], known: Sequence[str], reason: str) -> None:
    for name in names:
        if name not in known:
            hint = f"; it is {kind_said(name)}" if name in MODELS else nearest(name, known)
            raise UsageError(f"{key}: {name} {reason}{hint}; known are {', '.join(known)}")


def check_packages(final: Mapping[str, Any], systems: Iterable[str] = ()) -> None:
    """Raises: UsageError for a package that a system or a setting needs, with its command."""
    named = {final["model"], *systems}
    for name, packages in PACKAGES.items():
        if name not in named and final.get(name) is not True:
            continue
        for package, install in packages.items():
            if find_spec(package) is None:
                raise NotHere(f"{name} needs {package}: pip install '{install}'")
    for name in sorted(named & ENCODES):
        if absent := missing_package(str(final["encoder"])):
            raise NotHere(f"{name} needs {absent}: pip install '{ENCODE}'")


def check_language_model(name: str, key: str, http: HTTPOptions) -> None:
    """Raises: UsageError for a model behind a server without a key or a URL, a path that is not
    there, and a name that is nearly one of ours."""
    if is_served(name):
        if not http.base_url and not os.environ.get(http.api_key_env):
            raise NotHere(
                f"{name} needs a key: set the environment variable {http.api_key_env}, or "
                "base_url to a server of your own"
            )
        if find_spec("openai") is None:
            raise NotHere(f"{name} needs openai: pip install openai")
        return
    path = folder_of(name)
    if name in (ORACLE, *PRESETS, "smollm2") or path.exists():
        return
    if path.is_absolute() or name.startswith((".", "~")):
        raise UsageError(f"{key}={name} is no folder; name a folder, a hub id or openai:MODEL")
    if "/" not in name and (hint := nearest(name, [ORACLE, *PRESETS, "smollm2", "sample-student"])):
        raise UsageError(f"{key}={name} is no model{hint}")


def check_student_of(student: str, systems: Iterable[str]) -> None:
    """Raises: UsageError for the oracle, which plays EXP3RT alone, and for XRec over a server."""
    others = [
        name for name in dict.fromkeys(systems) if name != "EXP3RT" and not MODELS[name].profiles
    ]
    remedy = "give --student=smollm2, a hub id or a folder"
    if student == ORACLE and others:
        raise UsageError(f"student=oracle plays EXP3RT alone, not {', '.join(others)}; {remedy}")
    if is_served(student) and "XRec" in others:
        raise UsageError(f"XRec needs the weights of its student, not student={student}; {remedy}")


def check_language_models(final: Mapping[str, Any], annotates: bool = False) -> None:
    """As `check_language_model`, for all that the steps of EXP3RT, or its teacher, need."""
    settings = Settings.from_config(final)
    if annotates:
        teacher = str(final["teacher"])
        if not teacher.startswith("store:"):
            check_language_model(teacher, "teacher", settings.http)
        return
    for key in ("preference_model", "profile_model", "rating_model"):
        taken = key if final.get(key) is not None else "student"
        check_language_model(getattr(settings, key), taken, settings.http)


def check_system(name: str, final: Mapping[str, Any], prefix: str = "") -> None:
    """Raises: UsageError for a setting out of range of a system of ours, or a searched value."""
    if name not in SETTINGS:
        return
    try:
        SETTINGS[name].from_config(final)
        search = final.get("search")
        for part in search if isinstance(search, (list, tuple)) else [search or {}]:
            for values in product(*part.values()):
                SETTINGS[name].from_config({**final, **dict(zip(part, values, strict=True))})
    except UsageError as error:
        raise UsageError(f"{prefix}{error}") from None


def _of_other(other: str, own: str, dataset: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of the system `other` in a run of the model `own`: see `Config.for_model`."""
    external = passed_on(plain, own, other)
    external |= of_own_model(other, [external])
    final = _internal(other, dataset, external)
    merge_layer(final, external)
    return final


def _internal(model: str, dataset: str, external: Mapping[str, Any]) -> dict[str, Any]:
    """All layers below the user's: RecBole's, ours, those of model and data set."""
    theirs, ours = recbole_properties(), properties_dir()
    kind = kind_by_name(model)
    files = [theirs / f"{name}.yaml" for name in ("overall", f"model/{model}", "dataset/sample")]
    if kind == "other":
        files.append(theirs / "quick_start_config" / "context-aware.yaml")
    files += [ours / f"{name}.yaml" for name in layer_names(model, kind, dataset, external)]
    values: dict[str, Any] = {}
    for file in files:
        if file.is_file():
            merge_layer(values, read_layer(file))
    data_path = Path(str(external.get("data_path", values["data_path"])))
    merge_layer(values, read_dataset_file(data_path / dataset / f"{dataset}.yaml"))
    return values


def _data_path(final: Mapping[str, Any], dataset: str) -> str:
    """The folder of the data set; RecBole brings one along, which wins."""
    own = recbole_dir() / "dataset_example" / dataset
    return str(own if own.is_dir() else Path(str(final["data_path"])) / dataset)
