"""`exp3rt scale`: the steps of EXP3RT for millions of reviews, on a Ray cluster."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.settings_command import (
    VALUES,
    Named,
    SettingsCommand,
    check_exp3rt,
    dataset_option,
    files_option,
)
from recbole_exp3rt.config.described import Group, groups_titled

TITLES: tuple[str, ...] = ("Cluster", "Language model", "Servers", "Money")
TITLES += ("Steps (paper, sections 3.2 to 3.5)", "Machine and store", "Data")
TITLES += ("RecBole's most used settings",)
HELP = """Preferences, profiles and ratings of a whole data set, on a Ray cluster.

The tables are parquet; the answers are in the store, so a run after it asks nothing again. The
same command goes on where it was stopped."""


def _groups(model: str) -> list[Group]:
    return groups_titled(TITLES)


@click.command(
    cls=SettingsCommand,
    groups=_groups,
    values=VALUES,
    help=HELP,
    short_help="Preferences, profiles, ratings on a cluster.",
)
@dataset_option
@files_option
@click.option(
    "--steps",
    cls=Named,
    metavar="LIST",
    help="preferences, profiles, ratings: as far as it goes. [default: all]",
)
@click.option(
    "--pairs",
    cls=Named,
    metavar="FILE",
    help="A table with user_id and item_id to rate. [default: the test part]",
)
@click.option("--output", cls=Named, metavar="FOLDER", help="[default: saved/scale-DATASET]")
@click.pass_context
def command(
    ctx: click.Context,
    dataset: str | None,
    config_files: list[str],
    steps: str | None,
    pairs: str | None,
    output: str | None,
) -> None:
    """Do the steps of a data set on a cluster."""
    check_exp3rt(ctx, "scale does the steps of EXP3RT")
    console = make_console()

    def work() -> None:
        from recbole_exp3rt.cluster.scaling import STEPS, scale

        scale(
            dataset,
            steps=[name.strip() for name in steps.split(",")] if steps else STEPS,
            pairs=pairs,
            output=output,
            config_files=config_files,
            console=console,
            arguments=ctx.args,
        )

    ctx.exit(exit_code(work))
