"""Train a student: `python -m recbole_exp3rt.train --data DIR --output DIR [--key=value …]`.

`… train merge ADAPTER OUT` writes a plain model. The student stands in the output folder, with a
card; a run that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import errno
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_exp3rt.command import exit_code, quiet
from recbole_exp3rt.distill.presets import TrainResult, TrainSettings, make_settings, read_value
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError

__all__ = ["TrainResult", "TrainSettings", "main", "make_settings", "train"]

USAGE = """python -m recbole_exp3rt.train --data DIR --output DIR [--base smollm2] [--preset cpu] \
[--key=value …]
       python -m recbole_exp3rt.train merge ADAPTER OUT"""


def train(settings: TrainSettings, say: Callable[[str], None] = print) -> TrainResult:
    """Train the adapters that `settings` describe, going on with what is unfinished.

    Raises: UsageError, LLMError with one line; what was trained so far is kept.
    """
    # what libraries say while they train is of no use to whoever trains a student
    for name in ("bitsandbytes", "accelerate", "transformers", "trl", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore", UserWarning)
    try:
        from recbole_exp3rt.distill.student import Training
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    training = Training(settings, say)
    with _space(training.output, "the same command goes on from the last checkpoint"):
        return training.run()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. 0: done; 2: what the user gave cannot be, in one line; 130: stopped."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(f"usage: {USAGE}\n\nsettings: {', '.join(TrainSettings.__dataclass_fields__)}")
        return 0

    def work() -> None:
        with quiet():
            if given[0] == "merge":
                _merge(given[1:])
            else:
                train(make_settings(_flat(given)))

    return exit_code(work)


def _merge(folders: Sequence[str]) -> None:
    if len(folders) != 2:
        raise UsageError("merge takes the adapter's folder and a new one: merge ADAPTER OUT")
    try:
        from recbole_exp3rt.distill.merge import merge
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    with _space(Path(folders[1]), "the folder is not whole"):
        print(f"Model: {merge(*folders)}")


def _missing(error: ModuleNotFoundError) -> LLMError:
    return LLMError(f"training needs {error.name}: pip install 'recbole-exp3rt[train]'")


@contextmanager
def _space(folder: Path, rest: str) -> Iterator[None]:
    """Libraries say in their own ways that a disk is full. Raises: UsageError where it is."""
    try:
        yield
    except Exception as error:
        said = str(error)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        full = full or "No space left" in said or "os error 28" in said
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
        values[key] = read_value(value)
    return values


if __name__ == "__main__":
    sys.exit(main())
