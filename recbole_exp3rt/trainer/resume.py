"""A fit that was stopped goes on from its last epoch, and ends with the same weights to the bit.

While a fit runs, its state is written now and then beside its place in the fit cache: the model,
the optimizer, the best weights so far, the counters of early stopping, all random generators, and
what the search has found. The file is removed when the fit is kept. What this does not know: state
that a model hides in other objects than parameters, buffers, numbers, tensors and generators, and
trainers of RecBole with a loop or an optimizer of their own (NCL, RecVAE, RaCT); such a fit
begins again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.trainer.trainer import Trainer

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.trainer.tensors import (
    UNREADABLE,
    UNWRITABLE,
    Tensors,
    below,
    load_weights,
    packed,
    read,
    unpacked,
    weights_of,
    write,
)

PLAIN = (bool, int, float, str, type(None))


class DamagedState(Exception):
    """The state of a stopped fit cannot be used; the fit has to begin again."""


@dataclass(frozen=True)
class Found:
    """The best settings that a search has found so far, and how good their model is."""

    chosen: Mapping[str, Any]
    epochs: int
    score: float
    valid_result: Mapping[str, float] | None
    weights: Mapping[str, Any]
    falls: Sequence[int] = ()  # epochs before which its learning rate was halved


class Unfinished:
    """The state of a running fit, in the file `path`, written every `minutes`; None: never.

    `step` is the place in the search; `began_at` says where a stopped fit went on.
    """

    def __init__(self, path: Path | None, minutes: float | None) -> None:
        self.path = path if minutes is not None else None
        self.pause = 60 * (minutes or 0.0)  # seconds
        self.step = 0
        self.found: Found | None = None
        self.began_at = ""
        self._next = time.monotonic() + self.pause
        self._tensors: Tensors = {}
        self._about: dict[str, Any] | None = None
        if self.path is not None and self.path.is_file():
            with suppress(*UNREADABLE):
                self._tensors, self._about = read(self.path)

    def past(self, device: Any) -> tuple[int, Found | None]:
        """The place in the search at which the stopped fit was, and what it had found.

        Raises: DamagedState.
        """
        if self._about is None:
            return 0, None
        with damaged():
            stored = self._about["found"]
            if stored is None:
                return int(self._about["step"]), None
            weights = unpacked(self._tensors, stored.pop("other"), device, "found.")
            return int(self._about["step"]), Found(**stored, weights=weights)

    def begin(self, step: int, found: Found | None) -> None:
        """The search is now at `step`, with what it has found before."""
        self.step, self.found = step, found

    def attach(self, trainer: Any, loader: Any) -> None:
        """Let `trainer` write its state, and put it where the stopped fit was in this step.

        Raises: DamagedState.
        """
        classes = type(trainer).__mro__  # after our own and its mixins comes RecBole's
        own = next(one for one in classes if one.__module__ != f"{__package__}.trainer")
        if self.path is None or not _plain_loop(own):
            return
        usual = _attributes(trainer.model)
        about, tensors = self._about, self._tensors
        if about is not None and about["step"] == self.step:
            self._about, self._tensors = None, {}
            with damaged():
                _restore(trainer, loader, about, tensors)
            self.began_at = f"epoch {about['epoch'] + 1}"

        def before_epoch(epoch: int) -> None:
            if self.path is not None and time.monotonic() >= self._next:
                self._write(trainer, loader, epoch, usual)
                self._next = time.monotonic() + self.pause

        trainer.before_epoch = before_epoch

    def forget(self) -> None:
        """Remove the file: the fit is finished, or begins again."""
        self._about, self._tensors, self.began_at = None, {}, ""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _write(self, trainer: Any, loader: Any, epoch: int, usual: Mapping[str, Any]) -> None:
        """Write the state before `epoch`; what cannot be written once is not tried again."""
        assert self.path is not None
        try:
            tensors, about = _state(trainer, loader, usual)
            about |= {"step": self.step, "epoch": epoch, "found": None}
            if found := self.found:
                more, other = packed(found.weights, "found.")
                tensors |= more
                about["found"] = {
                    "chosen": dict(found.chosen),
                    "epochs": found.epochs,
                    "score": found.score,
                    "valid_result": found.valid_result,
                    "falls": list(found.falls),
                    "other": other,
                }
            write(self.path, tensors, about)
        except (UsageError, *UNWRITABLE):
            self.path = None


@contextmanager
def damaged() -> Iterator[None]:
    """What a broken file raises becomes DamagedState."""
    try:
        yield
    except (*UNREADABLE, AttributeError, IndexError) as error:
        raise DamagedState(str(error)) from error


def _plain_loop(own: type) -> bool:
    """Whether a trainer has the loop and the optimizer of RecBole's Trainer, as most have."""
    methods = ("fit", "_train_epoch", "_valid_epoch", "_build_optimizer")
    return all(getattr(own, name) is getattr(Trainer, name) for name in methods)


# --- the state of one training


def _state(trainer: Any, loader: Any, usual: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    tensors, other = packed(weights_of(trainer.model), "model.")
    about: dict[str, Any] = {
        "other": other,
        "cur_step": trainer.cur_step,
        "falls": list(trainer.falls),
        "best_valid_score": float(trainer.best_valid_score),
        "best_valid_result": trainer.best_valid_result,
        "best_epoch": trainer.best_epoch,
        "best_other": None,
    }
    if trainer.best is not None:
        more, about["best_other"] = packed(trainer.best, "best.")
        tensors |= more
    for part in (
        _optimizer_state(trainer.optimizer),
        _changed_attributes(trainer.model, usual),
        _random_state(loader),
    ):
        tensors |= part[0]
        about |= part[1]
    return tensors, about


def _restore(trainer: Any, loader: Any, about: Mapping[str, Any], tensors: Tensors) -> None:
    model, device = trainer.model, trainer.device
    load_weights(model, unpacked(tensors, about["other"], device, "model."))
    for name, value in {**about["plain"], **below(tensors, "attribute.", device)}.items():
        module, _, key = name.rpartition(":")
        setattr(model.get_submodule(module), key, value)
    _restore_optimizer(trainer.optimizer, about["optimizer"], tensors)
    if about["best_other"] is not None:
        trainer.best = unpacked(tensors, about["best_other"], device, "best.")
    trainer.best_epoch = about["best_epoch"]
    trainer.best_valid_score = about["best_valid_score"]
    trainer.best_valid_result = about["best_valid_result"]
    trainer.cur_step, trainer.falls = about["cur_step"], list(about["falls"])
    trainer.start_epoch = about["epoch"]
    _restore_random(model, loader, about, tensors)


def _optimizer_state(optimizer: Any) -> tuple[Tensors, dict[str, Any]]:
    state = optimizer.state_dict()
    tensors: Tensors = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        plain[str(index)] = {}
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                plain[str(index)][key] = value
    return tensors, {"optimizer": {"groups": state["param_groups"], "plain": plain}}


def _restore_optimizer(optimizer: Any, about: Mapping[str, Any], tensors: Tensors) -> None:
    state = {
        int(index): {**values, **below(tensors, f"optimizer.{index}.")}
        for index, values in about["plain"].items()
    }
    groups = [
        {key: tuple(v) if isinstance(v, list) and key != "params" else v for key, v in one.items()}
        for one in about["groups"]
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _attributes(model: Any) -> dict[str, Any]:
    """What the modules of a model hold beside parameters and buffers, with tensors' versions."""
    return {
        f"{path}:{key}": (value, value._version if isinstance(value, torch.Tensor) else 0)
        for path, module in model.named_modules()
        for key, value in vars(module).items()
        if key != "training"
    }


def _changed_attributes(model: Any, usual: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """The attributes that training has changed. Raises: TypeError for one that is not plain."""
    tensors: Tensors = {}
    plain: dict[str, Any] = {}
    for name, (value, version) in _attributes(model).items():
        before, old = usual.get(name, (_Unset, 0))
        if isinstance(value, PLAIN):
            if value is not before:
                plain[name] = value
        elif isinstance(value, torch.Generator):
            tensors[f"generator.{name}"] = value.get_state()
        elif value is before and version == old:
            continue
        elif isinstance(value, torch.Tensor) and value.layout == torch.strided:
            tensors[f"attribute.{name}"] = value
        elif ":_" not in name:  # torch's own, and what a model only keeps for speed
            raise TypeError(f"{name} is not plain")
    return tensors, {"plain": plain}


class _Unset:
    """Stands for an attribute that was not there."""


def _random_state(loader: Any) -> tuple[Tensors, dict[str, Any]]:
    _, words, place, has_gauss, gauss = np.random.get_state()
    version, numbers, next_gauss = random.getstate()
    tensors = {
        "random.torch": torch.get_rng_state(),
        "random.loader": loader.generator.get_state(),
        "random.numpy": torch.from_numpy(np.asarray(words, dtype=np.int64)),
        "random.python": torch.tensor(numbers, dtype=torch.int64),
    }
    for index, state in enumerate(torch.cuda.get_rng_state_all()):
        tensors[f"random.cuda.{index}"] = state
    return tensors, {
        "random": {
            "numpy": [int(place), int(has_gauss), float(gauss)],
            "python": [version, next_gauss],
        }
    }


def _restore_random(model: Any, loader: Any, about: Mapping[str, Any], tensors: Tensors) -> None:
    states = below(tensors, "random.")
    torch.set_rng_state(states["torch"])
    loader.generator.set_state(states["loader"])
    words = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", words, *about["random"]["numpy"]))
    version, next_gauss = about["random"]["python"]
    random.setstate((version, tuple(states["python"].tolist()), next_gauss))
    for index, state in below(states, "cuda.").items():
        torch.cuda.set_rng_state(state, int(index))
    for name, state in below(tensors, "generator.").items():
        module, _, key = name.rpartition(":")
        getattr(model.get_submodule(module), key).set_state(state)
