"""`exp3rt study-report`: what the raters of a study say, and how far they agree."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console

HELP = """Report what the raters of a study answered.

\b
exp3rt study-report DIR rater1.json rater2.csv

DIR is the folder that exp3rt study wrote, with its key.json. A file is one that the page saved, a
batch of Mechanical Turk (CSV), an export of Label Studio (JSON), or a CSV with the columns rater,
task, criterion and choice (x, y, tie; or A and B, with a column left)."""


@click.command(help=HELP, short_help="Report a study.", options_metavar="[OPTIONS]")
@click.argument("study", metavar="DIR")
@click.argument("files", nargs=-1, required=True, metavar="FILE …")
@click.option("--output", metavar="DIR", help="Write the report there. [default: the study's DIR]")
@click.option("--overwrite", is_flag=True, help="Replace a report that is there already.")
@click.pass_context
def command(
    ctx: click.Context, study: str, files: tuple[str, ...], output: str | None, overwrite: bool
) -> None:
    """Report a study."""
    console = make_console()

    def work() -> None:
        from recbole_exp3rt.explain.study_run import report_study

        report_study(study, files, output=output, overwrite=overwrite, console=console)

    ctx.exit(exit_code(work))
