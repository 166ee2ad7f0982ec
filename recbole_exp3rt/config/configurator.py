"""RecBole's Config with our layers below the user's values, and errors that name the remedy.

Later layers win: RecBole's defaults, our overall.yaml, rating.yaml or ranking.yaml, our
model/<Model>.yaml, our dataset/<data set>.yaml, model/<Model>-<data set>.yaml, the file
<data set>.yaml beside the data (`dataset_file.py`: what a data set may say), the user's files, the
user's dictionary, and, for run_recbole.py alone, the command line. `eval_args` is merged key by
key, so that a data set can say how it is split and a model how it is measured.

A setting that shapes one model belongs to the run's own model; another model of the run, such as
a baseline, is given one as `<Model>.<setting>`: `LightGCN.reg_weight`.
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
from recbole_exp3rt.config.known import Kind, model_values, shaping_keys  # noqa: E402
from recbole_exp3rt.config.layers import (  # noqa: E402
    lay_over,
    one_line,
    read_layer,
    read_layers,
    read_values,
)
from recbole_exp3rt.config.precheck import check_model, named  # noqa: E402
from recbole_exp3rt.config.registry import MODELS, find_model  # noqa: E402

METRICS = ("metrics", "valid_metric")
IDENTITY = ("model", "dataset", "config_files")
# What belongs to one kind of measurement, and must not follow the user's values to the other.
OF_KIND = ("train_neg_sample_args", "LABEL_FIELD", "threshold")


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
        arguments: Sequence[str] | None = None,
    ) -> None:
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
        return kind_of(self.model, self.model_class)

    def given(self) -> dict[str, Any]:
        """What the user set, beside the model and the data set: enough to make this again."""
        return {k: v for k, v in self.external_config_dict.items() if k not in IDENTITY}

    def for_model(self, model: str, **values: Any) -> Config:
        """The same run's config for another model: the user's values, then `values`.

        A model is measured by what fits its kind; a sampling chosen for ratings does not follow
        to a ranking model, nor back; what shapes this model follows to no other.
        """
        external = self.given()
        if model != self.model:
            own = {"search"} | shaping_keys(model) | shaping_keys(self.model)
            external = {k: v for k, v in external.items() if k not in own}
        kind = kind_of(model, find_model(model))
        metrics = metrics_of(external, kind)
        external = {k: v for k, v in external.items() if k not in METRICS} | metrics
        if kind != self.kind:
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
            lay_over(self.external_config_dict, layer)

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
        lay_over(internal, read_dataset_file(Path(str(data_path)) / dataset / f"{dataset}.yaml"))

    def _get_final_config_dict(self) -> dict[str, Any]:
        final = dict(self.internal_config_dict)
        lay_over(final, self.external_config_dict)
        return {**final, **columns_read(final, kind_of(self.model, self.model_class))}

    def _set_default_parameters(self) -> None:
        external = self.external_config_dict
        check_values(external, self.internal_config_dict, self.model)
        for name, value in external.items():  # those for other models, before any work
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
        if not self.final_config_dict["use_gpu"]:  # RecBole looks at gpu_id alone
            import torch

            self.final_config_dict["device"] = torch.device("cpu")


def kind_of(model: str, model_class: type) -> Kind:
    """What a model is measured by: given ratings, full-sort ranking, or as RecBole says."""
    if model in MODELS:
        return MODELS[model].kind
    own = getattr(model_class, "type", None)
    return "other" if own in (ModelType.CONTEXT, ModelType.DECISIONTREE) else "ranking"


def columns_read(values: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """How the atomic files are read, where the settings leave it open.

    A rating model learns the rating column, whatever its name; UTF-8 may begin with its mark.
    """
    read: dict[str, Any] = {}
    if kind == "rating" and values.get("LABEL_FIELD") is None:
        read["LABEL_FIELD"] = values["RATING_FIELD"]
    encoding = values.get("encoding") or "utf-8"
    with suppress(LookupError):  # RecBole says so when it reads
        if codecs.lookup(encoding).name == "utf-8":
            encoding = "utf-8-sig"
    return read | {"encoding": encoding}
