"""`exp3rt convert`: raw reviews in, RecBole's atomic files out."""

from __future__ import annotations

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,
    help="Make a data set of raw reviews; `exp3rt convert --help` lists the sources.",
    short_help="Make a data set of raw reviews.",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Convert reviews; the sources have their own options."""
    from dataset_converters.__main__ import main

    ctx.exit(main(ctx.args, prog="exp3rt convert"))
