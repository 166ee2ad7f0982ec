"""Weights and other values in a file: tensors as safetensors, the rest as JSON in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recbole_exp3rt.paths import atomic

STATE, OTHER = "state.", "other."  # prefixes of tensors: a model's state_dict, its other values
Tensors = dict[str, torch.Tensor]
UNREADABLE = (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError)
UNWRITABLE = (TypeError, ValueError, RuntimeError)  # more than tensors and plain values


def weights_of(model: Any) -> dict[str, Any]:
    """The weights of a model of RecBole: `state_dict` and `other_parameter`, not copied."""
    return {"state_dict": model.state_dict(), "other_parameter": model.other_parameter()}


def load_weights(model: Any, weights: Mapping[str, Any]) -> None:
    """Put weights into a model of the same shape. Raises: RuntimeError if they do not fit."""
    model.load_state_dict(weights["state_dict"])
    model.load_other_parameter(weights["other_parameter"])


def packed(weights: Mapping[str, Any], prefix: str = "") -> tuple[Tensors, dict[str, Any]]:
    """The tensors of `weights`, their names below `prefix`, and its values that are none."""
    other = weights["other_parameter"] or {}
    plain = {key: value for key, value in other.items() if not isinstance(value, torch.Tensor)}
    tensors = {f"{prefix}{STATE}{key}": value for key, value in weights["state_dict"].items()}
    tensors |= {f"{prefix}{OTHER}{key}": other[key] for key in other.keys() - plain.keys()}
    return tensors, plain


def unpacked(
    tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any], device: Any, prefix: str = ""
) -> dict[str, Any]:
    """The weights that `packed` took apart, on `device`."""
    other = {**plain, **below(tensors, f"{prefix}{OTHER}", device)}
    return {"state_dict": below(tensors, f"{prefix}{STATE}", device), "other_parameter": other}


def below(tensors: Mapping[str, torch.Tensor], prefix: str, device: Any = "cpu") -> Tensors:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    return {
        key.removeprefix(prefix): tensor.to(device)
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }


def write(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Write a file at once or not at all.

    Raises: UsageError if it cannot be written; one of UNWRITABLE for what is not plain.
    """
    header = json.dumps(about)
    # a copy: tensors that share memory cannot be written
    kept = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    with atomic(path) as part:
        try:
            save_file(kept, part, metadata={"fit": header})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """What `write` wrote. Raises: one of UNREADABLE."""
    with safe_open(path, framework="pt") as file:
        about: dict[str, Any] = json.loads((file.metadata() or {})["fit"])
        return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118
