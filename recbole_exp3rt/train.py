"""Train a student: `python -m recbole_exp3rt.train --data DIR --output DIR [--key=value …]`.

`… train merge ADAPTER OUT` writes a plain model. The student stands in the output folder, with a
card; a run that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from recbole_exp3rt.cli.common import FULL, exit_code, quiet
from recbole_exp3rt.display import terminal
from recbole_exp3rt.distill.train.presets import (
    CHOICES,
    PRESETS,
    TrainResult,
    TrainSettings,
    make_settings,
    read_value,
)
from recbole_exp3rt.errors import UsageError, changed
from recbole_exp3rt.llm.base import LLMError

__all__ = ["TrainResult", "TrainSettings", "check", "main", "make_settings", "train"]

# What changes nothing that a student learns
PLACES = {"data", "output", "preset", "threads", "checkpoint_minutes"}
PLACES |= {"micro_batch", "gradient_checkpointing"}
USAGE = """python -m recbole_exp3rt.train --data DIR --output DIR [--base smollm2] [--preset cpu] \
[--key=value …]
       python -m recbole_exp3rt.train merge ADAPTER OUT"""


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
        from recbole_exp3rt.distill.train.student import check_output, load_trainee
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    check_output(Path(settings.output))
    load_trainee(settings)


def other_than(card: Mapping[str, Any], settings: TrainSettings) -> str | None:
    """In what a finished student, by its card, is another than `settings` would train, as
    `rank=8, not 16`; None: it is the same."""
    from recbole_exp3rt.distill.train.student import digest_of, read

    ours = json.loads(json.dumps(asdict(settings)))
    ours = {key: value for key, value in ours.items() if key not in PLACES}
    if other := changed(ours, {**card.get("settings", {}), "base": card.get("base")}):
        return other
    same = card.get("data") == digest_of(read(settings))
    return None if same else f"other data than {settings.data}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. 0: done; 2: what the user gave cannot be, in one line; 130: stopped."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def work() -> None:
        with quiet():
            if not given or {"-h", "--help"} & set(given):
                print(f"usage: {USAGE}\n\n{_settings()}")
            elif given[0] == "merge":
                _merge(given[1:])
            else:
                train(make_settings(_flat(given)))

    return exit_code(work)


def _settings() -> str:
    """Every setting with its default, then the presets."""
    lines = ["settings, their defaults where no preset says otherwise (None: all, or as it fits):"]
    for field in fields(TrainSettings):
        if field.default is not MISSING:
            choices = f" (of {', '.join(CHOICES[field.name])})" if field.name in CHOICES else ""
            lines.append(f"  --{field.name}={field.default}{choices}")
    lines.append("presets (cpu for the embedded smollm2, imdb for any other base):")
    for name, values in PRESETS.items():
        lines.append(f"  {name}: {', '.join(f'{key}={value}' for key, value in values.items())}")
    return "\n".join(lines)


def _merge(folders: Sequence[str]) -> None:
    if len(folders) != 2:
        raise UsageError("merge takes the adapter's folder and a new one: merge ADAPTER OUT")
    try:
        from recbole_exp3rt.distill.train.merge import merge
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    with _space(Path(folders[1]), "the same command begins again"):
        terminal.say(f"Model: {merge(*folders)}")


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


def _flat(arguments: Sequence[str]) -> dict[str, Any]:
    """`--key=value` and `--key value`. Raises: UsageError for anything else."""
    values: dict[str, Any] = {}
    left = list(arguments)
    while left:
        word = left.pop(0)
        if not word.startswith("--") or word == "--":
            raise UsageError(f"{word!r} is no --key=value")
        key, is_there, value = word[2:].partition("=")
        if not is_there:
            if not left or left[0].startswith("--"):
                raise UsageError(f"--{key} has no value")
            value = left.pop(0)
        if key in values:
            raise UsageError(f"--{key} is given twice")
        values[key] = read_value(value)
    return values


if __name__ == "__main__":
    sys.exit(main())
