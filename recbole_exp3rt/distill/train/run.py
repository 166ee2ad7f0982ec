"""Training and merging for the command line: settings in, a folder out.

`train` writes a student with its card; a stopped training goes on from its last checkpoint. torch
and the libraries of a training are imported when a function is called; a missing library, or a
full disk, is an error of one line.
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

from recbole_exp3rt.display.terminal import say as say_line
from recbole_exp3rt.distill.annotate.examples import digest_of
from recbole_exp3rt.distill.train.data import read
from recbole_exp3rt.distill.train.presets import PLACES, USUAL, TrainResult, TrainSettings
from recbole_exp3rt.errors import UsageError, first_difference
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.paths import FULL


def train(settings: TrainSettings, say: Callable[[str], None] = say_line) -> TrainResult:
    """Train the adapters of a student; an unfinished training goes on.

    `say` prints a line of progress.
    Raises: UsageError, LLMError with a message of one line; checkpoints are kept.
    """
    # the libraries' messages do not help a user who trains a student
    for name in ("bitsandbytes", "accelerate", "transformers", "trl", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore", UserWarning)
    try:
        from recbole_exp3rt.distill.train.student import Training
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    output = Path(settings.output)
    with _name_full_disk(output, "the same command goes on from the last checkpoint"):
        data = None
        if settings.own_rationales:
            from recbole_exp3rt.distill.train.own_rationales import second_round

            data = second_round(settings, say)
        return Training(settings, say, data).run()


def check(settings: TrainSettings) -> None:
    """Check libraries, base model and output folder, before there is training data.

    Raises: UsageError, LLMError with a message of one line.
    """
    try:
        from recbole_exp3rt.distill.train.student import check_output, load_base
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    check_output(Path(settings.output), settings.overwrite)
    load_base(settings)


def difference(card: Mapping[str, Any], settings: TrainSettings) -> str | None:
    """The first difference between a finished student and the one that `settings` would train.

    `card` is the student's card. The text is like `rank=8, not 16`; None: there is no difference.
    """
    wanted = json.loads(json.dumps(asdict(settings)))
    wanted = {key: value for key, value in wanted.items() if key not in PLACES}
    found = {**USUAL, **card.get("settings", {}), "base": card.get("base")}
    if other := first_difference(wanted, found):
        return other
    learned = card
    if settings.own_rationales:  # the digest of the first round's data
        learned = (card.get("data_settings") or {}).get("own_rationales") or {}
    same = learned.get("data") == digest_of(read(settings))
    return None if same else f"other data than {settings.data}"


def merge_adapter(adapter: str, out: str) -> Path:
    """Write base and adapter as one plain model to the folder `out`.

    Raises: UsageError, LLMError with a message of one line; no incomplete model is left.
    """
    try:
        from recbole_exp3rt.distill.train.merge import merge
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    with _name_full_disk(Path(out), "the same command begins again"):
        return Path(merge(adapter, out))


def _missing(error: ModuleNotFoundError) -> LLMError:
    return LLMError(f"training needs {error.name}: pip install 'recbole-exp3rt[train]'")


@contextmanager
def _name_full_disk(folder: Path, rest: str) -> Iterator[None]:
    """Raises: UsageError where a library fails because the disk is full; `rest` ends its text."""
    try:
        yield
    except Exception as error:
        text = str(error)
        full = getattr(error, "errno", None) in FULL
        full = full or any(os.strerror(code) in text for code in FULL)
        if not full and "PytorchStreamWriter" in text:  # torch gives no reason
            full = shutil.disk_usage(folder).free < 2**20
        if not full:
            raise
        raise UsageError(f"no space left for {folder}: free some; {rest}") from error
