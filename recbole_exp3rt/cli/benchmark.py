"""`exp3rt benchmark`: a grid of systems, data sets and seeds, and its tables and report."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.settings_command import Named, SettingsCommand
from recbole_exp3rt.config.arguments import parse_arguments
from recbole_exp3rt.config.described import Group, flags, groups_of_run, groups_titled

HELP = """Run systems x data sets x seeds, and make tables and a report of them.

\b
exp3rt benchmark quick                     the sample, in a few minutes
exp3rt benchmark table3                    the paper's table 3; also table4, table6, table7
exp3rt benchmark FILE.yaml --seeds=3       a grid of your own
exp3rt benchmark quick --dry_run           what it would ask and cost

A grid that is stopped goes on with the same command; finished cells are not run again unless
their settings changed. Any setting of `exp3rt run` goes to every cell that knows it.
Exit code 0: each cell has a result, or needs what is not on this machine (a note says so);
2: a cell failed; 3: the budget is reached."""


def _groups(model: str) -> list[Group]:
    return groups_titled(("Language model", "Servers", "Money", "Machine and store"))


@click.command(
    cls=SettingsCommand,
    groups=_groups,
    help=HELP,
    short_help="Run a grid of systems, data sets and seeds.",
    options_metavar="FILE [--SETTING=VALUE …]",
)
@click.option(
    "--systems", cls=Named, metavar="NAMES", help="Rows to run: [MF,EXP3RT]. [default: all]"
)
@click.option(
    "--datasets",
    cls=Named,
    metavar="NAMES",
    help="Data sets, the grid's or others. [default: its own]",
)
@click.option("--seeds", cls=Named, metavar="N", help="Number of seeds, or a list: [2020,7].")
@click.option(
    "--output", cls=Named, metavar="DIR", help="Results. [default: saved/benchmark/TITLE]"
)
@click.option("--report", cls=Named, metavar="DIR", help="The report. [default: OUTPUT/report]")
@click.option(
    "--untrained",
    is_flag=True,
    help="Rows that train a student of their own ask --student as it is.",
)
@click.option("--overwrite", is_flag=True, help="Run finished cells again; replace the report.")
@click.option("--dry_run", "--dry-run", is_flag=True, help="Print the plan; run nothing.")
@click.pass_context
def command(
    ctx: click.Context,
    systems: str | None,
    datasets: str | None,
    seeds: str | None,
    output: str | None,
    report: str | None,
    untrained: bool,
    overwrite: bool,
    dry_run: bool,
) -> None:
    """Run a grid."""
    console = make_console()
    code = 0

    def work() -> None:
        nonlocal code
        from recbole_exp3rt.benchmark.run import benchmark
        from recbole_exp3rt.config.layers import read_value, read_values

        words = list(ctx.args)
        file = _take_file(words)
        given = parse_arguments(words, flags(groups_of_run()))
        code = benchmark(
            file,
            systems=_names(systems),
            datasets=_names(datasets),
            seeds=read_value(seeds),
            settings=read_values(given),
            output=output,
            report=report,
            untrained=untrained,
            overwrite=overwrite,
            dry_run=dry_run,
            console=console,
        ).code

    ctx.exit(exit_code(work) or code)


def _names(text: str | None) -> list[str]:
    """The names of a list without quotes, as `A` or `[A,B]`. A row's name may hold a comma, so
    in a list without brackets names are parted by semicolons."""
    if text is None:
        return []
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return [name.strip() for name in inner.split(";" if ";" in inner else ",") if name.strip()]


def _take_file(words: list[str]) -> str:
    """Take the grid out of the words of a command line: the first, or the last one.

    Raises: click.UsageError if there is none.
    """
    if words and not words[0].startswith("--"):
        return words.pop(0)
    after_key = len(words) > 1 and words[-2].startswith("--") and "=" not in words[-2]
    if words and not words[-1].startswith("--") and not after_key:
        return words.pop()
    raise click.UsageError("no grid; name a yaml file, or quick, such as exp3rt benchmark quick")
