"""`exp3rt counterfactuals`: do rating and rationale follow the profiles?"""

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
from recbole_exp3rt.config.described import Group, groups_titled

HELP = """Change what EXP3RT is shown of test pairs, and see how far rating and rationale move.

The profile of the user or item becomes that of another; a liked bullet is removed, or disliked
instead. Beside each stands noise: the same bullets in another order. A reasoner that does not move
more than that is not personal."""


def _groups(model: str) -> list[Group]:
    return groups_titled(ASKED)


@click.command(
    cls=SettingsCommand,
    groups=_groups,
    values=VALUES,
    help=HELP,
    short_help="Do ratings follow the profiles?",
)
@click.option(
    "--n",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="So many random test pairs.",
)
@click.option("--output", metavar="FILE", help="Write all moves as JSON.")
@dataset_option
@files_option
@click.pass_context
def command(
    ctx: click.Context, n: int, output: str | None, dataset: str | None, config_files: list[str]
) -> None:
    """Run counterfactuals."""
    check_exp3rt(ctx, "counterfactuals change what EXP3RT is shown")
    console = make_console()

    def work() -> None:
        from recbole_exp3rt.explain.counterfactuals_command import run_counterfactuals

        run_counterfactuals(
            dataset,
            n=n,
            output=output,
            config_files=config_files,
            arguments=ctx.args,
            console=console,
        )

    ctx.exit(exit_code(work))
