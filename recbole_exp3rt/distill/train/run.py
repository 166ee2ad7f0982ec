"""A training from its settings to a student; a merge from an adapter to a plain model.

The student and its card are written to the output folder. A training that was stopped goes on
from its last checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recbole_exp3rt.display import terminal
from recbole_exp3rt.distill.train.presets import TrainResult, TrainSettings
from recbole_exp3rt.errors import UsageError, first_difference
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.paths import FULL

# What changes nothing that a student learns
PLACES = {"data", "output", "preset", "threads", "checkpoint_minutes"}
PLACES |= {"micro_batch", "gradient_checkpointing"}


def train(settings: TrainSettings, say: Callable[[str], None] = terminal.say) -> TrainResult:
    """Train the adapters that `settings` describe, going on with what is unfinished.

    Raises: UsageError, LLMError with one line; what was trained so far is kept.
    """
    # what libraries say while they train is of no use to whoever trains a student
    for name in ("bitsandbytes", "accelerate", "transformers", "trl", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore", UserWarning)
    try:
        from recbole_exp3rt.distill.train.student import Training
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    training = Training(settings, say)
    with _space(training.output, "the same command goes on from the last checkpoint"):
        return training.run()


def check(settings: TrainSettings) -> None:
    """See what can be seen before there are data: the libraries, the base, where it goes.

    Raises: UsageError, LLMError with one line.
    """
    try:
        from recbole_exp3rt.distill.train.student import check_output, load_base
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    check_output(Path(settings.output))
    load_base(settings)


def other_than(card: Mapping[str, Any], settings: TrainSettings) -> str | None:
    """In what a finished student, by its card, is another than `settings` would train, as
    `rank=8, not 16`; None: it is the same."""
    from recbole_exp3rt.distill.train.student import digest_of, read

    ours = json.loads(json.dumps(asdict(settings)))
    ours = {key: value for key, value in ours.items() if key not in PLACES}
    if other := first_difference(ours, {**card.get("settings", {}), "base": card.get("base")}):
        return other
    same = card.get("data") == digest_of(read(settings))
    return None if same else f"other data than {settings.data}"


def merge_adapter(adapter: str, out: str) -> Path:
    """Write base and adapter as one plain model to the folder `out`.

    Raises: UsageError, LLMError with one line; nothing half-written is left.
    """
    try:
        from recbole_exp3rt.distill.train.merge import merge
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    with _space(Path(out), "the same command begins again"):
        return Path(merge(adapter, out))


def _missing(error: ModuleNotFoundError) -> LLMError:
    return LLMError(f"training needs {error.name}: pip install 'recbole-exp3rt[train]'")


@contextmanager
def _space(folder: Path, rest: str) -> Iterator[None]:
    """Libraries say in their own ways that a disk is full. Raises: UsageError where it is."""
    try:
        yield
    except Exception as error:
        said = str(error)
        full = getattr(error, "errno", None) in FULL
        full = full or any(os.strerror(code) in said for code in FULL)
        if not full and "PytorchStreamWriter" in said:  # torch names no reason
            full = shutil.disk_usage(folder).free < 2**20
        if not full:
            raise
        raise UsageError(f"no space left for {folder}: free some; {rest}") from error
