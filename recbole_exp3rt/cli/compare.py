"""`exp3rt compare`: the statistics and the report of results that are there, whoever made them."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console

HELP = """Compare result files: means over seeds, intervals, tests by user, a report.

\b
exp3rt compare a.json b.json               the result_file of two runs
exp3rt compare small=a.json large=b.json   the same model, under two names
exp3rt compare *.json --report=DIR         the report too

A file of another program needs the keys dataset, seed and rated (or ranked)."""


@click.command(help=HELP, short_help="Compare result files.", options_metavar="[OPTIONS]")
@click.argument("files", nargs=-1, required=True, metavar="[NAME=]FILE …")
@click.option("--report", metavar="DIR", help="Write the report to this folder.")
@click.option("--title", default="Comparison", show_default=True, help="Of the report.")
@click.option("--overwrite", is_flag=True, help="Replace a report that is there already.")
@click.pass_context
def command(
    ctx: click.Context, files: tuple[str, ...], report: str | None, title: str, overwrite: bool
) -> None:
    """Compare results."""
    console = make_console()

    def work() -> None:
        from recbole_exp3rt.benchmark.compare import compare_files

        compare_files(files, report=report, title=title, overwrite=overwrite, console=console)

    ctx.exit(exit_code(work))
