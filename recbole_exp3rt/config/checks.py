"""Settings that cannot be, named before any work: key, value, remedy. Needs no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from recbole_exp3rt.config.described import groups_of
from recbole_exp3rt.config.known import (
    LENGTH,
    TRAINING,
    Kind,
    all_models,
    default_values,
    keys_of_models,
    known_keys,
    model_keys,
    ranking_metrics,
    recbole_models,
)
from recbole_exp3rt.config.reader import read_names
from recbole_exp3rt.config.registry import MODELS, asks
from recbole_exp3rt.errors import NotHere, UsageError, nearest

RATING_METRICS = ("rmse", "mae")
WITHOUT_DEPTH = ("gauc",)  # one figure of a whole ranking, whatever topk
FITTING = {
    "rating": "RMSE, MAE",
    "ranking": "Recall, NDCG, MRR, Hit, MAP, Precision, …",
    "other": "AUC, LogLoss, RMSE, MAE",
}
OR_NONE = ("fit_cache_gb", "fit_checkpoint_minutes")  # numbers that can be switched off
NOT_NEGATIVE = ("reg_weight", "reg_bias", "weight_decay", "stopping_step", *OR_NONE)
LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")  # RecBole takes Adam else
GPU_IDS = re.compile(r"|-1|((\d+|(GPU|MIG)-[\w/-]+)(, ?|$))+")  # of CUDA_VISIBLE_DEVICES
SHARES = ("dropout_prob", "hidden_dropout_prob", "attn_dropout_prob")
POSITIVE = (
    "epochs",
    "eval_step",
    "train_batch_size",
    "eval_batch_size",
    "learning_rate",
    "embedding_size",
    "n_layers",
    "MAX_ITEM_LIST_LENGTH",
    "metric_decimal_place",
)


def gpu_ids(value: Any) -> str:
    """As CUDA_VISIBLE_DEVICES wants them; RecBole reads `0,1` of a command line as a tuple."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def check_keys(values: Mapping[str, Any], where: str = "") -> None:
    """Raises: UsageError for a key that neither RecBole nor we know."""
    for name in values:
        model, dot, key = str(name).rpartition(".")
        if dot and model not in MODELS and model not in recbole_models():
            hint = nearest(model, all_models())
            raise UsageError(f"{where}setting {name}: {model} is no model{hint}")
        if key not in known_keys():
            raise UsageError(
                f"{where}setting {name} is known neither to RecBole nor to recbole-exp3rt"
                f"{nearest(str(key), known_keys())}"
            )
        if dot and model in MODELS:
            own = model_keys(model) | (frozenset() if asks(model) else LENGTH | TRAINING)
            if key in (keys_of_models() | LENGTH) - own:
                raise UsageError(
                    f"{where}setting {name}: {key} is no setting of {model}{nearest(key, own)}"
                )


def check_shaping(values: Mapping[str, Any], model: str) -> None:
    """Raises: UsageError for a setting that shapes other models but not `model`."""
    for key in foreign_keys(values, model):
        owner = next((name for name in MODELS if key in model_keys(name)), "<Model>")
        raise UsageError(
            f"{key} is no setting of {model}; for another model of the run name that, such as "
            f"--{owner}.{key}={values[key]}"
        )


def foreign_keys(values: Iterable[str], model: str) -> list[str]:
    """The settings that shape other models but not `model`."""
    own = model_keys(model) | LENGTH
    if model not in MODELS or "learning_rate" in own:
        own |= TRAINING  # RecBole's models take these without naming them
    return [key for key in values if key in keys_of_models() - own]


def check_values(
    values: Mapping[str, Any], defaults: Mapping[str, Any], model: str, prefix: str = ""
) -> None:
    """Raises: UsageError for a value of another kind than its default, or out of its range.

    `prefix` stands before the key of a setting of another model than the run's.
    """
    for key, value in values.items():
        default = defaults.get(key)
        name = f"{prefix}{key}={value!r}"
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        above_zero = key in POSITIVE or (model, key) == ("Bias", "reg_weight")
        if value is None and (key in OR_NONE or default_values(model).get(key, default) is None):
            continue  # a data set's own value is switched off
        choices = choices_of(model).get(key, ())
        if choices and value not in choices and not (value is None and "none" in choices):
            raise UsageError(f"{name} is not one of {', '.join(choices)}")
        if isinstance(default, bool):
            words = words_of_flags(model).get(key, ())
            word = "none" if value is None else value
            if not isinstance(value, bool) and word not in words:
                allowed = f"one of {', '.join(words)}, " if words else ""
                raise UsageError(f"{name} is not {allowed}True or False")
        elif isinstance(default, (int, float)) and not number:
            raise UsageError(f"{name} is not a number, such as {default}")
        elif isinstance(default, int) and key in POSITIVE and not isinstance(value, int):
            raise UsageError(f"{name} is not a whole number, such as {default}")
        elif isinstance(default, str) and number and key != "gpu_id":
            raise UsageError(f"{name} is not a text, such as {default}")
        if number and not math.isfinite(value):
            raise UsageError(f"{name} is not a finite number")
        if above_zero and number and value <= 0:
            raise UsageError(f"{name} is not above 0")
        if key in NOT_NEGATIVE and number and value < 0:
            raise UsageError(f"{name} is below 0")
        if key in SHARES and number and not 0 <= value <= 1:
            raise UsageError(f"{name} is not a number from 0 to 1")
        if key == "gpu_id" and not GPU_IDS.fullmatch(gpu_ids(value)):
            raise UsageError(f"{name} is no number of a GPU, nor several such as 0,1")
        if key == "learner" and value not in LEARNERS:
            raise UsageError(f"{name} is not one of {', '.join(LEARNERS)}")
        if key == "search" and value is not None:
            check_search(value, defaults, model)


@cache
def choices_of(model: str) -> Mapping[str, tuple[str, ...]]:
    """Setting of a system of ours -> the words that it can be, where its comment lists them."""
    if model not in MODELS:
        return {}
    settings = (one for group in groups_of(f"model/{model}") for one in group.settings)
    return {one.key: one.choices for one in settings if one.choices and not one.is_flag}


@cache
def words_of_flags(model: str) -> Mapping[str, tuple[str, ...]]:
    """Setting of a system of ours that is True, False -> or one of these words."""
    if model not in MODELS:
        return {}
    settings = (one for group in groups_of(f"model/{model}") for one in group.settings)
    return {one.key: one.words for one in settings if one.words and one.is_flag}


def check_search(search: Any, defaults: Mapping[str, Any], model: str) -> None:
    """Raises: UsageError if `search` does not map settings of `model` to lists of their values.

    Several maps, in a list, are searched one after the other.
    """
    if isinstance(search, (list, tuple)):
        for part in search:
            check_search(part, defaults, model)
        return
    if not isinstance(search, Mapping):
        raise UsageError(f"search={search!r} does not map settings to lists of values")
    check_keys(search, where="search: ")
    for key, values in search.items():
        if key not in model_keys(model) | LENGTH | TRAINING:
            raise UsageError(f"search: {key} is no setting of {model}, whose search this is")
        if not isinstance(values, (list, tuple)) or not values:
            raise UsageError(f"search: {key}={values!r} is not a list of values")
        for value in values:
            check_values({key: value}, defaults, model, prefix="search: ")


def check_eval_args(final: Mapping[str, Any], kind: Kind) -> None:
    """Raises: UsageError for a part of `eval_args` that does nothing, or another measurement."""
    known = ("split", "order", "group_by", "mode")
    args = final["eval_args"]
    for key in args:
        if key not in known:
            raise UsageError(f"eval_args: {key} is none of {', '.join(known)}")
    mode = {"rating": "labeled", "ranking": "full"}.get(kind)
    if mode and args["mode"]["test"] != mode:
        raise UsageError(
            f"eval_args: mode={args['mode']['test']!r} measures no {kind} here; take {mode}"
        )


def check_measured(final: Mapping[str, Any], kind: Kind, model: str) -> None:
    """Raises: UsageError for a setting by which a metric of a rating or ranking model would keep
    its name and mean something else."""
    if kind == "other":
        return
    rating, threshold = final["RATING_FIELD"], final["threshold"]
    if kind == "rating" and threshold is not None:
        raise UsageError(
            f"threshold={threshold} turns the ratings into labels 0 and 1, and {model} predicts "
            "ratings; leave it out. Which ratings are a success of a ranking says relevant_from"
        )
    for key in ("normalize_field", "discretization"):
        if rating is not None and rating in (final[key] or ()):
            raise UsageError(
                f"{key}={final[key]} changes the ratings, in whose units models are measured; "
                f"leave {rating} out"
            )
    if final["normalize_all"]:
        raise UsageError(
            "normalize_all=True changes the ratings, in whose units models are measured; name the "
            "other fields in normalize_field"
        )
    if kind == "ranking" and final["repeatable"]:
        raise UsageError(
            "repeatable=True: here the history of a user is always masked, so that rankings mean "
            "the same; leave it out"
        )


def kinds_measured(kind: Kind, model: str, task: Any) -> tuple[Kind, ...]:
    """What a run measures: a rating model that reranks is measured as a ranking too."""
    if kind != "rating" or task == "rating" or (task is None and model != "EXP3RT"):
        return (kind,)
    return ("rating", "ranking") if task is None else ("ranking",)


def metrics_of(values: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """`metrics` and `valid_metric` out of `values`, as far as they measure models of `kind`."""
    found: dict[str, Any] = {}
    if names := [name for name in _metrics(values) if _measures(name, kind)]:
        found["metrics"] = names
    if _measures(str(values.get("valid_metric")).partition("@")[0], kind):
        found["valid_metric"] = values["valid_metric"]
    return found


def _metrics(values: Mapping[str, Any]) -> list[str]:
    return list(read_names("metrics", values.get("metrics")))


def _measures(metric: str, kind: Kind) -> bool:
    name = metric.lower()
    if kind == "rating":
        return name in RATING_METRICS
    return kind == "other" or ranking_metrics().get(name, False)


def check_metrics(
    final: dict[str, Any],
    defaults: Mapping[str, Any],
    kinds: Sequence[Kind],
    kind: Kind,
    given: Collection[str],
) -> None:
    """Keep in `final` the metrics of models of `kind`; the run as a whole measures `kinds`.

    A `valid_metric` that is not among the `given` settings goes along with `metrics` and a
    smaller `topk`.
    Raises: UsageError for a metric that is none or measures none of `kinds`, or a valid_metric
    that is not measured.
    """
    metrics = _metrics(final)
    if not metrics:
        raise UsageError(f"metrics={final['metrics']!r} names no metric, such as Recall or RMSE")
    valid = str(final["valid_metric"])
    for key, metric in [*(("metrics", m) for m in metrics), ("valid_metric", valid)]:
        name = metric.partition("@")[0] if key == "valid_metric" else metric
        if name.lower() not in ranking_metrics():
            raise UsageError(f"{key}: {name!r} is no metric{nearest(name, ranking_metrics())}")
        if key in given and not any(_measures(name, one) for one in kinds):
            fitting = " or ".join(FITTING[one] for one in kinds)
            raise UsageError(f"{key}: {name!r} does not measure this run; take {fitting}")
    cuts = final["topk"]
    if not isinstance(cuts, list) or not all(isinstance(k, int) and k > 0 for k in cuts):
        raise UsageError(f"topk={cuts!r} is not a list of whole numbers from 1 on")
    chosen = "valid_metric" in given
    if not _measures(valid.partition("@")[0], kind):  # chosen for the other kind of the run
        valid, chosen = str(defaults["valid_metric"]), False
    own = [metric for metric in metrics if _measures(metric, kind)]
    final["metrics"] = own or _metrics(defaults)
    final["valid_metric"] = _valid_metric(valid, final["metrics"], cuts, chosen)


def _valid_metric(valid: str, metrics: Sequence[str], cuts: Sequence[int], chosen: bool) -> str:
    name, _, depth = valid.partition("@")
    if name.lower() not in [metric.lower() for metric in metrics]:
        if chosen:
            raise UsageError(f"valid_metric={valid} is not among metrics={list(metrics)}")
        name = metrics[0]
    plain = name.lower() in WITHOUT_DEPTH or not ranking_metrics()[name.lower()]
    deepest = name if plain else f"{name}@{max(cuts)}"
    if valid == name if plain else depth.isdigit() and int(depth) in cuts:
        return name if plain else f"{name}@{depth}"
    if chosen:
        reason = f"is not within topk={list(cuts)}" if depth and not plain else "has another form"
        raise UsageError(f"valid_metric={valid} {reason}; take {deepest}")
    return deepest


class MissingDataset(NotHere):
    """Nothing of data set `name` is in `folder`."""

    def __init__(self, folder: Path, name: str, message: str) -> None:
        super().__init__(message)
        self.folder = folder
        self.name = name


def check_dataset(final: Mapping[str, Any]) -> None:
    """Raises: UsageError if there are no interactions where the settings point to, and
    MissingDataset if there is no file of this data set at all."""
    folder, name = Path(final["data_path"]), final["dataset"]
    parts = final["benchmark_filename"]
    if parts is not None and (not isinstance(parts, list) or len(parts) not in (2, 3)):
        raise UsageError(f"benchmark_filename={parts!r} is not [train, valid, test]")
    needed = [f"{name}.inter"]
    if parts:  # a missing validation part counts as an empty one
        needed = [f"{name}.{part}.inter" for part in (parts[0], parts[-1])]
    absent = [file for file in needed if not (folder / file).is_file()]
    if not absent:
        for file in needed:
            if not (folder / file).stat().st_size:
                raise UsageError(f"{folder / file} is empty; convert it again")
        return
    remedy = f"`exp3rt convert SOURCE … --output_path {folder}`"
    if any(folder.glob(f"{name}.*")):
        setting = f" (benchmark_filename={parts})" if parts else ""
        raise UsageError(
            f"data set {name} has no {folder / absent[0]}{setting}; check the name, or convert it "
            f"with {remedy}"
        )
    there = [path.name for path in folder.parent.glob("*/") if path.is_dir()]
    hint = nearest(name, [*there, "sample"])  # the sample is made where it is missing
    raise MissingDataset(
        folder,
        name,
        f"data set {name} does not exist{hint}: no {folder / absent[0]}; convert it with {remedy} "
        "or give --data_path=FOLDER",
    )
