"""RecBole's trainers with our checkpoints: best weights in memory, plain tensors on disk."""

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
    """A mixin that comes before a trainer class of RecBole.

    It keeps the weights of the best epoch in memory, so a search over settings writes no files.
    It never unpickles objects; RecBole's own checkpoints do not load with torch >= 2.6.
    """

    best: dict[str, Any] | None = None
    best_epoch: int = -1

    def __init__(self, config: Any, model: Any) -> None:
        """As RecBole's, without tensorboard files."""
        with compat.without_tensorboard():
            super().__init__(config, model)  # type: ignore[call-arg]
        self.eval_collector = compat.make_collector(config)

    def _build_optimizer(self, **kwargs: Any) -> Any:
        """The model's own optimizer, by its method `make_optimizer`; else RecBole's."""
        own = getattr(self.model, "make_optimizer", None)  # type: ignore[attr-defined]
        return own() if own else super()._build_optimizer(**kwargs)  # type: ignore[misc]

    def _neg_sample_batch_eval(self, batched_data: Any) -> Any:
        """As RecBole's; a rating that a model does not give (NaN) is left out of validation."""
        found = super()._neg_sample_batch_eval(batched_data)  # type: ignore[misc]
        interaction, scores, *rest = found
        given = (~torch.isnan(scores)).nonzero().flatten()
        if len(given) == len(scores) or scores.dim() > 1:
            return found
        return interaction[given], scores[given], *rest

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Keep the weights. RecBole calls this after each epoch that is the best so far."""
        model = self.model  # type: ignore[attr-defined]
        self.best_epoch = epoch
        self.best = {
            "state_dict": copy.deepcopy(model.state_dict()),
            "other_parameter": copy.deepcopy(model.other_parameter()),
        }

    def load_best(self) -> None:
        """Load the weights of the best epoch, if there is one."""
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
        """As RecBole's, with the best weights from memory or from our checkpoint `model_file`."""
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
    """Make RecBole's trainer for the model, with our checkpoints."""
    own = get_trainer(config["MODEL_TYPE"], config["model"])
    return type(own.__name__, (CheckpointMixin, own), {})(config, model)


def read_checkpoint(path: str | Path, trusted: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only plain tensors and values, unless it is `trusted`.

    Raises: pickle.UnpicklingError if it contains other objects and is not trusted; OSError.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected pickle protocol")  # RecBole writes 4
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=not trusted)
    return checkpoint


def write_checkpoint(config: Config, model: Any, origin: dict[str, Any]) -> Path:
    """Write a model's weights, settings and `origin` into `checkpoint_dir`; return the path.

    `origin` describes the training data in plain values: raw tokens and the digest of the split.
    The file name contains a digest of the settings and the origin, so different models have
    different files.

    Raises: UsageError if the file cannot be written.
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
        except RuntimeError as error:  # torch's writer does not give the reason
            reason = str(error).splitlines()[0]
            raise OSError(f"is there enough space in {path.parent}? ({reason})") from error
    return path


def _plain(value: Any) -> bool:
    """Whether a value consists of dictionaries, lists, texts, numbers, booleans and None."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return value is None or type(value) in (str, int, float, bool)
