"""A run from its command to its tables: rate test pairs, rerank candidates, explain.

RecBole's own `quick_start` is not used: it does not import with today's libraries.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
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
    parser = argparse.ArgumentParser(
        prog="exp3rt",
        description="Rate and rerank inside RecBole; any setting as --key=value.",
        allow_abbrev=False,
    )
    parser.add_argument("-m", "--model", default="EXP3RT", help="EXP3RT, Bias, MF, WDL, BPR, …")
    parser.add_argument("-d", "--dataset", default="sample", help="a folder below data_path")
    parser.add_argument("--config_files", default="", help='YAML files: "a.yaml b.yaml"')
    known, rest = parser.parse_known_args(sys.argv[1:])
    sys.argv = [sys.argv[0], *rest]
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    try:
        run(
            known.model,
            known.dataset,
            config_files=known.config_files.split(),
            console=console,
            read_command_line=True,
        )
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
    from recbole_exp3rt.config import Config, MissingDataset
    from recbole_exp3rt.experiment import Experiment

    console = console or Console(quiet=True)
    start = time.monotonic()
    logging.getLogger().setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        arguments = (model, dataset, list(config_files), dict(config_dict or {}), read_command_line)
        try:
            config = Config(*arguments)
        except MissingDataset as missing:
            if dataset not in BUILT_IN:
                raise
            console.print(f"Making the synthetic data set {dataset} in {missing.folder}")
            import_module(BUILT_IN[dataset]).make_sample(missing.folder)
            config = Config(*arguments)
        results = Experiment(config, console).run()
    seconds = time.monotonic() - start
    console.print(f"Done in {seconds:.0f} s.")
    return results


if __name__ == "__main__":
    sys.exit(main())
