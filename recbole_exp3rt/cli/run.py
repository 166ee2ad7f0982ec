"""`exp3rt run`: rate test pairs, rerank candidates, explain."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.settings_command import SettingsCommand
from recbole_exp3rt.config.described import groups_of_run


@click.command(
    cls=SettingsCommand,
    groups=groups_of_run,
    help="Rate test pairs and rerank candidates on a data set, beside baselines.",
)
@click.option(
    "-m", "--model", metavar="NAME", help="EXP3RT, Bias, MF, WDL, BPR, … [default: EXP3RT]"
)
@click.option("-d", "--dataset", metavar="NAME", help="A folder below data_path. [default: sample]")
@click.option(
    "--config_files",
    default="",
    metavar="FILES",
    help='YAML files: "a.yaml b.yaml"; later ones win.',
)
@click.pass_context
def command(ctx: click.Context, model: str | None, dataset: str | None, config_files: str) -> None:
    """Run a model on a data set."""
    console = make_console()

    def work() -> None:
        from recbole_exp3rt.quick_start.quick_start import run

        run(model, dataset, config_files=config_files.split(), console=console, arguments=ctx.args)

    ctx.exit(exit_code(work))
