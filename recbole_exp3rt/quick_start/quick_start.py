"""A run from its settings to its tables: rate test pairs, rerank candidates, explain.

RecBole's own `quick_start` is not used: it needs a ray that today's libraries do not have
(`native.register` mends it for scripts that do use it).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from recbole_exp3rt.config.ids import check_ids
from recbole_exp3rt.config.load import load_config
from recbole_exp3rt.display.notes import quiet
from recbole_exp3rt.display.steps import log, logged
from recbole_exp3rt.display.terminal import console as make_console
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import check_new

if TYPE_CHECKING:
    from recbole_exp3rt.evaluator.results import Results
    from recbole_exp3rt.quick_start.plan import Plan
    from recbole_exp3rt.recommender import Recommender


def main(arguments: Sequence[str] | None = None) -> int:
    """`exp3rt` with these arguments, or with those of the process; `run` where no command is named.

    Returns the exit code.
    """
    from recbole_exp3rt.cli.main import main as cli

    given = list(sys.argv[1:] if arguments is None else arguments)
    return cli(given if given and not given[0].startswith("-") else ["run", *given])


def run(
    model: str | None,
    dataset: str | None,
    *,
    config_files: Sequence[str] = (),
    config_dict: Mapping[str, Any] | None = None,
    console: Console | None = None,
    arguments: Sequence[str] | None = None,
) -> Results:
    """Run `model` on `dataset` and return its `Results`; None: as the settings say.

    Raises: UsageError, LLMError with one line for the user; nothing half-written is left.
    """
    start = time.monotonic()
    console = console or Console(quiet=True)
    with quiet():
        config = load_config(
            model, dataset, config_files, config_dict, console, arguments, check=_check_result
        )
        with logged(config["log_file"], console):
            log(f"run of {config.model} on {config.dataset}: {config.given()}")
            if config["train"]:
                from recbole_exp3rt.distill.run import distill

                distill(config, console)
            from recbole_exp3rt.quick_start.experiment import Experiment

            results = Experiment(config, console).run()
            log("done")
    seconds = time.monotonic() - start
    console.print(f"Done in {seconds:.0f} s.")
    return results


def plan_run(
    model: str | None,
    dataset: str | None,
    *,
    config_files: Sequence[str] = (),
    config_dict: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> tuple[Plan | None, list[str]]:
    """What `run` would ask, and the models that it would fit; asks and fits nothing.

    The plan is None where no language model is asked. Raises: as `run`.
    """
    console = console or Console(quiet=True)
    with quiet():
        config = load_config(model, dataset, config_files, config_dict, console, None)
        from recbole_exp3rt.quick_start.experiment import Experiment

        planner = Experiment(config, console).planner
        return planner.plan(), planner.to_fit()


def show(
    dataset: str | None,
    user: str,
    item: str,
    *,
    reviews: int = 5,
    config_files: Sequence[str] = (),
    config_dict: Mapping[str, Any] | None = None,
    console: Console | None = None,
    arguments: Sequence[str] | None = None,
) -> tuple[Recommender, Mapping[str, str | None]]:
    """Print what the language model saw and said for a pair, with the newest `reviews` (0: all).

    Returns what was asked, and what the systems of the setting `explainer` said.
    Raises: UsageError, LLMError.
    """
    console = console or make_console()

    def check(settings: Mapping[str, Any]) -> None:
        check_ids(settings, user, item)

    with quiet():
        config = load_config(
            "EXP3RT", dataset, config_files, config_dict, console, arguments, check=check
        )
        if (model := config.cmd_config_dict.get("model", "EXP3RT")) != "EXP3RT":
            raise UsageError(f"--model={model}: show prints what EXP3RT saw; leave it out")
        from recbole_exp3rt.display.cases import show_pair
        from recbole_exp3rt.recommender import Recommender

        recommender = Recommender.from_config(config)
        show_pair(console, recommender, user, item, reviews)
        return recommender, _show_explainers(console, config, user, item)


def _show_explainers(console: Console, config: Any, user: str, item: str) -> dict[str, str | None]:
    """What the systems of the setting `explainer` say of the pair: printed and returned."""
    from recbole_exp3rt.config.reader import Reader
    from recbole_exp3rt.display.cases import show_texts
    from recbole_exp3rt.display.progress import ConsoleProgress
    from recbole_exp3rt.quick_start.explaining import explain_pair

    names = Reader(config).text_list("explainer")
    texts = explain_pair(config, names, (user, item), ConsoleProgress(console))
    show_texts(console, [(user, item)], texts)
    return {name: said[0] for name, said in texts.items()}


def show_from(
    result_file: str,
    user: str,
    item: str,
    *,
    reviews: int = 5,
    config_files: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> tuple[Recommender, Mapping[str, str | None]]:
    """As `show`, by the settings of the run that wrote `result_file`; what is given here wins.

    Raises: UsageError, LLMError.
    """
    from recbole_exp3rt.config.precheck import given_settings

    console = console or make_console()
    settings = given_settings(config_files, given, None)
    if not Path(result_file).is_file():
        raise UsageError(f"no file {result_file}; name the result_file of a run")
    with quiet():
        from recbole_exp3rt.display.cases import show_pair
        from recbole_exp3rt.recommender import Recommender, config_of_run

        config = config_of_run(result_file, settings)
        recommender = Recommender.from_config(config)
        show_pair(console, recommender, user, item, reviews)
        return recommender, _show_explainers(console, config, user, item)


def _check_result(settings: Mapping[str, Any]) -> None:
    """Raises: UsageError for a result file that is there already, before torch is imported."""
    if file := settings.get("result_file"):
        check_new("result_file", str(file), overwrite=bool(settings.get("overwrite")))
