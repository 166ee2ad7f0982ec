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

# In the order of the help: what a new user needs first
COMMANDS: tuple[str, ...] = ("run", "benchmark", "compare", "show", "convert", "annotate", "train")
COMMANDS += ("judge", "ground", "counterfactuals", "study", "study-report")
COMMANDS += ("merge", "tune", "scale", "store", "doctor", "completion")
HELP = """A language model reads reviews inside RecBole: it rates, reranks and explains.

\b
exp3rt run                                 try it on the synthetic sample
exp3rt run --model=MF --dataset=NAME       any model, any data set
exp3rt show --user=ID --item=ID            what the model saw and said for a pair
exp3rt doctor                              what is installed, what the machine has

`exp3rt --model=…` without a command is `exp3rt run --model=…`."""
EPILOG = """`exp3rt COMMAND --help` lists every setting of a command.

\b
Exit codes:
  0    done
  1    exp3rt doctor found something missing
  2    something given cannot be used: one line says what; or a cell failed
  3    the budget is reached
  4    no rating could be read
  130  stopped by Ctrl-C (143 by SIGTERM); the same command goes on
"""


class Commands(click.Group):
    """The commands by their names; `run` where only settings are given."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"recbole_exp3rt.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` before settings that have no command."""
        args = args or ["--help"]
        own = {option for param in self.get_params(ctx) for option in param.opts}
        if args[0].startswith("-") and args[0] not in own:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with. Raises: click.UsageError if there is none."""
        if args[0] not in COMMANDS:
            ctx.fail(f"no command {args[0]!r}{nearest(args[0], COMMANDS)}; see exp3rt --help")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
    epilog=EPILOG,
    subcommand_metavar="COMMAND [--SETTING=VALUE …]",
)
@click.version_option(__version__, prog_name="exp3rt")
def cli() -> None:
    """The group of all commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: its exit code.

    See `EPILOG` for what each code means.
    """
    waiting.choose()
    try:
        given = None if arguments is None else list(arguments)
        code = cli.main(args=given, prog_name="exp3rt", standalone_mode=False)
    except click.ClickException as error:
        print(plain(f"error: {error.format_message()}"), file=sys.stderr)
        return 2
    return int(code or 0)
