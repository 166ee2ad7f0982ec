"""A generator from a checkpoint: a file with the weights and settings of a trained model."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.known import is_sequential, model_keys, needs_more, recbole_models
from recbole_exp3rt.config.registry import MODELS
from recbole_exp3rt.data.split import Split, check_tokens, rebuild_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.trainer.fitting import Fitted, blaming_settings, build_model
from recbole_exp3rt.trainer.trainer import make_trainer, read_checkpoint


def load_checkpoint(path: Path, config: Config, split: Split) -> Fitted:
    """Return the model of a checkpoint, written by this package or by RecBole's own trainer.

    Our checkpoints contain the raw tokens and the digest of the split they were trained on.
    RecBole's contain pickled objects and are only read with `trust_checkpoint`; the split they
    were trained on is built again from the settings in them. Where this fails, a warning says
    that only shapes are compared.

    Raises: UsageError if the file cannot be read, does not rank, or was trained on other users,
    other items or another split.
    """
    stored = _read(path, bool(config["trust_checkpoint"]))
    try:
        return _rebuilt(path, stored, config, split)
    except UsageError as error:
        named = str(path) in str(error)
        raise error if named else UsageError(f"generator={path}: {error}") from error
    except Exception as error:  # RecBole and torch raise many kinds of errors for its content
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UsageError(
            f"generator={path} does not fit data set {config.dataset} ({split.dataset.user_num - 1}"
            f" users, {split.dataset.item_num - 1} items): {reason}; train it on this data set"
        ) from error


def _rebuilt(path: Path, stored: Mapping[str, Any], config: Config, split: Split) -> Fitted:
    settings = _settings(stored["config"])
    name = settings.get("model") if isinstance(settings, Mapping) else None
    if name not in MODELS and name not in recbole_models():
        raise UsageError(f"generator={path} is not a RecBole checkpoint: its config names no model")
    if needs_more(name):
        raise UsageError(
            f"generator={path} holds {name}, which needs a knowledge graph or another file; "
            "give its candidates as a file (.tsv)"
        )
    own_keys = model_keys(name) | ({"MAX_ITEM_LIST_LENGTH"} if is_sequential(name) else set())
    shape = {key: settings[key] for key in settings if key in own_keys and not _opens(key)}
    own = config.for_model(name, **shape)
    if own.kind != "ranking":
        raise UsageError(f"generator={path} holds {name}, which does not rank")
    _check_origin(path, stored, split)
    # A graph model needs the graph that it was trained on: train, or train + validation.
    learned = split.merged() if stored.get("refitted") else split
    with blaming_settings(own):
        model = build_model(own, learned.part("train"))
    model.load_state_dict(stored["state_dict"])
    model.load_other_parameter(_on(stored.get("other_parameter"), model, own["device"]))
    return Fitted(path.name, own, model, make_trainer(own, model), split, learned)


def _read(path: Path, trusted: bool) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"generator={path} does not exist; check the path")
    try:
        stored = read_checkpoint(path, trusted)
    except pickle.UnpicklingError as error:
        if trusted:
            raise UsageError(f"generator={path} is not a checkpoint; check the file") from error
        raise UsageError(
            f"generator={path} holds more than plain tensors, and reading it can run code; "
            "if you made it yourself, add --trust_checkpoint=True"
        ) from error
    except Exception as error:  # torch raises many kinds of errors for a broken file
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UsageError(f"generator={path} is not a readable checkpoint ({reason})") from error
    if not isinstance(stored, dict) or not {"config", "state_dict"} <= stored.keys():
        raise UsageError(f"generator={path} is not a RecBole checkpoint: no config and state_dict")
    return stored


def _settings(stored: Any) -> Any:
    """The settings: a dictionary in our checkpoints, a pickled Config in RecBole's."""
    return getattr(stored, "final_config_dict", stored)


def _opens(key: str) -> bool:
    """Whether a setting makes a model read a file. A checkpoint has its own weights instead."""
    return "path" in key or "pretrain" in key


def _check_origin(path: Path, stored: Mapping[str, Any], split: Split) -> None:
    """Raises: UsageError if it was trained on other users, other items or another split."""
    tokens, how = stored.get("tokens"), ""
    origin = None
    if tokens is None:
        try:
            origin = rebuild_split(stored["config"], path.stat().st_mtime)
        except UsageError as error:
            warnings.warn(
                f"generator={path}: the split it was trained on cannot be built again ({error}); "
                "only shapes are compared, so it may have been trained on test rows",
                stacklevel=5,
            )
            return
        tokens = {"user": origin.user_tokens, "item": origin.item_tokens}
        how = f" with eval_args={_plain_split(origin.config)}"
    if not isinstance(tokens, Mapping) or not all(
        isinstance(tokens.get(side), (list, tuple)) for side in ("user", "item")
    ):
        raise UsageError(f"generator={path}: its tokens are not lists of users and items")
    present = {"user": split.user_tokens, "item": split.item_tokens}
    check_tokens(f"generator={path}", tokens, present, split.config.dataset)
    same = _learned_alike(origin, split) if origin else stored.get("split") == split.digest
    if not same:
        raise UsageError(
            f"generator={path} was trained on another split of data set {split.config.dataset}"
            f"{how}; train it on this one, or run with the same eval_args and seed"
        )


def _learned_alike(origin: Split, split: Split) -> bool:
    """Whether RecBole's split `origin` is `split`; of its sequences, whether they are of its train.

    RecBole cuts sequences before it splits: in the train part is each row after a user's first,
    with the items before it. A user of one row has none.
    """
    field = origin.dataset.iid_field + (origin.config["LIST_SUFFIX"] or "")
    rows = origin.train.inter_feat
    if field not in rows:
        return origin.digest == split.digest
    before = rows[field].numpy()  # [n_rows, longest], 0 behind
    users, n_items = origin.users("train"), origin.dataset.item_num
    learned = np.column_stack([before, origin.items("train")])
    pairs = np.unique((users[:, None] * n_items + learned)[learned > 0])
    own, counts = split.users("train"), np.bincount(split.users("train"))
    wanted = np.unique((own * n_items + split.items("train"))[counts[own] > 1])
    return np.array_equal(pairs, wanted)


def _plain_split(config: Any) -> dict[str, Any]:
    """The parts of `eval_args` that decide the split."""
    return {key: config["eval_args"].get(key) for key in ("split", "order", "group_by")}


def _on(parameters: Any, model: Any, device: Any) -> Any:
    """The declared parameters of the model, on `device`; RecBole would set any attribute."""
    if not isinstance(parameters, Mapping):
        return None
    known = getattr(model, "other_parameter_name", ())
    return {
        key: value.to(device) if isinstance(value, torch.Tensor) else value
        for key, value in parameters.items()
        if key in known
    }
