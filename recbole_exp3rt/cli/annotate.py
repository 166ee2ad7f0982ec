"""`exp3rt annotate`: a teacher annotates the train part of a data set."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.settings_command import (
    VALUES,
    SettingsCommand,
    check_exp3rt,
    dataset_option,
    files_option,
)
from recbole_exp3rt.config.described import Group, groups_titled

TITLES: tuple[str, ...] = (
    "Teacher data",
    "Language model",
    "Servers",
    "Money",
    "Steps (paper, sections 3.2 to 3.5)",
)
TITLES += ("Machine and store", "Cluster", "Data", "RecBole's most used settings")


def _groups(model: str) -> list[Group]:
    return groups_titled(TITLES)


@click.command(
    cls=SettingsCommand,
    groups=_groups,
    values=VALUES,
    help="Let a teacher annotate the train part of a data set: training data for a student.",
    short_help="Make training data with a teacher.",
)
@dataset_option
@files_option
@click.pass_context
def command(ctx: click.Context, dataset: str | None, config_files: list[str]) -> None:
    """Annotate a data set."""
    check_exp3rt(ctx, "annotate makes data for EXP3RT")
    console = make_console()

    def work() -> None:
        from recbole_exp3rt.config.load import check_settings

        check_settings("EXP3RT", dataset, config_files, None, console, ctx.args, annotates=True)
        from recbole_exp3rt.distill.annotate.run import annotate

        annotate(dataset, config_files=config_files, console=console, arguments=ctx.args)

    ctx.exit(exit_code(work))
