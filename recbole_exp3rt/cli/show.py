"""`exp3rt show`: what the language model saw and said for one pair."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.settings_command import (
    ASKED,
    VALUES,
    SettingsCommand,
    check_exp3rt,
    dataset_option,
    files_option,
)
from recbole_exp3rt.config.arguments import parse_arguments
from recbole_exp3rt.config.described import Group, flags, groups_of_run, groups_titled

HELP = """Print all that the language model saw and said for one user and one item.

With --from it is asked as in the run that wrote this result file; paths and servers of that run,
such as --store_path or --base_url, have to be given again."""


def _groups(model: str) -> list[Group]:
    return groups_titled([*ASKED, "Data", "RecBole's most used settings"])


@click.command(
    cls=SettingsCommand,
    groups=_groups,
    values=VALUES,
    help=HELP,
    short_help="Show one pair: prompt, reasoning, rating.",
)
@click.option("--user", required=True, metavar="ID", help="The user, as the data set names it.")
@click.option("--item", required=True, metavar="ID", help="The item, as the data set names it.")
@click.option("--from", "result", metavar="FILE", help="The result file of a run.")
@click.option(
    "--reviews",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    metavar="N",
    help="Print the newest N reviews of each side; 0: all.",
)
@click.option("--html", metavar="FILE", help="Write a page of the case too, replacing an old one.")
@dataset_option
@files_option
@click.pass_context
def command(
    ctx: click.Context,
    user: str,
    item: str,
    result: str | None,
    reviews: int,
    html: str | None,
    dataset: str | None,
    config_files: list[str],
) -> None:
    """Show one pair."""
    check_exp3rt(ctx, "show prints what EXP3RT saw")
    console = make_console()
    if result and dataset:
        raise click.UsageError("--from names the data set of its run; leave --dataset out")

    def work() -> None:
        from recbole_exp3rt.display.steps import say
        from recbole_exp3rt.paths import check_writable
        from recbole_exp3rt.quick_start.quick_start import show, show_from

        if html:
            check_writable(html)
        if result:
            given = parse_arguments(ctx.args, flags(groups_of_run()))
            shown = show_from(
                result,
                user,
                item,
                reviews=reviews,
                config_files=config_files,
                given=given,
                console=console,
            )
        else:
            shown = show(
                dataset,
                user,
                item,
                reviews=reviews,
                config_files=config_files,
                console=console,
                arguments=ctx.args,
            )
        if html:
            from recbole_exp3rt.explain.cases import write_case

            write_case(html, *shown, user, item)
            say(console, f"Page: {html}")

    ctx.exit(exit_code(work))
