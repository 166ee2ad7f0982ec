"""Fitted models on disk: the same model on the same rows by the same settings is fitted once.

A file holds plain tensors (safetensors) and, as JSON in its header, how the fit came about. A
model whose state is more than tensors and plain values is not kept. What this does not know: when
a folder grows too large; it can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recbole_exp3rt import __version__
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.known import top_keys
from recbole_exp3rt.config.registry import MODELS
from recbole_exp3rt.data.split import PARTS, Split
from recbole_exp3rt.encode.encoders import identity_of
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.local.wheels import digest_of as digest_of_file
from recbole_exp3rt.paths import atomic, properties_dir
from recbole_exp3rt.trainer import fitting
from recbole_exp3rt.trainer.fitting import Fitted, blaming_settings, build_model, fit
from recbole_exp3rt.trainer.trainer import make_trainer

STATE, OTHER = "state.", "other."  # prefixes of tensors: the model's state_dict, its other values
# Settings of a run that change no fit; any other setting does, as far as anybody knows.
IDLE = frozenset(
    {"task", "eval_pairs", "rerank_users", "baselines", "explanations", "generator"}
    | {"rerank_depth", "relevant_from", "recommend_from", "trust_checkpoint", "save_checkpoints"}
    | {"result_file", "export_dir", "export_format", "export_safe_cells", "overwrite", "dry_run"}
    | {"log_file", "fit_cache", "item_word", "description_fields", "review_fields", "review_file"}
    | {"checkpoint_dir", "data_path", "show_progress", "state", "log_wandb", "wandb_project"}
    | {"model", "dataset", "config_files", "cmd_args", "reranker", "explainer"}
) | top_keys(properties_dir() / "llm.yaml")


class FitCache:
    """Fits models, and keeps them in `folder`; None: nothing is kept.

    `hits` are the names of the models that came out of the cache.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = Path(folder) if folder is not None else None
        self.hits: set[str] = set()
        self.trouble = ""  # why the last model was not kept

    def fit(self, model: str, config: Config, split: Split, *, refit: bool) -> Fitted:
        """As `fitting.fit`; a file that cannot be read is as good as none.

        Raises: UsageError for settings that do not fit the model or the data.
        """
        if self.folder is None:
            return fit(model, config, split, refit=refit)
        path = self.path(model, config, split, refit)
        found = _read(path, model, config, split)
        if found is not None:
            self.hits.add(model)
            return found
        fitted = fit(model, config, split, refit=refit)
        try:
            self.trouble = _write(path, fitted)
        except UsageError as error:
            self.trouble = str(error)
        return fitted

    def known(self, model: str, config: Config, split: Split, *, refit: bool) -> bool:
        """Whether the model is kept, as far as its file's name says."""
        return self.folder is not None and self.path(model, config, split, refit).is_file()

    def path(self, model: str, config: Config, split: Split, refit: bool) -> Path:
        """The file of a fit; its name holds a digest of all that decides the weights."""
        assert self.folder is not None
        base = config.for_model(model)
        identity = {
            "settings": {k: v for k, v in base.final_config_dict.items() if _shapes(k)},
            "given": sorted(filter(_shapes, base.external_config_dict)),  # that is not searched
            "refit": refit,
            "texts": texts_of(base) if model in MODELS and MODELS[model].reads else None,
            "data": digest_of(split),
            "code": [_code(base.model_class), _code(fitting)],
            "versions": {
                "recbole-exp3rt": __version__,
                "python": sys.version_info[:2],
                **{name: version(name) for name in ("recbole", "torch", "numpy", "scipy")},
            },
        }
        text = json.dumps(identity, sort_keys=True, default=str)
        return self.folder / f"{model}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"


def digest_of(split: Split) -> str:
    """sha256 of all values of a split: ids, columns of its rows, features of users and items."""
    digest = hashlib.sha256(split.digest.encode())
    for tokens in (split.user_tokens, split.item_tokens):
        digest.update("\n".join(tokens).encode("utf-8", "surrogatepass"))
    dataset = split.dataset
    tables = [getattr(split, name).inter_feat for name in PARTS]
    for table in (*tables, dataset.user_feat, dataset.item_feat):
        if table is None:
            continue
        for field in sorted(table.columns):
            digest.update(f"\x00{field}\n".encode())
            digest.update(np.ascontiguousarray(table[field].numpy()).tobytes())
    return digest.hexdigest()


def texts_of(config: Config) -> dict[str, Any]:
    """What a model that reads texts depends on: settings that name them, the files, the encoder."""
    folder, name = Path(config["data_path"]), config.dataset
    settings = ("description_fields", "review_fields", "item_word")
    files = {
        "reviews": Path(config["review_file"] or folder / f"{name}.reviews.jsonl"),
        "descriptions": folder / f"{name}.item",
    }
    return {
        **{key: config[key] for key in settings},
        **{what: digest_of_file(file) for what, file in files.items() if file.is_file()},
        "encoder": identity_of(str(config["encoder"]), config["encoder_tokens"]),
    }


def _shapes(key: str) -> bool:
    """Whether a setting may shape the model; `Model.key` is of another one, or is `key` too."""
    return key not in IDLE and "." not in key


def _code(thing: Any) -> str:
    """Digest of the file that defines a class or a module."""
    file = inspect.getsourcefile(thing)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else ""


def _write(path: Path, fitted: Fitted) -> str:
    """Write a fit at once or not at all. Why it cannot be kept; "": it is.

    Raises: UsageError if the file cannot be written.
    """
    other = fitted.model.other_parameter() or {}
    plain = {key: value for key, value in other.items() if not isinstance(value, torch.Tensor)}
    about = {
        "chosen": fitted.chosen,
        "epochs": fitted.epochs,
        "valid_result": fitted.valid_result,
        "refitted": fitted.refitted,
        "other": plain,
    }
    tensors = {f"{STATE}{key}": value for key, value in fitted.model.state_dict().items()}
    tensors |= {f"{OTHER}{key}": other[key] for key in other.keys() - plain.keys()}
    try:
        header = json.dumps(about)
        # a copy: tensors that share memory cannot be written
        kept = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    except (TypeError, ValueError, RuntimeError) as error:
        return f"{fitted.name} holds more than plain values: {' '.join(str(error).split())}"
    with atomic(path) as part:
        try:
            save_file(kept, part, metadata={"fit": header})
        except SafetensorError as error:
            raise OSError(str(error)) from error
    return ""


def _read(path: Path, name: str, config: Config, split: Split) -> Fitted | None:
    """The fit in a file; None if it is not there, or is not what was written."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["fit"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        values = {**about["chosen"], **({"epochs": about["epochs"]} if about["refitted"] else {})}
        learned = split.merged() if about["refitted"] else split
        own = config.for_model(name, **values)
        with blaming_settings(own):
            model = build_model(own, learned.part("train"))
        device = own["device"]
        model.load_state_dict(_with(tensors, STATE, device))
        model.load_other_parameter({**about["other"], **_with(tensors, OTHER, device)})
        return Fitted(
            name,
            own,
            model,
            make_trainer(own, model),
            split,
            learned,
            chosen=about["chosen"],
            epochs=int(about["epochs"]),
            valid_result=about["valid_result"],
            refitted=bool(about["refitted"]),
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError):
        return None


def _with(tensors: Mapping[str, torch.Tensor], prefix: str, device: Any) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    return {
        key.removeprefix(prefix): tensor.to(device)
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }
