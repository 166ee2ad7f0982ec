"""`exp3rt show`: what the language model saw and said for one pair."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.settings_command import SettingsCommand
from recbole_exp3rt.config.described import groups_of_run


@click.command(
    cls=SettingsCommand,
    groups=groups_of_run,
    help="Print all that the language model saw and said for one user and one item.",
)
@click.option("--user", required=True, help="Raw user id.")
@click.option("--item", required=True, help="Raw item id.")
@click.option("-d", "--dataset", metavar="NAME", help="A folder below data_path. [default: sample]")
@click.option(
    "--config_files",
    default="",
    metavar="FILES",
    help='YAML files: "a.yaml b.yaml"; later ones win.',
)
@click.pass_context
def command(
    ctx: click.Context, user: str, item: str, dataset: str | None, config_files: str
) -> None:
    """Show one pair."""
    console = make_console()

    def work() -> None:
        from recbole_exp3rt.quick_start.quick_start import show

        files = config_files.split()
        show(dataset, user, item, config_files=files, console=console, arguments=ctx.args)

    ctx.exit(exit_code(work))
