"""`exp3rt ground`: which statements of explanations are supported by what is known."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.runs_command import RunsCommand, runs_of, runs_option
from recbole_exp3rt.cli.settings_command import files_option
from recbole_exp3rt.config.arguments import parse_arguments
from recbole_exp3rt.config.described import Group, flags, groups_of

HELP = """Check what explanations state against what is known of user and item.

Each explanation is taken apart into statements. Each is checked against the profiles and the
description (is it faithful?) and against the review that the user wrote (is it relevant?).

\b
exp3rt run --explanations=100 --explainer=[Template,Popular] --result_file=a.json
exp3rt ground --runs a.json --grounder=openai:MODEL

The grounder itself is measured first, on statements whose verdict is known."""


def _groups(model: str) -> list[Group]:
    return [*groups_of("ground"), *groups_of("llm")]


@click.command(
    cls=RunsCommand, groups=_groups, help=HELP, short_help="Check what explanations state."
)
@runs_option
@files_option
@click.pass_context
def command(ctx: click.Context, config_files: list[str]) -> None:
    """Ground explanations."""
    console = make_console()
    files = runs_of(ctx)

    def work() -> None:
        from recbole_exp3rt.config.layers import read_layers
        from recbole_exp3rt.explain.grounding_command import ground_files

        given = read_layers(config_files) | parse_arguments(ctx.args, flags(_groups("")))
        ground_files(files, given, console=console)

    ctx.exit(exit_code(work))
