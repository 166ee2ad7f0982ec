"""`exp3rt annotate`: a teacher annotates the train part of a data set."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.settings_command import SettingsCommand
from recbole_exp3rt.config.described import groups_of_run


@click.command(
    cls=SettingsCommand,
    groups=groups_of_run,
    help="Let a teacher annotate the train part of a data set: training data for a student.",
)
@click.option("-d", "--dataset", metavar="NAME", help="A folder below data_path. [default: sample]")
@click.option(
    "--config_files",
    default="",
    metavar="FILES",
    help='YAML files: "a.yaml b.yaml"; later ones win.',
)
@click.pass_context
def command(ctx: click.Context, dataset: str | None, config_files: str) -> None:
    """Annotate a data set."""
    console = make_console()

    def work() -> None:
        from recbole_exp3rt.distill.annotate.run import annotate

        annotate(dataset, config_files=config_files.split(), console=console, arguments=ctx.args)

    ctx.exit(exit_code(work))
