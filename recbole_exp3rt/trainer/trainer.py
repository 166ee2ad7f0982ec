"""RecBole's trainers with our checkpoints: best weights in memory, plain tensors on disk."""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.utils import EvaluatorType, get_trainer

from recbole_exp3rt.config import compat
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.reader import read_scale
from recbole_exp3rt.paths import atomic
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.trainer.tensors import load_weights, weights_of

FALL = 0.5  # a learning rate that falls is multiplied by it


class RatingMixin:
    """A mixin that comes before a trainer class of RecBole: what some rating models need.

    A missing rating, NaN, counts as the level with the largest error, so that early stopping has
    a number. With `learning_rate_patience`, the learning rate is halved after more epochs than
    that without a better validation, down to `learning_rate_floor`; then the count starts again.
    `falls` are the epochs, from 0, before which it was halved; with `learning_rate_falls` it is
    halved there, whatever validation says.
    """

    config: Any
    model: Any
    optimizer: Any
    cur_step: int

    def __init__(self, config: Any, model: Any) -> None:
        """As RecBole's."""
        super().__init__(config, model)  # type: ignore[call-arg]
        self.falls: list[int] = []

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
        config, optimizer = self.config, self.optimizer
        patience, planned = config["learning_rate_patience"], config["learning_rate_falls"]
        rates = [group["lr"] for group in optimizer.param_groups]
        floor = config["learning_rate_floor"] or 0.0
        if planned is None:
            falls = patience is not None and self.cur_step > patience and max(rates) > floor
        else:
            falls = epoch_idx in planned
        if falls:
            for group in optimizer.param_groups:
                group["lr"] = max(group["lr"] * FALL, floor)
            self.falls.append(epoch_idx)
            self.cur_step = 0
        return super()._train_epoch(  # type: ignore[misc]
            train_data, epoch_idx, *args, **kwargs
        )

    def _neg_sample_batch_eval(self, batched_data: Any) -> Any:
        interaction, ratings, *more = super()._neg_sample_batch_eval(  # type: ignore[misc]
            batched_data
        )
        config = self.config
        if config["eval_type"] == EvaluatorType.VALUE and ratings.isnan().any():
            given = interaction[config["RATING_FIELD"]].cpu().numpy()
            counted = filled(ratings.cpu().numpy(), given, read_scale(config))
            ratings = torch.from_numpy(counted).to(ratings)
        return interaction, ratings, *more


def filled(predictions: NDArray[Any], ratings: NDArray[Any], scale: RatingScale) -> NDArray[Any]:
    """`predictions` with each NaN replaced by the level farthest from its rating: [n_rows]."""
    farthest = [scale.farthest(rating) for rating in ratings.tolist()]
    return np.where(np.isnan(predictions), farthest, predictions).astype(np.float64)


PAIRS_AT_ONCE = 65536  # that a model without `full_sort_predict` scores: its layers need memory


class CheckpointMixin(RatingMixin):
    """A mixin that comes before a trainer class of RecBole.

    It keeps the weights of the best epoch in memory, so a search over settings writes no files.
    It never unpickles objects; RecBole's own checkpoints do not load with torch >= 2.6.
    """

    best: dict[str, Any] | None = None
    best_epoch: int = -1
    before_epoch: Callable[[int], None] | None = None  # called with the number of each epoch

    def __init__(self, config: Any, model: Any) -> None:
        """As RecBole's, without tensorboard files."""
        with compat.without_tensorboard():
            super().__init__(config, model)
        self.test_batch_size = min(int(config["eval_batch_size"]), PAIRS_AT_ONCE)
        self.eval_collector = compat.make_collector(config)

    def _build_optimizer(self, **kwargs: Any) -> Any:
        """The model's own optimizer, by its method `make_optimizer`; else RecBole's."""
        own = getattr(self.model, "make_optimizer", None)
        return own() if own else super()._build_optimizer(**kwargs)  # type: ignore[misc]

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Keep the weights. RecBole calls this after each epoch that is the best so far."""
        self.best_epoch = epoch
        self.best = copy.deepcopy(weights_of(self.model))

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
        if self.before_epoch is not None:
            self.before_epoch(epoch_idx)
        return super()._train_epoch(train_data, epoch_idx, *args, **kwargs)

    def load_best(self) -> None:
        """Load the weights of the best epoch, if there is one."""
        if self.best is not None:
            load_weights(self.model, self.best)

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
            model = self.model
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
