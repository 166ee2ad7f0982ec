"""`exp3rt judge`: language models compare the explanations of runs."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.runs_command import RunsCommand, runs_of, runs_option
from recbole_exp3rt.cli.settings_command import files_option
from recbole_exp3rt.config.arguments import parse_arguments
from recbole_exp3rt.config.described import Group, flags, groups_of

HELP = """Compare explanations of two or more systems by language models.

\b
exp3rt judge --runs a.json b.json --judge=openai:MODEL
exp3rt judge --runs a.json --judge=[openai:ONE,openai:TWO]    all systems of a run
exp3rt judge --runs long=a.json short=b.json --dry_run        what it would cost

Each two are asked in both orders; what the order decides is a tie. The report says whether the
judge can be trusted before it says who wins."""


def _groups(model: str) -> list[Group]:
    return [*groups_of("judge"), *groups_of("llm")]


@click.command(
    cls=RunsCommand, groups=_groups, help=HELP, short_help="Compare explanations by a judge."
)
@runs_option
@files_option
@click.pass_context
def command(ctx: click.Context, config_files: list[str]) -> None:
    """Compare explanations."""
    console = make_console()
    files = runs_of(ctx)

    def work() -> None:
        from recbole_exp3rt.config.layers import read_layers
        from recbole_exp3rt.explain.judge_run import judge

        given = read_layers(config_files) | parse_arguments(ctx.args, flags(_groups("")))
        judge(files, given, console=console)

    ctx.exit(exit_code(work))
