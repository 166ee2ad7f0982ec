"""RecBole's Config with our default settings, and errors that name the remedy.

The settings come in layers; a later layer replaces values of the layers before:

1. RecBole's defaults
2. our `properties/`: overall.yaml, llm.yaml, rating.yaml or ranking.yaml, model/<Model>.yaml,
   model/<Model>-<preset>.yaml, dataset/<data set>.yaml, model/<Model>-<data set>.yaml
3. the file <data set>.yaml beside the data (`dataset_file.py`)
4. the user's files, then the user's dictionary, then the command line

`eval_args` is merged key by key, because a data set can set the split and a model the measurement.

A setting of a model, such as `reg_weight`, is for the run's own model. `LightGCN.reg_weight` sets
it for that model alone, whether it is the run's own or another of the run.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from recbole_exp3rt.config import compat
from recbole_exp3rt.config.arguments import parse_arguments
from recbole_exp3rt.config.described import flags, groups_of_run
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import properties_dir

compat.apply()

from recbole.config import Config as RecBoleConfig  # noqa: E402
from recbole.utils import ModelType  # noqa: E402

from recbole_exp3rt.config.checks import (  # noqa: E402
    check_dataset,
    check_eval_args,
    check_keys,
    check_measured,
    check_metrics,
    check_shaping,
    check_values,
    gpu_ids,
    kinds_measured,
    metrics_of,
)
from recbole_exp3rt.config.dataset_file import read_dataset_file  # noqa: E402
from recbole_exp3rt.config.known import (  # noqa: E402
    Kind,
    kind_by_name,
    layer_names,
    model_values,
    passed_on,
)
from recbole_exp3rt.config.layers import (  # noqa: E402
    Loader,
    merge_layer,
    of_own_model,
    one_line,
    read_layer,
    read_layers,
    read_values,
)
from recbole_exp3rt.config.precheck import check_model, named  # noqa: E402
from recbole_exp3rt.config.registry import MODELS, find_model  # noqa: E402

METRICS = ("metrics", "valid_metric")
IDENTITY = ("model", "dataset", "config_files")
# Settings of one kind of model, which are not passed on to models of the other kind.
OF_KIND = ("train_neg_sample_args", "LABEL_FIELD", "threshold")


class Config(RecBoleConfig):  # type: ignore[misc]
    """All settings of a run.

    Raises: UsageError for an unknown key, an unknown model, a data set that does not exist, and
    every value that RecBole refuses.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        arguments: Sequence[str] | None = None,
    ) -> None:
        """As RecBole's; `arguments` are the words of a command line, None if there is none."""
        self.arguments = arguments
        try:
            super().__init__(model, dataset, config_file_list, dict(config_dict or {}))
        except UsageError:
            raise
        except KeyError as error:
            raise UsageError(one_line(error.args[0])) from error
        except (ValueError, TypeError, NotImplementedError, RuntimeError, AttributeError) as error:
            raise UsageError(f"{one_line(error)}; check the settings") from error

    @property
    def kind(self) -> Kind:
        """What the model is measured by: rating, ranking, or other."""
        return kind_of(self.model, self.model_class)

    @property
    def sequential(self) -> bool:
        """Whether the model learns from sequences of items."""
        return bool(getattr(self.model_class, "type", None) == ModelType.SEQUENTIAL)

    def given(self) -> dict[str, Any]:
        """The user's settings without model, data set and files, for a Config of the same run."""
        return {k: v for k, v in self.external_config_dict.items() if k not in IDENTITY}

    def for_model(self, model: str, **values: Any) -> Config:
        """The Config of another model in the same run: the user's settings, then `values`.

        Not passed on are the settings of this model and, to a model of another kind, the settings
        of this kind, such as its sampling. The metrics are those that fit the other model.
        """
        external = self.given()
        if model != self.model:
            named = {k for k in external if f"{self.model}.{k}" in external} - self._plain.keys()
            plain = {k: v for k, v in (external | self._plain).items() if k not in named}
            external = passed_on(plain, self.model, model)
        kind = kind_of(model, find_model(model))
        metrics = metrics_of(external, kind)
        external = {k: v for k, v in external.items() if k not in METRICS} | metrics
        if kind != self.kind:
            external = {k: v for k, v in external.items() if k not in OF_KIND}
            if isinstance(external.get("eval_args"), Mapping):
                external["eval_args"] = {
                    k: v for k, v in external["eval_args"].items() if k != "mode"
                }
        external = {
            k: v for k, v in external.items() if k not in {f"{model}.{key}" for key in values}
        }
        return Config(model, self.dataset, config_dict={**external, **values})

    # --- methods that RecBole calls

    def compatibility_settings(self) -> None:
        """Apply our changes for today's libraries; RecBole's own do not work with them."""
        compat.apply()

    def _build_yaml_loader(self) -> Any:
        """RecBole's grammar, read by the C library: a run makes a dozen of these settings."""
        return Loader

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        """Texts that spell a Python value become it; RecBole would run them as code."""
        return read_values(config_dict)

    def _load_config_files(self, file_list: Sequence[str] | None) -> dict[str, Any]:
        return read_layers(file_list or ())

    def _load_cmd_line(self) -> dict[str, Any]:
        given = parse_arguments(self.arguments or (), flags(groups_of_run("EXP3RT")))
        return self._convert_config_dict(given)

    def _merge_external_config_dict(self) -> None:
        self.external_config_dict: dict[str, Any] = {}
        for layer in (self.file_config_dict, self.variable_config_dict, self.cmd_config_dict):
            check_keys(layer)
            merge_layer(self.external_config_dict, layer)

    def _get_model_and_dataset(
        self, model: str | type | None, dataset: str | None
    ) -> tuple[str, type, str]:
        external, line = self.external_config_dict, self.arguments is not None
        name, dataset = named(model, dataset, external, on_command_line=line)
        if isinstance(name, type):
            return name.__name__, name, dataset
        check_model(name)
        return name, find_model(name), dataset

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        internal = self.internal_config_dict
        external = self.external_config_dict
        check_shaping(external, model)
        given = (self.file_config_dict, self.variable_config_dict, self.cmd_config_dict)
        named = of_own_model(model, given)
        self._plain = {key: external[key] for key in named.keys() & external if "." not in key}
        external |= named
        kind = kind_of(model, model_class)
        ours = properties_dir()
        layers = layer_names(model, kind, dataset, external)
        for name in layers:
            if (ours / f"{name}.yaml").is_file():
                merge_layer(internal, read_layer(ours / f"{name}.yaml", self.yaml_loader))
        if self.sequential:  # RecBole wants it True of its own split
            internal["repeatable"] = False
        data_path = self.external_config_dict.get("data_path", internal["data_path"])
        merge_layer(internal, read_dataset_file(Path(str(data_path)) / dataset / f"{dataset}.yaml"))

    def _get_final_config_dict(self) -> dict[str, Any]:
        final = dict(self.internal_config_dict)
        merge_layer(final, self.external_config_dict)
        if self.sequential:
            final |= as_general(final)
        return {**final, **columns_read(final, kind_of(self.model, self.model_class))}

    def _set_default_parameters(self) -> None:
        external = self.external_config_dict
        check_values(external, self.internal_config_dict, self.model)
        for name, value in external.items():  # settings of other models too, before any work
            model, dot, key = name.rpartition(".")
            if dot:
                check_values({key: value}, model_values(model), model, prefix=f"{model}.")
        final = self.final_config_dict
        if isinstance(final["topk"], int):
            final["topk"] = [final["topk"]]
        kind = kind_of(self.model, self.model_class)
        check_metrics(
            final,
            self.internal_config_dict,
            kinds_measured(kind, self.model, final["task"]),
            kind,
            given=external,
        )
        super()._set_default_parameters()
        check_eval_args(final, kind)
        check_measured(final, kind, self.model)
        check_dataset(final)

    def _init_device(self) -> None:
        self.final_config_dict["gpu_id"] = gpu_ids(self.final_config_dict["gpu_id"])
        super()._init_device()
        if not self.final_config_dict["use_gpu"]:  # RecBole only looks at gpu_id
            import torch

            self.final_config_dict["device"] = torch.device("cpu")


def as_general(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by which RecBole's loaders and trainers take a sequential model like a general one.

    They are then given users, whose history is masked. A cross-entropy over all items (`loss_type`
    CE) takes no negative samples, whatever other models of the run sample.
    """
    negatives = {"train_neg_sample_args": None} if values.get("loss_type") == "CE" else {}
    return {"MODEL_TYPE": ModelType.GENERAL, **negatives}


def kind_of(model: str, model_class: type) -> Kind:
    """What a model is measured by: ratings, full-sort ranking, or other (RecBole's default)."""
    if model in MODELS:
        return kind_by_name(model)
    own = getattr(model_class, "type", None)
    return "other" if own in (ModelType.CONTEXT, ModelType.DECISIONTREE) else "ranking"


def columns_read(values: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """Settings for reading the atomic files that follow from other settings.

    A rating model learns the rating column. UTF-8 files may begin with a byte order mark.
    """
    read: dict[str, Any] = {}
    if kind == "rating" and values.get("LABEL_FIELD") is None:
        read["LABEL_FIELD"] = values["RATING_FIELD"]
    encoding = values.get("encoding") or "utf-8"
    with suppress(LookupError):  # RecBole reports an unknown encoding when it reads
        if codecs.lookup(encoding).name == "utf-8":
            encoding = "utf-8-sig"
    return read | {"encoding": encoding}
