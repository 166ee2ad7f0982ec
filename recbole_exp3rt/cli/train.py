"""`exp3rt train`: train a student on a folder of training data."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code
from recbole_exp3rt.cli.settings_command import SettingsCommand
from recbole_exp3rt.config.arguments import parse_arguments
from recbole_exp3rt.config.described import Described, Group, flags, groups_of


def _groups() -> list[Group]:
    """The settings of a training, then what its presets set."""
    from recbole_exp3rt.distill.train.presets import PRESETS

    presets = [
        Described(
            f"preset={name}", "", ", ".join(f"{key}={value}" for key, value in values.items())
        )
        for name, values in PRESETS.items()
    ]
    return [*groups_of("train"), Group("Presets", tuple(presets))]


@click.command(
    cls=SettingsCommand,
    groups=_groups,
    help="Train a student: --data=FOLDER --output=FOLDER. A stopped training goes on.",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Train a student."""

    def work() -> None:
        from recbole_exp3rt.display.notes import quiet
        from recbole_exp3rt.distill.train.presets import make_settings, read_value
        from recbole_exp3rt.distill.train.run import train

        given = parse_arguments(ctx.args, flags(groups_of("train")))
        with quiet():
            train(make_settings({key: read_value(value) for key, value in given.items()}))

    ctx.exit(exit_code(work))
