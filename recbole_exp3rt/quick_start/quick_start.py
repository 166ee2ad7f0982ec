"""A run from its settings to its tables: rate test pairs, rerank candidates, explain.

RecBole's own `quick_start` is not used: it needs a ray that today's libraries do not have
(`native.register` mends it for scripts that do use it).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from recbole_exp3rt.config.load import load_config
from recbole_exp3rt.display.notes import quiet
from recbole_exp3rt.display.terminal import console as make_console
from recbole_exp3rt.errors import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """`exp3rt run` with these arguments, or with those of the process: the exit code."""
    from recbole_exp3rt.cli.main import main as cli

    return cli(["run", *(sys.argv[1:] if arguments is None else arguments)])


def run(
    model: str | None,
    dataset: str | None,
    *,
    config_files: Sequence[str] = (),
    config_dict: Mapping[str, Any] | None = None,
    console: Console | None = None,
    arguments: Sequence[str] | None = None,
) -> Any:
    """Run `model` on `dataset` and return its `Results`; None: as the settings say.

    Raises: UsageError, LLMError with one line for the user; nothing half-written is left.
    """
    start = time.monotonic()
    from recbole_exp3rt.quick_start.experiment import Experiment

    console = console or Console(quiet=True)
    with quiet():
        config = load_config(model, dataset, config_files, config_dict, console, arguments)
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
    arguments: Sequence[str] | None = None,
) -> None:
    """Print what the language model saw and said for a pair. Raises: UsageError, LLMError."""
    from recbole_exp3rt.display.cases import show_pair
    from recbole_exp3rt.recommender import Recommender

    console = console or make_console()
    with quiet():
        config = load_config("EXP3RT", dataset, config_files, config_dict, console, arguments)
        if (model := config.cmd_config_dict.get("model", "EXP3RT")) != "EXP3RT":
            raise UsageError(f"--model={model}: show prints what EXP3RT saw; leave it out")
        show_pair(console, Recommender.from_config(config), user, item)
