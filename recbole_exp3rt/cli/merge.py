"""`exp3rt merge`: base model and adapter as one plain model."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.common import exit_code
from recbole_exp3rt.display.terminal import say


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Write base model and ADAPTER as one plain model to the new folder OUT.",
    short_help="Merge an adapter into its base model.",
)
@click.argument("adapter")
@click.argument("out")
@click.pass_context
def command(ctx: click.Context, adapter: str, out: str) -> None:
    """Merge an adapter."""

    def work() -> None:
        from recbole_exp3rt.display.notes import quiet
        from recbole_exp3rt.distill.train.run import merge_adapter

        with quiet():
            say(f"Model: {merge_adapter(adapter, out)}")

    ctx.exit(exit_code(work))
