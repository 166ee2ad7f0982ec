"""Settings and epochs chosen on validation, then trained again on train + validation.

The same door for rating and ranking models, on the same Split. What it never sees is the test
part.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole.data.dataloader import TrainDataLoader
from recbole.data.utils import create_samplers, get_dataloader
from recbole.utils import init_seed
from recbole.utils.argument_list import training_arguments

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.known import LENGTH, TRAINING, model_keys
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.trainer.resume import DamagedState, Found, Unfinished, damaged
from recbole_exp3rt.trainer.sequential import sequential_model, with_sequences
from recbole_exp3rt.trainer.tensors import load_weights, weights_of
from recbole_exp3rt.trainer.trainer import make_trainer, write_checkpoint

Progress = Callable[[str, int, int], None]  # what is done, steps done, steps in all
Metrics = dict[str, float]
Watch = Callable[[int, float], None]  # the epoch, from 0, and its score on validation


class StopTraining(Exception):
    """Raised by a `Watch` that has seen enough: the training ends, and `train` raises it too."""


@dataclass
class Fitted:
    """A model that can predict, and how it came about.

    `epochs` is the length of the last training; `valid_result` is of the chosen settings before
    the refit, None without a validation part. `split` is what it was given, `learned` what it
    was finally trained on.
    """

    name: str
    config: Config
    model: Any
    trainer: Any
    split: Split
    learned: Split
    chosen: dict[str, Any] = field(default_factory=dict)
    epochs: int = 0
    valid_result: Metrics | None = None
    refitted: bool = False

    def save(self) -> Path:
        """Write a checkpoint below `checkpoint_dir`; `generator=PATH` reads it."""
        origin = {
            "tokens": {"user": list(self.split.user_tokens), "item": list(self.split.item_tokens)},
            "split": self.split.digest,
            "refitted": self.refitted,
        }
        return write_checkpoint(self.config, self.model, origin)


def fit(
    model: str,
    config: Config,
    split: Split,
    *,
    refit: bool = True,
    progress: Progress | None = None,
    unfinished: Unfinished | None = None,
) -> Fitted:
    """Train `model` with each combination of its `search`, keep the best on validation.

    A setting that the user gave is not searched. With `refit`, the chosen settings are trained
    again for the best number of epochs on train + validation. Without validation rows the
    defaults are trained for all `epochs`, with a warning. The same seed gives the same model,
    also where the fit was stopped and goes on from `unfinished`.

    Raises: UsageError for settings that do not fit the model or the data.
    """
    base = config.for_model(model)
    if base.kind == "rating":
        split.ratings("train")  # says so if there are none
    if not split.size("valid"):
        warnings.warn(
            f"{model}: no validation rows to choose on; settings as given, epochs={base['epochs']}",
            stacklevel=2,
        )
    state = unfinished or Unfinished(None, None)
    with blaming_settings(base):
        try:
            return _choose(model, config, base, split, refit, progress, state)
        except DamagedState:
            state.forget()
            return _choose(model, config, base, split, refit, progress, state)


def train(model: str, config: Config, split: Split, watch: Watch | None = None) -> Fitted:
    """Train `model` once by the settings of `config`, for the best number of epochs on validation.

    `watch` is called after each validation, and may raise StopTraining.

    Raises: UsageError for settings that do not fit the model or the data.
    """
    own = config.for_model(model)
    with blaming_settings(own):
        return _train(model, own, split, Unfinished(None, None), validate=True, watch=watch)


def _choose(
    model: str,
    config: Config,
    base: Config,
    split: Split,
    refit: bool,
    progress: Progress | None,
    state: Unfinished,
) -> Fitted:
    """The best on validation of the searched settings of `base`, and its refit."""
    if not split.size("valid"):
        return _train(model, base, split, state, validate=False)
    grid = list(_grid(base))
    past, found = state.past(base["device"])
    best = _rebuilt(model, config, split, found) if found else None
    for step, values in enumerate(grid):
        if step < past:
            continue
        if progress:
            progress(model, step, len(grid) + refit)
        state.begin(step, _found(best))
        own = config.for_model(model, **values)
        fitted = _train(model, own, split, state, validate=True)
        fitted.chosen = values
        if best is None or _better(fitted, best):
            best = fitted
    if best is None:
        raise UsageError(f"{model}: its search has no map for the settings that are given")
    if refit:
        if progress:
            progress(model, len(grid), len(grid) + 1)
        state.begin(len(grid), _found(best))
        falls = {"learning_rate_falls": best.trainer.falls} if best.trainer.falls else {}
        final = config.for_model(model, **best.chosen, **falls, epochs=best.epochs)
        again = _train(model, final, split.merged(), state, validate=False)
        again.chosen, again.valid_result = best.chosen, best.valid_result
        again.split, again.refitted = split, True
        best = again
    if progress:
        progress(model, len(grid) + refit, len(grid) + refit)
    return best


def _found(best: Fitted | None) -> Found | None:
    """What a stopped search has to know of its best model."""
    if best is None:
        return None
    score, weights = best.trainer.best_valid_score, weights_of(best.model)
    falls = best.trainer.falls
    return Found(best.chosen, best.epochs, float(score), best.valid_result, weights, falls)


def _rebuilt(name: str, config: Config, split: Split, found: Found) -> Fitted:
    """The best model of a stopped search."""
    own = config.for_model(name, **found.chosen)
    model = build_model(own, split.part("train"))
    with damaged():
        load_weights(model, found.weights)
    trainer = make_trainer(own, model)
    trainer.best_valid_score, trainer.falls = found.score, list(found.falls)
    best = Fitted(name, own, model, trainer, split, split, dict(found.chosen), found.epochs)
    best.valid_result = dict(found.valid_result) if found.valid_result else None
    return best


@contextmanager
def blaming_settings(config: Config) -> Iterator[None]:
    """What RecBole and torch raise while they fit a model becomes one line: the model, the cause.

    Given settings that shape it are named beside. How long it is trained, which goes to all models
    of a run, is blamed for a lack of memory alone. A model with the usual settings has no excuse:
    its error stays what it is.
    """
    own = model_keys(config.model) | set(training_arguments) | LENGTH | TRAINING
    given = {k: v for k, v in config.external_config_dict.items() if k in own - {"search"}}
    try:
        yield
    except (UsageError, LLMError, StopTraining):
        raise
    except ImportError as error:
        needed = f"needs the package {error.name}, which" if error.name else "needs what"
        raise UsageError(
            f"{config.model} {needed} cannot be imported ({_reason(error)}); install it, or take "
            "another model"
        ) from error
    except Exception as error:  # of many kinds
        if not given:
            raise
        if not _out_of_memory(error):
            given = {key: value for key, value in given.items() if key not in LENGTH}
        settings = ", ".join(f"{key}={value}" for key, value in given.items())
        if settings:
            reason = f"{config.model} with {settings}: {_reason(error)}; check its settings"
        else:
            reason = f"{config.model} cannot be fitted here: {_reason(error)}; take another model"
        raise UsageError(reason) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "memory" in str(error)


def build_model(config: Config, train: Any) -> Any:
    """A model made from the settings and the train part, under the run's seed."""
    init_seed(config["seed"], config["reproducibility"])
    make = sequential_model if config.sequential else config.model_class
    return make(config, train).to(config["device"])


def _train(
    name: str,
    config: Config,
    split: Split,
    state: Unfinished,
    *,
    validate: bool,
    watch: Watch | None = None,
) -> Fitted:
    train, valid = split.part("train"), split.part("valid")
    model = build_model(config, train)
    try:
        unseen = split.rows("test", [])
        samplers = create_samplers(config, split.dataset, [train, valid, unseen])
    except ValueError as error:
        raise UsageError(f"{name}: {' '.join(str(error).split())}") from error
    # The parts' own copies: loaders sort rows and add fields.
    make_train = get_dataloader(config, "train")
    shuffle = {"shuffle": config["shuffle"]} if make_train is TrainDataLoader else {}
    rows = with_sequences(config, train) if config.sequential else train
    train_loader = make_train(config, rows, samplers[0], **shuffle)
    valid_loader = None
    if validate:
        valid_loader = get_dataloader(config, "valid")(config, valid, samplers[1])
    trainer = make_trainer(config, model)
    state.attach(trainer, train_loader)
    trainer.fit(train_loader, valid_loader, verbose=False, saved=True, callback_fn=watch)
    trainer.load_best()
    result = trainer.best_valid_result
    return Fitted(
        name,
        config,
        model,
        trainer,
        split,
        split,
        epochs=trainer.best_epoch + 1,
        valid_result=dict(result) if result else None,
    )


def _grid(config: Config) -> Iterator[dict[str, Any]]:
    """Every combination of the searched settings that the user left open.

    `search` is one map of settings to values, or a list of maps. A map of a list whose only value
    of a setting is not the user's, such as another `way`, is left out.
    """
    search = config["search"] or {}
    given: Mapping[str, Any] = config.external_config_dict
    for values in search if isinstance(search, list) else [search]:
        if isinstance(search, list) and any(
            len(values[key]) == 1 and values[key][0] != given[key] for key in values.keys() & given
        ):
            continue
        open_keys = [key for key in values if key not in given]
        for chosen in itertools.product(*(values[key] for key in open_keys)):
            yield dict(zip(open_keys, chosen, strict=True))


def _better(one: Fitted, other: Fitted) -> bool:
    score, record = one.trainer.best_valid_score, other.trainer.best_valid_score
    return bool(score > record if one.config["valid_metric_bigger"] else score < record)
