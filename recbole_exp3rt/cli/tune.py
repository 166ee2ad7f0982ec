"""`exp3rt tune`: search the hyper-parameters of native models on validation."""

from __future__ import annotations

from importlib.util import find_spec

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.settings_command import (
    VALUES,
    Named,
    SettingsCommand,
    dataset_option,
    files_option,
)
from recbole_exp3rt.config.arguments import parse_arguments
from recbole_exp3rt.config.described import Group, flags, groups_of, groups_of_run
from recbole_exp3rt.errors import UsageError

MODELS = "MF,WDL,BPR,LightGCN"
HELP = """Search the hyper-parameters of native models on validation.

The winners go to tuned/<data set>.yaml; a run takes them by --config_files=tuned/<data set>. A
setting that is given is not searched. A stopped search goes on by the same command."""


def _groups(model: str) -> list[Group]:
    """The settings of a search, then those of a run of the first model."""
    name = model.strip("[]").partition(",")[0]
    return [*groups_of("tune"), *groups_of_run("MF" if name == "EXP3RT" else name)]


@click.command(
    cls=SettingsCommand,
    groups=_groups,
    values=VALUES,
    help=HELP,
    short_help="Search hyper-parameters on validation.",
)
@click.option(
    "-m",
    "--model",
    cls=Named,
    metavar="NAMES",
    help=f"Native models, with commas between. [default: {MODELS}]",
)
@dataset_option
@files_option
@click.pass_context
def command(
    ctx: click.Context, model: str | None, dataset: str | None, config_files: list[str]
) -> None:
    """Search hyper-parameters."""
    console = make_console()

    def work() -> None:
        from recbole_exp3rt.config.layers import read_value
        from recbole_exp3rt.config.reader import read_names

        own = groups_of("tune")
        keys = {one.key for group in own for one in group.settings}
        given = parse_arguments(ctx.args, flags([*own, *groups_of_run("EXP3RT")]))
        names = read_names("model", f"[{(model or MODELS).strip('[]')}]")
        if find_spec("optuna") is None:
            raise UsageError("tune needs optuna: pip install 'recbole-exp3rt[tune]'")
        from recbole_exp3rt.benchmark.tune import tune

        tune(
            names,
            dataset,
            options={key: read_value(given[key]) for key in given.keys() & keys},
            config_files=config_files,
            console=console,
            arguments=[f"--{key}={value}" for key, value in given.items() if key not in keys],
        )

    ctx.exit(exit_code(work))
