"""RecBole's Config with our layers below the user's values, and errors that name the remedy.

Later layers win: RecBole's defaults, our overall.yaml, rating.yaml or ranking.yaml, our
model/<Model>.yaml, our dataset/<data set>.yaml, model/<Model>-<data set>.yaml, the file
<data set>.yaml that a converter left beside the data, the user's files, the user's dictionary,
and, for run_recbole.py alone, the command line. `eval_args` is merged key by key, so that a data
set can say how it is split and a model how it is measured.

A setting that shapes one model belongs to the run's own model; another model of the run, such as
a baseline, is given one as `<Model>.<setting>`: `LightGCN.reg_weight`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from recbole_exp3rt import compat
from recbole_exp3rt.errors import UsageError, nearest
from recbole_exp3rt.paths import properties_dir

compat.apply()

from recbole.config import Config as RecBoleConfig  # noqa: E402
from recbole.evaluator import metric_types  # noqa: E402
from recbole.utils import ModelType  # noqa: E402

from recbole_exp3rt.known import (  # noqa: E402
    LENGTH,
    TRAINING,
    keys_of_models,
    known_keys,
    model_keys,
    model_values,
    recbole_models,
    shaping_keys,
)
from recbole_exp3rt.registry import MODELS, find_model  # noqa: E402

Kind = Literal["rating", "ranking", "other"]

IDENTITY = ("model", "dataset", "config_files")
# What belongs to one kind of measurement, and must not follow the user's values to the other.
OF_KIND = ("metrics", "valid_metric", "train_neg_sample_args", "LABEL_FIELD", "threshold")
NOT_NEGATIVE = ("reg_weight", "reg_bias", "weight_decay")
POSITIVE = (
    "epochs",
    "train_batch_size",
    "eval_batch_size",
    "learning_rate",
    "embedding_size",
    "n_layers",
    "metric_decimal_place",
)


class Config(RecBoleConfig):  # type: ignore[misc]
    """All settings of a run.

    Raises: UsageError for a key nobody knows, an unknown model, a data set that does not exist,
    and whatever value RecBole refuses.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        read_command_line: bool = False,
    ) -> None:
        self.read_command_line = read_command_line
        try:
            super().__init__(model, dataset, config_file_list, dict(config_dict or {}))
        except UsageError:
            raise
        except yaml.YAMLError as error:
            raise UsageError(f"a settings file is not YAML: {_one_line(error)}") from error
        except FileNotFoundError as error:
            raise UsageError(f"no settings file {error.filename}; check config_files") from error
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"a settings file cannot be read: {_one_line(error)}") from error
        except KeyError as error:
            raise UsageError(_one_line(error.args[0])) from error
        except (ValueError, TypeError, NotImplementedError, RuntimeError, AttributeError) as error:
            raise UsageError(f"{_one_line(error)}; check the settings") from error

    @property
    def kind(self) -> Kind:
        return kind_of(self.model, self.model_class)

    def given(self) -> dict[str, Any]:
        """What the user set, beside the model and the data set: enough to make this again."""
        return {k: v for k, v in self.external_config_dict.items() if k not in IDENTITY}

    def for_model(self, model: str, **values: Any) -> Config:
        """The same run's config for another model: the user's values, then `values`.

        A metric or sampling chosen for ratings does not follow to a ranking model, nor back; what
        shapes this model follows to no other.
        """
        external = self.given()
        if model != self.model:
            own = {"search"} | shaping_keys(model) | shaping_keys(self.model)
            external = {k: v for k, v in external.items() if k not in own}
        if kind_of(model, find_model(model)) != self.kind:
            external = {k: v for k, v in external.items() if k not in OF_KIND}
            if isinstance(external.get("eval_args"), Mapping):
                external["eval_args"] = {
                    k: v for k, v in external["eval_args"].items() if k != "mode"
                }
        return Config(model, self.dataset, config_dict={**external, **values})

    # --- RecBole's hooks

    def compatibility_settings(self) -> None:
        compat.apply()

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        """Texts that spell a Python value become it; RecBole would run them as code."""
        return {key: _value(value) for key, value in config_dict.items()}

    def _load_config_files(self, file_list: Sequence[str] | None) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for file in file_list or ():
            lay_over(values, read_layer(file, self.yaml_loader))
        return values

    def _load_cmd_line(self) -> dict[str, Any]:
        if not self.read_command_line:
            return {}
        return self._convert_config_dict(parse_arguments(sys.argv[1:]))

    def _merge_external_config_dict(self) -> None:
        self.external_config_dict: dict[str, Any] = {}
        for layer in (self.file_config_dict, self.variable_config_dict, self.cmd_config_dict):
            check_keys(layer)
            lay_over(self.external_config_dict, layer)

    def _get_model_and_dataset(
        self, model: str | type | None, dataset: str | None
    ) -> tuple[str, type, str]:
        model = model or self.external_config_dict.get("model")
        dataset = dataset or self.external_config_dict.get("dataset")
        if model is None:
            raise UsageError("no model; name one, such as --model=EXP3RT")
        if dataset is None:
            raise UsageError("no data set; name one, such as --dataset=sample")
        if isinstance(model, type):
            return model.__name__, model, str(dataset)
        name = str(model)
        if name not in MODELS and name not in recbole_models():
            hint = nearest(name, [*MODELS, *recbole_models()])
            raise UsageError(f"model={name} is neither ours nor one of RecBole's{hint}")
        return name, find_model(name), str(dataset)

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        internal = self.internal_config_dict
        external = self.external_config_dict
        check_shaping(external, model)
        for key in list(external):
            if key.startswith(f"{model}."):
                external[key.partition(".")[2]] = external[key]
        kind = kind_of(model, model_class)
        # RecBole's measurement of context models (AUC) is no rating's and no ranking's.
        ours = properties_dir()
        layers = (
            "overall",
            kind,
            f"model/{model}",
            f"dataset/{dataset}",
            f"model/{model}-{dataset}",
        )
        for name in layers:
            if (ours / f"{name}.yaml").is_file():
                lay_over(internal, read_layer(ours / f"{name}.yaml", self.yaml_loader))
        data_path = self.external_config_dict.get("data_path", internal["data_path"])
        beside = Path(str(data_path)) / dataset / f"{dataset}.yaml"
        if beside.is_file():
            values = read_layer(beside, self.yaml_loader)
            check_keys(values, where=f"{beside}: ")
            lay_over(internal, values)

    def _get_final_config_dict(self) -> dict[str, Any]:
        final = dict(self.internal_config_dict)
        lay_over(final, self.external_config_dict)
        return final

    def _set_default_parameters(self) -> None:
        external = self.external_config_dict
        check_values(external, self.internal_config_dict)
        for name, value in external.items():  # those for other models, before any work
            model, dot, key = name.rpartition(".")
            if dot:
                check_values({key: value}, model_values(model))
        final = self.final_config_dict
        if isinstance(final["topk"], int):
            final["topk"] = [final["topk"]]
        check_metrics(final, chosen="valid_metric" in self.external_config_dict)
        super()._set_default_parameters()
        check_dataset(final)

    def _init_device(self) -> None:
        super()._init_device()
        if not self.final_config_dict["use_gpu"]:  # RecBole looks at gpu_id alone
            import torch

            self.final_config_dict["device"] = torch.device("cpu")


def kind_of(model: str, model_class: type) -> Kind:
    """What a model is measured by: given ratings, full-sort ranking, or as RecBole says."""
    if model in MODELS:
        return MODELS[model].kind
    own = getattr(model_class, "type", None)
    return "other" if own in (ModelType.CONTEXT, ModelType.DECISIONTREE) else "ranking"


def parse_arguments(arguments: Iterable[str]) -> dict[str, str]:
    """`--key=value` arguments as they are written. Raises: UsageError for any other form."""
    values: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument[2:].partition("=")
        if not argument.startswith("--") or not equals or not key:
            raise UsageError(f"argument {argument!r} is not of the form --key=value")
        if values.get(key, value) != value:
            raise UsageError(f"--{key} is given twice, as {values[key]} and as {value}; keep one")
        values[key] = value
    return values


def check_keys(values: Mapping[str, Any], where: str = "") -> None:
    """Raises: UsageError for a key that neither RecBole nor we know."""
    for name in values:
        model, dot, key = str(name).rpartition(".")
        if dot and model not in MODELS and model not in recbole_models():
            hint = nearest(model, [*MODELS, *recbole_models()])
            raise UsageError(f"{where}setting {name}: {model} is no model{hint}")
        if key not in known_keys():
            raise UsageError(
                f"{where}setting {name} is known neither to RecBole nor to recbole-exp3rt"
                f"{nearest(str(key), known_keys())}"
            )


def check_shaping(values: Mapping[str, Any], model: str) -> None:
    """Raises: UsageError for a setting that shapes other models but not `model`."""
    own = model_keys(model) | LENGTH
    if model not in MODELS or "learning_rate" in own:
        own |= TRAINING  # RecBole's models take these without naming them
    for key in values:
        if key in keys_of_models() - own:
            owner = next((name for name in MODELS if key in model_keys(name)), "<Model>")
            raise UsageError(
                f"{key} is no setting of {model}; for another model of the run name that, such as "
                f"--{owner}.{key}={values[key]}"
            )


def check_values(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raises: UsageError for a value of another kind than its default, or out of its range."""
    for key, value in values.items():
        default = defaults.get(key)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise UsageError(f"{key}={value!r} is not True or False")
        elif isinstance(default, (int, float)) and not number:
            raise UsageError(f"{key}={value!r} is not a number, such as {default}")
        elif isinstance(default, int) and key in POSITIVE and not isinstance(value, int):
            raise UsageError(f"{key}={value!r} is not a whole number, such as {default}")
        if key in POSITIVE and number and value <= 0:
            raise UsageError(f"{key}={value!r} is not above 0")
        if key in NOT_NEGATIVE and number and value < 0:
            raise UsageError(f"{key}={value!r} is below 0")
        if key == "search" and value is not None:
            check_search(value, defaults)


def check_search(search: Any, defaults: Mapping[str, Any]) -> None:
    """Raises: UsageError if `search` does not map settings to lists of values they can take."""
    if not isinstance(search, Mapping):
        raise UsageError(f"search={search!r} does not map settings to lists of values")
    check_keys(search, where="search: ")
    for key, values in search.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise UsageError(f"search: {key}={values!r} is not a list of values")
        for value in values:
            try:
                check_values({key: value}, defaults)
            except UsageError as error:
                raise UsageError(f"search: {error}") from None


def check_metrics(final: dict[str, Any], chosen: bool) -> None:
    """Raises: UsageError for an unknown metric, or a valid_metric that is not measured.

    A `valid_metric` that the user did not choose goes along with `metrics` and a smaller `topk`.
    """
    metrics = final["metrics"]
    metrics = [metrics] if isinstance(metrics, str) else metrics
    for metric in metrics:
        if str(metric).lower() not in metric_types:
            raise UsageError(f"metrics: {metric!r} is none{nearest(str(metric), metric_types)}")
    name, at, depth = str(final["valid_metric"]).partition("@")
    cuts = final["topk"]
    if not isinstance(cuts, list) or not all(isinstance(k, int) and k > 0 for k in cuts):
        raise UsageError(f"topk={cuts!r} is not a list of whole numbers from 1 on")
    if name.lower() not in [str(metric).lower() for metric in metrics]:
        if chosen:
            raise UsageError(f"valid_metric={final['valid_metric']} is not among metrics={metrics}")
        name = str(metrics[0])
        final["valid_metric"] = f"{name}@{depth}" if at else name
    if at and not (depth.isdigit() and int(depth) in cuts):
        if chosen:
            raise UsageError(f"valid_metric={final['valid_metric']} is not within topk={cuts}")
        final["valid_metric"] = f"{name}@{max(cuts)}"


class MissingDataset(UsageError):
    """There are no interactions in `folder`."""

    def __init__(self, folder: Path, message: str) -> None:
        super().__init__(message)
        self.folder = folder


def check_dataset(final: Mapping[str, Any]) -> None:
    """Raises: MissingDataset if there are no interactions where the settings point to."""
    folder, name = Path(final["data_path"]), final["dataset"]
    parts = final["benchmark_filename"]
    if parts is not None and (not isinstance(parts, list) or len(parts) not in (2, 3)):
        raise UsageError(f"benchmark_filename={parts!r} is not [train, valid, test]")
    needed = [f"{name}.inter"]
    if parts:  # a missing validation part counts as an empty one
        needed = [f"{name}.{part}.inter" for part in (parts[0], parts[-1])]
    for file in needed:
        if not (folder / file).is_file():
            raise MissingDataset(
                folder,
                f"data set {name} does not exist: no {folder / file}; convert it with `python -m "
                f"dataset_converters SOURCE … --output_path {folder}` or give --data_path=FOLDER",
            )


def _value(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    words = {"true": True, "false": False, "none": None, "~": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    plain = (str, int, float, list, tuple, dict)
    return value if isinstance(value, plain) else text


def lay_over(target: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Lay `layer` over `target`; `eval_args` key by key."""
    for key, value in layer.items():
        below = target.get(key)
        if key == "eval_args" and isinstance(value, Mapping) and isinstance(below, Mapping):
            value = {**below, **value}
        target[key] = value


def read_layer(path: str | Path, loader: Any) -> dict[str, Any]:
    """The settings of a YAML file. Raises: UsageError if it holds anything else."""
    with open(path, encoding="utf-8") as file:
        values = yaml.load(file, Loader=loader)  # of a file, errors name it
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path} does not hold settings of the form key: value")
    return values


def _one_line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".;")
