"""What all commands share: settings read, errors told in one line, libraries kept quiet."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from rich.console import Console

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.spending import BudgetReached
from recbole_exp3rt.stages.counts import NothingRated
from recbole_exp3rt.terminal import escape, plain
from recbole_exp3rt.urls import masked

# Data sets that come with the package: name -> what makes it where it is missing.
BUILT_IN = {"sample": "dataset_converters.sample"}


def exit_code(work: Callable[[], None]) -> int:
    """Do `work` for the command line: 0, or what went wrong in one line, and its code."""
    try:
        work()
    except BudgetReached as reached:
        print(plain(f"stopped: {reached}"), file=sys.stderr)
        return 3
    except NothingRated as nothing:
        print(plain(masked(f"stopped: {' '.join(str(nothing).split())}")), file=sys.stderr)
        return 4
    except (UsageError, LLMError) as error:
        print(plain(masked(f"error: {' '.join(str(error).split())}")), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on with the answers so far", file=sys.stderr)
        return 130
    return 0


def load_config(
    model: str | None,
    dataset: str | None,
    config_files: Sequence[str],
    config_dict: Mapping[str, Any] | None,
    console: Console,
    read_command_line: bool,
) -> Any:
    """The settings; a data set that comes with the package is made where it is missing."""
    from recbole_exp3rt.checks import MissingDataset
    from recbole_exp3rt.config import Config

    arguments = (model, dataset, list(config_files), dict(config_dict or {}), read_command_line)
    try:
        return Config(*arguments)
    except MissingDataset as missing:
        if missing.name not in BUILT_IN:
            raise
        console.print(escape(f"Making the synthetic data set {missing.name} in {missing.folder}"))
        import_module(BUILT_IN[missing.name]).make_sample(missing.folder)
    return Config(*arguments)


@contextmanager
def noting(console: Console, notes: list[str] | None = None) -> Iterator[None]:
    """Prints what is warned of meanwhile as notes, but for those in `notes`, which it joins."""
    known = [] if notes is None else notes
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        yield
    texts = [str(one.message) for one in said if issubclass(one.category, UserWarning)]
    for text in dict.fromkeys(texts):
        if text in known:
            continue
        known.append(text)
        console.print(f"note: {escape(text)}", soft_wrap=True)


@contextmanager
def quiet() -> Iterator[None]:
    """No deprecations and chatter that RecBole's user can do nothing about."""
    logging.getLogger().setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
