"""Fitted models on disk: the same model on the same rows by the same settings is fitted once.

A file holds plain tensors (safetensors) and, as JSON in its header, how the fit came about. A
model whose state is more than tensors and plain values is not kept. The folder can be deleted at
any time. Of a fit that was stopped, the state stands beside, until it is finished (`resume.py`).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from recbole_exp3rt import __version__
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.known import top_keys
from recbole_exp3rt.config.registry import MODELS
from recbole_exp3rt.data.review_file import review_file_of
from recbole_exp3rt.data.split import PARTS, Split
from recbole_exp3rt.encode.encoders import identity_of
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.local.wheels import digest_of as digest_of_file
from recbole_exp3rt.paths import properties_dir
from recbole_exp3rt.trainer.fitting import Fitted, blaming_settings, build_model, fit
from recbole_exp3rt.trainer.resume import Unfinished
from recbole_exp3rt.trainer.tensors import (
    UNREADABLE,
    UNWRITABLE,
    load_weights,
    packed,
    read,
    unpacked,
    weights_of,
    write,
)
from recbole_exp3rt.trainer.trainer import make_trainer

GIGABYTE = 10**9  # bytes
OURS = re.compile(r"\w+-[0-9a-f]{16}\.(safetensors|unfinished)")  # names of files
# Settings of a run that change no fit; any other setting does, as far as anybody knows.
IDLE = frozenset(
    {"fit_checkpoint_minutes", "fit_cache_gb"}
    | {"task", "eval_pairs", "rerank_users", "baselines", "explanations", "generator"}
    | {"rerank_depth", "relevant_from", "recommend_from", "trust_checkpoint", "save_checkpoints"}
    | {"result_file", "export_dir", "export_format", "export_safe_cells", "overwrite", "dry_run"}
    | {"log_file", "fit_cache", "item_word", "description_fields", "review_fields", "review_file"}
    | {"checkpoint_dir", "data_path", "show_progress", "state", "log_wandb", "wandb_project"}
    | {"model", "dataset", "config_files", "cmd_args", "reranker", "explainer"}
) | top_keys(properties_dir() / "llm.yaml")


class FitCache:
    """Fits models, and keeps them in `folder`; None: nothing is kept.

    The files of the folder have `gigabytes` at most; those that were used long ago go first. With
    None they are all kept. `hits` are the names of the models that came out of the cache,
    `went_on` says of models at which epoch their stopped fit went on.
    """

    def __init__(self, folder: str | Path | None, gigabytes: float | None = None) -> None:
        self.folder = Path(folder) if folder is not None else None
        self.most = None if gigabytes is None else gigabytes * GIGABYTE  # bytes
        self.hits: set[str] = set()
        self.went_on: dict[str, str] = {}
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
            with suppress(OSError):
                os.utime(path)  # it is used
            return found
        state = Unfinished(path.with_suffix(".unfinished"), config["fit_checkpoint_minutes"])
        fitted = fit(model, config, split, refit=refit, unfinished=state)
        if state.began_at:
            self.went_on[model] = state.began_at
        try:
            self.trouble = _write(path, fitted)
        except UsageError as error:
            self.trouble = str(error)
        state.forget()
        self._prune(path)
        return fitted

    def _prune(self, newest: Path) -> None:
        """Remove the files of ours that were used longest ago, until the folder is small enough."""
        if self.folder is None or self.most is None:
            return
        with suppress(OSError):  # another process may prune too
            files = [file for file in self.folder.iterdir() if OURS.fullmatch(file.name)]
            stats = {file: file.stat() for file in files if file != newest}
            total = sum(stat.st_size for stat in stats.values())
            room = self.most - (newest.stat().st_size if newest.is_file() else 0)
            for file in sorted(stats, key=lambda one: stats[one].st_mtime_ns):
                if total <= room:
                    break
                total -= stats[file].st_size
                file.unlink(missing_ok=True)

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
            "code": [_own_code(), _code(base.model_class)],
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
        "reviews": review_file_of(folder, name, config["review_file"]),
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
    """Digest of the file that defines a class."""
    file = inspect.getsourcefile(thing)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else ""


@cache
def _own_code() -> str:
    """Digest of the rooms that make and train our models."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for room in ("model", "trainer", "encode"):
        for file in sorted((package / room).rglob("*.py")):
            digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _write(path: Path, fitted: Fitted) -> str:
    """Write a fit at once or not at all. Why it cannot be kept; "": it is.

    Raises: UsageError if the file cannot be written.
    """
    tensors, plain = packed(weights_of(fitted.model))
    about = {
        "chosen": fitted.chosen,
        "epochs": fitted.epochs,
        "valid_result": fitted.valid_result,
        "refitted": fitted.refitted,
        "other": plain,
    }
    try:
        write(path, tensors, about)
    except UNWRITABLE as error:
        return f"{fitted.name} holds more than plain values: {' '.join(str(error).split())}"
    return ""


def _read(path: Path, name: str, config: Config, split: Split) -> Fitted | None:
    """The fit in a file; None if it is not there, or is not what was written."""
    try:
        tensors, about = read(path)
        values = {**about["chosen"], **({"epochs": about["epochs"]} if about["refitted"] else {})}
        learned = split.merged() if about["refitted"] else split
        own = config.for_model(name, **values)
        with blaming_settings(own):
            model = build_model(own, learned.part("train"))
        load_weights(model, unpacked(tensors, about["other"], own["device"]))
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
    except UNREADABLE:
        return None
