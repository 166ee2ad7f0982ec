"""`exp3rt completion SHELL`: the script that completes commands and settings in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(help='Print the completion script of a shell: `eval "$(exp3rt completion bash)"`.')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    found = get_completion_class(shell)
    assert found is not None  # one of the choices
    click.echo(found(ctx.find_root().command, {}, "exp3rt", "_EXP3RT_COMPLETE").source())
