"""A run from its command to its tables: rate test pairs, rerank candidates, explain.

RecBole's own `quick_start` is not used: it needs a ray that today's libraries do not have
(`native.register` mends it for scripts that do use it).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from recbole_exp3rt.cli.common import exit_code, load_config, make_console, quiet
from recbole_exp3rt.errors import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    0: done; 2: what the user gave cannot be, in one line; 3: the budget is reached; 130: stopped.
    """
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
    parser.add_argument("-m", "--model", help="EXP3RT (default), Bias, MF, WDL, BPR, …")
    parser.add_argument("-d", "--dataset", help="a folder below data_path (default: sample)")
    parser.add_argument("--config_files", default="", help='YAML files: "a.yaml b.yaml"')
    known, rest = parser.parse_known_args(sys.argv[1:])
    sys.argv = [sys.argv[0], *rest]
    console = make_console()
    options: dict[str, Any] = {
        "config_files": known.config_files.split(),
        "console": console,
        "read_command_line": True,
    }

    def work() -> None:
        if shows and known.model not in (None, "EXP3RT"):
            raise UsageError(
                f"--model={known.model}: show prints what EXP3RT saw and said; leave --model out"
            )
        if shows:
            show(known.dataset, known.user, known.item, **options)
        else:
            run(known.model, known.dataset, **options)

    return exit_code(work)


def run(
    model: str | None,
    dataset: str | None,
    *,
    config_files: Sequence[str] = (),
    config_dict: Mapping[str, Any] | None = None,
    console: Console | None = None,
    read_command_line: bool = False,
) -> Any:
    """Run `model` on `dataset` and return its `Results`; None: as the settings say.

    Raises: UsageError, LLMError with one line for the user; nothing half-written is left.
    """
    from recbole_exp3rt.quick_start.experiment import Experiment

    console = console or Console(quiet=True)
    start = time.monotonic()
    with quiet():
        config = load_config(model, dataset, config_files, config_dict, console, read_command_line)
        if config["train"]:
            from recbole_exp3rt.distill.teach import teach

            teach(config, console)
        results = Experiment(config, console).run()
    seconds = time.monotonic() - start
    console.print(f"Done in {seconds:.0f} s.")
    return results


def show(
    dataset: str | None,
    user: str,
    item: str,
    *,
    config_files: Sequence[str] = (),
    config_dict: Mapping[str, Any] | None = None,
    console: Console | None = None,
    read_command_line: bool = False,
) -> None:
    """Print what the language model saw and said for a pair. Raises: UsageError, LLMError."""
    from recbole_exp3rt.display.cases import show_pair
    from recbole_exp3rt.recommender import Recommender

    console = console or make_console()
    with quiet():
        config = load_config(
            "EXP3RT", dataset, config_files, config_dict, console, read_command_line
        )
        show_pair(console, Recommender.from_config(config), user, item)


if __name__ == "__main__":
    sys.exit(main())
