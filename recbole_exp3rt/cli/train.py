"""`exp3rt train`: train a student on a folder of training data."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code
from recbole_exp3rt.cli.settings_command import SettingsCommand
from recbole_exp3rt.config.arguments import parse_arguments
from recbole_exp3rt.config.described import Described, Group, flags, groups_of


def _groups(model: str) -> list[Group]:
    """The settings of a training, then what its presets set."""
    from recbole_exp3rt.distill.train.presets import PRESETS

    presets = [
        Described(
            f"preset={name}", "", ", ".join(f"{key}={value}" for key, value in values.items())
        )
        for name, values in PRESETS.items()
    ]
    return [*groups_of("train"), Group("Presets", tuple(presets), "What each preset sets.")]


@click.command(
    cls=SettingsCommand,
    groups=_groups,
    help="Train a student: --data=FOLDER --output=FOLDER. A stopped training goes on.",
    short_help="Train a student on a folder of training data.",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Train a student."""

    def work() -> None:
        from recbole_exp3rt.config.precheck import check_packages
        from recbole_exp3rt.display.notes import quiet
        from recbole_exp3rt.distill.train.presets import make_settings, read_value

        given = parse_arguments(ctx.args, flags(groups_of("train")))
        settings = make_settings({key: read_value(value) for key, value in given.items()})
        check_packages({"model": None, "train": True})
        from recbole_exp3rt.distill.train.run import train

        with quiet():
            train(settings)

    ctx.exit(exit_code(work))
