"""`exp3rt study`: a page on which people compare the explanations of runs."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.runs_command import RunsCommand, runs_of, runs_option
from recbole_exp3rt.config.arguments import parse_arguments
from recbole_exp3rt.config.described import Group, flags, groups_of

HELP = """Write a study in which people compare explanations.

\b
exp3rt study --runs a.json b.json --output=DIR
exp3rt study-report DIR rater1.json rater2.json

DIR/study.html needs no server and no network: send it to the raters, and get their files back.
DIR also holds files for Mechanical Turk, Label Studio and Potato. key.json says which explanation
is of which system; raters must not see it."""


def _groups(model: str) -> tuple[Group, ...]:
    return groups_of("study")


@click.command(
    cls=RunsCommand, groups=_groups, help=HELP, short_help="Let people compare explanations."
)
@runs_option
@click.pass_context
def command(ctx: click.Context) -> None:
    """Write a study."""
    console = make_console()
    files = runs_of(ctx)

    def work() -> None:
        from recbole_exp3rt.explain.study_run import make_study

        make_study(files, parse_arguments(ctx.args, flags(groups_of("study"))), console=console)

    ctx.exit(exit_code(work))
