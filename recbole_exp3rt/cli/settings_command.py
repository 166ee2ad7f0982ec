"""A command that takes any setting, as `--key value` or `--key=value`, and lists them in its help.

The settings come from the yaml files (`config/described.py`); click knows the named options alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from recbole_exp3rt.config.described import Group


class SettingsCommand(click.Command):
    """A click command whose further arguments are settings: `context.args`, as written.

    `groups` gives the settings that the help shows, for the arguments of the command line.
    """

    def __init__(self, *args: Any, groups: Callable[[], Iterable[Group]], **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", {}).update(
            ignore_unknown_options=True,
            allow_extra_args=True,
            allow_interspersed_args=True,
            help_option_names=["-h", "--help"],
        )
        super().__init__(*args, **kwargs)
        self.groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        for group in self.groups():
            with formatter.section(group.title.rstrip(".")):
                formatter.write_dl([(f"--{s.key}={s.default}", s.meaning) for s in group.settings])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            found += [
                CompletionItem(f"--{setting.key}", help=setting.meaning)
                for group in self.groups()
                for setting in group.settings
                if f"--{setting.key}".startswith(incomplete)
            ]
        return found


def arguments_of(ctx: click.Context) -> Sequence[str]:
    """The settings of the command line, as written."""
    return list(ctx.args)
