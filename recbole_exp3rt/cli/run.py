"""`exp3rt run`: rate test pairs, rerank candidates, explain."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.settings_command import (
    VALUES,
    Named,
    SettingsCommand,
    dataset_option,
    files_option,
)
from recbole_exp3rt.config.described import groups_of_run

HELP = """Rate test pairs and rerank candidates on a data set.

Without a setting it runs EXP3RT on the synthetic sample in a few minutes. The settings of
another model: exp3rt run --model=MF --help."""


@click.command(
    cls=SettingsCommand,
    groups=groups_of_run,
    values=VALUES,
    help=HELP,
    short_help="Rate and rerank on a data set.",
)
@click.option(
    "-m",
    "--model",
    cls=Named,
    metavar="NAME",
    help="EXP3RT, LLMRec, RawReviews, RGCL, P5, TextKNN, Bias, MF, WDL, BPR, LightGCN, Pop, or a "
    "model of RecBole's. [default: EXP3RT]",
)
@dataset_option
@files_option
@click.pass_context
def command(
    ctx: click.Context, model: str | None, dataset: str | None, config_files: list[str]
) -> None:
    """Run a model on a data set."""
    console = make_console()

    def work() -> None:
        from recbole_exp3rt.quick_start.quick_start import run

        run(model, dataset, config_files=config_files, console=console, arguments=ctx.args)

    ctx.exit(exit_code(work))
