"""RecBole's trainers with our checkpoints: the best weights in memory, plain tensors on disk."""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from recbole.utils import get_trainer

from recbole_exp3rt.config import compat
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.paths import atomic


class CheckpointMixin:
    """Goes before a trainer class of RecBole.

    Keeps the best epoch's weights in memory, so that a search leaves no files behind, and loads
    nothing unpickled: RecBole's own checkpoints do not load with torch >= 2.6.
    """

    best: dict[str, Any] | None = None
    best_epoch: int = -1

    def __init__(self, config: Any, model: Any) -> None:
        with compat.without_tensorboard():
            super().__init__(config, model)  # type: ignore[call-arg]
        self.eval_collector = compat.make_collector(config)

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """RecBole calls this after each epoch that is the best so far."""
        model = self.model  # type: ignore[attr-defined]
        self.best_epoch = epoch
        self.best = {
            "state_dict": copy.deepcopy(model.state_dict()),
            "other_parameter": copy.deepcopy(model.other_parameter()),
        }

    def load_best(self) -> None:
        """Put the weights of the best epoch into the model."""
        if self.best is not None:
            model = self.model  # type: ignore[attr-defined]
            model.load_state_dict(self.best["state_dict"])
            model.load_other_parameter(self.best["other_parameter"])

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        """RecBole's evaluation; the best weights come from memory or from a file of ours."""
        if load_best_model and model_file is not None:
            checkpoint = read_checkpoint(model_file)
            model = self.model  # type: ignore[attr-defined]
            model.load_state_dict(checkpoint["state_dict"])
            model.load_other_parameter(checkpoint.get("other_parameter"))
        elif load_best_model:
            self.load_best()
        return super().evaluate(  # type: ignore[misc]
            eval_data, load_best_model=False, show_progress=show_progress
        )


def make_trainer(config: Config, model: Any) -> Any:
    """RecBole's trainer for the model, with our checkpoints."""
    own = get_trainer(config["MODEL_TYPE"], config["model"])
    return type(own.__name__, (CheckpointMixin, own), {})(config, model)


def read_checkpoint(path: str | Path, trusted: bool = False) -> dict[str, Any]:
    """A checkpoint on the CPU. Only plain tensors and values are read unless it is trusted.

    Raises: pickle.UnpicklingError if it holds more than that; OSError.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected pickle protocol")  # RecBole writes 4
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=not trusted)
    return checkpoint


def write_checkpoint(config: Config, model: Any, origin: dict[str, Any]) -> Path:
    """Write a model's weights below `checkpoint_dir`, with its settings and its `origin`.

    Raises: UsageError if it cannot be written.

    `origin` says what it learned from, in plain values: raw tokens, the split's digest.

    The name holds a digest of all that decides the weights, so that two models never share one.
    """
    settings = {key: value for key, value in config.final_config_dict.items() if _plain(value)}
    identity = json.dumps([settings, origin], sort_keys=True, default=str)
    name = f"{config.model}-{config.dataset}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    path = Path(config["checkpoint_dir"]) / f"{name}.pth"
    stored = {
        "config": settings,
        "state_dict": model.state_dict(),
        "other_parameter": model.other_parameter(),
        **origin,
    }
    with atomic(path) as part:
        try:
            torch.save(stored, part)
        except RuntimeError as error:  # of torch's own writer, which names no reason
            said = str(error).splitlines()[0]
            raise OSError(f"is there room in {path.parent}? ({said})") from error
    return path


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return value is None or type(value) in (str, int, float, bool)
