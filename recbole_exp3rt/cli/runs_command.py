"""A command about the results of runs: `--runs A B C`, then settings."""

from __future__ import annotations

import click

from recbole_exp3rt.cli.settings_command import SettingsCommand

RUNS = "recbole_exp3rt.runs"  # in `context.meta`: the files after --runs


class RunsCommand(SettingsCommand):
    """A command with settings that takes several files after `--runs`: see `runs_of`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words from `--runs` to the next option out of the arguments."""
        left, files, inside = [], ctx.meta.setdefault(RUNS, []), False
        for word in args:
            if word == "--runs" or word.startswith("--runs="):
                inside = True
                files += [one for one in (word.partition("=")[2],) if one]
            elif inside and not word.startswith("-"):
                files.append(word)
            else:
                inside = False
                left.append(word)
        return super().parse_args(ctx, left)


def runs_of(ctx: click.Context) -> list[str]:
    """The files after `--runs`. Raises: click.UsageError if there is none."""
    files: list[str] = ctx.meta[RUNS]
    if not files:
        raise click.UsageError("--runs is missing; name the result_file of one run or of several")
    return files


def runs_option(function: click.decorators.FC) -> click.decorators.FC:
    """`--runs A B C`, for the help."""
    text = "Result files of runs, or tables of explanations; NAME=FILE gives a system a name."
    return click.option("--runs", metavar="FILE …", expose_value=False, help=text)(function)
