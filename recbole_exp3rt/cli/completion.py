"""`exp3rt completion SHELL`: the script that completes commands and settings in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

HELP = """Print the script that completes commands, settings and their values in a shell.

\b
bash  eval "$(exp3rt completion bash)"     in ~/.bashrc
zsh   eval "$(exp3rt completion zsh)"      in ~/.zshrc
fish  exp3rt completion fish | source      in ~/.config/fish/config.fish
"""


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
    short_help="Print a shell's completion script.",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script."""
    found = get_completion_class(shell)
    assert found is not None  # one of the choices
    click.echo(found(ctx.find_root().command, {}, "exp3rt", "_EXP3RT_COMPLETE").source())
