"""A run from its command to its tables: rate test pairs, rerank candidates, explain.

RecBole's own `quick_start` is not used: it needs a ray that today's libraries do not have
(`native.register` mends it for scripts that do use it).
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from rich.console import Console

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError

# Data sets that come with the package: name -> what makes it where it is missing.
BUILT_IN = {"sample": "dataset_converters.sample"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. 0: done; 2: what the user gave cannot be, in one line; 130: stopped."""
    if arguments is not None:  # RecBole reads the process's arguments
        sys.argv = [sys.argv[0], *arguments]
    shows = sys.argv[1:2] == ["show"]
    if shows:
        del sys.argv[1]
    parser = argparse.ArgumentParser(
        prog="exp3rt",
        usage="%(prog)s [show --user U --item I] [--key=value …]",
        description="Rate and rerank inside RecBole; any setting as --key=value. "
        "`show`: what the language model saw and said for one pair.",
        allow_abbrev=False,
    )
    if shows:
        parser.add_argument("--user", required=True, help="raw user id")
        parser.add_argument("--item", required=True, help="raw item id")
    parser.add_argument("-m", "--model", default="EXP3RT", help="EXP3RT, Bias, MF, WDL, BPR, …")
    parser.add_argument("-d", "--dataset", default="sample", help="a folder below data_path")
    parser.add_argument("--config_files", default="", help='YAML files: "a.yaml b.yaml"')
    known, rest = parser.parse_known_args(sys.argv[1:])
    sys.argv = [sys.argv[0], *rest]
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    options: dict[str, Any] = {
        "config_files": known.config_files.split(),
        "console": console,
        "read_command_line": True,
    }
    try:
        if shows and known.model != "EXP3RT":
            raise UsageError(
                f"--model={known.model}: show prints what EXP3RT saw and said; leave --model out"
            )
        if shows:
            show(known.dataset, known.user, known.item, **options)
        else:
            run(known.model, known.dataset, **options)
    except (UsageError, LLMError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on with the answers so far", file=sys.stderr)
        return 130
    return 0


def run(
    model: str,
    dataset: str,
    *,
    config_files: Sequence[str] = (),
    config_dict: Mapping[str, Any] | None = None,
    console: Console | None = None,
    read_command_line: bool = False,
) -> Any:
    """Run `model` on `dataset` and return its `Results`.

    Raises: UsageError, LLMError with one line for the user; nothing half-written is left.
    """
    from recbole_exp3rt.experiment import Experiment

    console = console or Console(quiet=True)
    start = time.monotonic()
    with _quiet():
        config = _config(model, dataset, config_files, config_dict, console, read_command_line)
        results = Experiment(config, console).run()
    seconds = time.monotonic() - start
    console.print(f"Done in {seconds:.0f} s.")
    return results


def show(
    dataset: str,
    user: str,
    item: str,
    *,
    config_files: Sequence[str] = (),
    config_dict: Mapping[str, Any] | None = None,
    console: Console | None = None,
    read_command_line: bool = False,
) -> None:
    """Print what the language model saw and said for a pair. Raises: UsageError, LLMError."""
    from recbole_exp3rt.recommender import Recommender
    from recbole_exp3rt.show import show_pair

    console = console or Console(highlight=False)
    with _quiet():
        config = _config("EXP3RT", dataset, config_files, config_dict, console, read_command_line)
        show_pair(console, Recommender.from_config(config), user, item)


def _config(
    model: str,
    dataset: str,
    config_files: Sequence[str],
    config_dict: Mapping[str, Any] | None,
    console: Console,
    read_command_line: bool,
) -> Any:
    """The settings; a data set that comes with the package is made where it is missing."""
    from recbole_exp3rt.config import Config, MissingDataset

    arguments = (model, dataset, list(config_files), dict(config_dict or {}), read_command_line)
    try:
        return Config(*arguments)
    except MissingDataset as missing:
        if dataset not in BUILT_IN:
            raise
        console.print(f"Making the synthetic data set {dataset} in {missing.folder}")
        import_module(BUILT_IN[dataset]).make_sample(missing.folder)
    return Config(*arguments)


@contextmanager
def _quiet() -> Iterator[None]:
    """No deprecations and chatter that RecBole's user can do nothing about."""
    logging.getLogger().setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


if __name__ == "__main__":
    sys.exit(main())
