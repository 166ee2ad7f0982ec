"""`exp3rt ground`: which statements of explanations are supported by what is known."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.settings_command import (
    VALUES,
    Named,
    SettingsCommand,
    check_exp3rt,
    dataset_option,
    files_option,
)
from recbole_exp3rt.config.described import Group, groups_titled

HELP = """Check what explanations state against what is known of user and item.

Each explanation is taken apart into statements. Each is checked against the profiles and the
description (is it faithful?) and against the review that the user wrote (is it relevant?).

\b
exp3rt run --explanations=100 --explainer=[Template,Popular] --result_file=a.json
exp3rt ground --runs=a.json --grounder=openai:gpt-4o-mini --html=a.html

The grounder itself is measured first, on statements whose verdict is known."""
TITLES = ("Language model", "Servers", "Money", "Machine and store")


def _groups(model: str) -> list[Group]:
    return groups_titled(TITLES)


@click.command(
    cls=SettingsCommand,
    groups=_groups,
    values=VALUES,
    help=HELP,
    short_help="Check what explanations state.",
)
@click.option(
    "--runs",
    cls=Named,
    several=True,
    metavar='"FILE …"',
    help="Result files, or tables of texts; NAME=FILE renames the system of a file.",
)
@click.option(
    "--grounder",
    metavar="NAME",
    help="Who checks: a language model, nli:MODEL, or oracle, which reads the sample's language "
    "exactly. [default: the student]",
)
@click.option("--cutter", metavar="NAME", help="Who takes texts apart, if not the grounder.")
@click.option(
    "--n",
    type=click.IntRange(min=1),
    metavar="N",
    help="Draw so many pairs at random. [default: all]",
)
@click.option(
    "--measured",
    type=click.IntRange(min=0),
    default=60,
    show_default=True,
    metavar="N",
    help="Measure the grounder on so many statements whose verdict is known.",
)
@click.option("--metrics", is_flag=True, help="BLEU, ROUGE, USR, DIV, FCR and FMR too.")
@click.option("--bertscore", is_flag=True, help="BERTScore too.")
@click.option("--html", metavar="FILE", help="Write a page with every statement coloured.")
@click.option("--output", metavar="FILE", help="Write all verdicts as JSON.")
@dataset_option
@files_option
@click.pass_context
def command(
    ctx: click.Context,
    runs: list[str],
    grounder: str | None,
    cutter: str | None,
    n: int | None,
    measured: int,
    metrics: bool,
    bertscore: bool,
    html: str | None,
    output: str | None,
    dataset: str | None,
    config_files: list[str],
) -> None:
    """Ground explanations."""
    check_exp3rt(ctx, "ground reads what runs have written")
    if not runs:
        raise click.UsageError("--runs is missing; name the result_file of a run")
    console = make_console()

    def work() -> None:
        from recbole_exp3rt.explain.grounding_command import ground_files

        ground_files(
            runs,
            grounder,
            cutter=cutter,
            n=n,
            measured=measured,
            metrics=metrics,
            bert=bertscore,
            html=html,
            output=output,
            dataset=dataset,
            config_files=config_files,
            arguments=ctx.args,
            console=console,
        )

    ctx.exit(exit_code(work))
