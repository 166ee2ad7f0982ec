"""`exp3rt`: one command with commands.

Each command stands in a file of this room under its own name and is imported when it is called.
`exp3rt --model=…`, without a command, means `exp3rt run --model=…`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from recbole_exp3rt import __version__
from recbole_exp3rt.display.terminal import plain
from recbole_exp3rt.errors import nearest
from recbole_exp3rt.llm.local import waiting

COMMANDS = ("run", "show", "convert", "annotate", "train", "merge", "completion")


class Commands(click.Group):
    """The commands by their names; `run` where only settings are given."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"recbole_exp3rt.cli.{cmd_name}").command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {option for param in self.get_params(ctx) for option in param.opts}
        if args and args[0].startswith("-") and args[0] not in own:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            ctx.fail(f"no command {args[0]!r}{nearest(args[0], COMMANDS)}; see exp3rt --help")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A language model reads reviews inside RecBole: it rates, reranks and explains.",
    epilog="`exp3rt COMMAND --help` lists every setting of a command.",
)
@click.version_option(__version__, prog_name="exp3rt")
def cli() -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: its exit code.

    0: done; 2: what the user gave cannot be, in one line; 3: the budget is reached; 4: no rating
    could be read; 130: stopped.
    """
    waiting.choose()
    try:
        given = None if arguments is None else list(arguments)
        code = cli.main(args=given, prog_name="exp3rt", standalone_mode=False)
    except click.ClickException as error:
        print(plain(f"error: {error.format_message()}"), file=sys.stderr)
        return 2
    return int(code or 0)
