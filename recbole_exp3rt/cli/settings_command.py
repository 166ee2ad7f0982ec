"""A command that takes any setting, as `--key value` or `--key=value`, and lists them in its help.

The settings come from the yaml files (`config/described.py`); click knows the named options alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, split_arg_string

from recbole_exp3rt.config.described import Group

Values = Callable[[], Iterable[str]]
ARGUMENTS = "recbole_exp3rt.arguments"  # in `context.meta`: the command line as it was written
# Titles of the settings that say how EXP3RT is asked, in the order of the help
ASKED: tuple[str, ...] = (
    "Language model",
    "Models of the steps",
    "Steps (paper, sections 3.2 to 3.5)",
)
ASKED += ("Servers", "Money", "Machine and store")
NOTE = "Each setting is shown with its default; ~ means that it is not set. Values are written as "
NOTE += "in YAML: --topk=[5,10], --refit=True. --key VALUE works as well as --key=VALUE."


class SettingsCommand(click.Command):
    """A click command whose further arguments are settings: `context.args`, as written.

    `groups` gives the settings that the help shows, for the model of the command line. `values`
    are what a shell completes after a key, beside the choices that its meaning lists.
    """

    def __init__(
        self,
        *args: Any,
        groups: Callable[[str], Iterable[Group]],
        values: Mapping[str, Values] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("context_settings", {}).update(
            ignore_unknown_options=True,
            allow_extra_args=True,
            allow_interspersed_args=True,
            help_option_names=["-h", "--help"],
        )
        super().__init__(*args, **kwargs)
        self.groups = groups
        self.values = values or {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments: `--help` is answered before they are read."""
        ctx.meta[ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The named options, then the settings by groups."""
        super().format_options(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text(NOTE)
        for group in self._groups(ctx):
            with formatter.section(group.title):
                if group.text:
                    formatter.write_text(group.text)
                formatter.write_dl([(f"--{s.key}={s.default}", s.meaning) for s in group.settings])

    def _groups(self, ctx: click.Context) -> Iterable[Group]:
        words = [word for word in ctx.meta.get(ARGUMENTS, ()) if word != "="]  # of bash
        return self.groups(_value_of(("-m", "--model"), words) or "EXP3RT")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Keys of settings after `--`, values after a key."""
        settings = {one.key: one for group in self._groups(ctx) for one in group.settings}
        key, start, begun = _asked(incomplete)
        if key:
            values = self.values[key]() if key in self.values else ()
            values = values or (settings[key].choices if key in settings else ())
            return [CompletionItem(start + one) for one in values if one.startswith(begun)]
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            found += [
                CompletionItem(f"--{key}", help=setting.meaning)
                for key, setting in settings.items()
                if f"--{key}".startswith(incomplete)
            ]
        return found


class Named(click.Option):
    """An option beside the settings: `--model`, `--dataset`. It may be repeated with one value.

    `several` joins the values of all, as the files of `--config_files`.
    """

    def __init__(self, *args: Any, several: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "multiple": True, "callback": self._read})
        self.several = several

    def _read(self, ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> Any:
        if self.several:
            return [name for value in given for name in value.split()]
        if len(set(given)) > 1:
            first, other = given[0], next(one for one in given if one != given[0])
            raise click.UsageError(
                f"--{self.name} is given twice, as {first} and as {other}; keep one"
            )
        return given[-1] if given else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """As the command completes its settings."""
        return ctx.command.shell_complete(ctx, incomplete)


def check_exp3rt(ctx: click.Context, does: str) -> None:
    """Raises: click.UsageError if another model is named for a command of EXP3RT alone."""
    model = _value_of(("-m", "--model"), ctx.meta.get(ARGUMENTS, ()))
    if model not in (None, "EXP3RT"):
        raise click.UsageError(f"--model={model}: {does}; leave --model out")


def dataset_option(function: Any) -> Any:
    """`--dataset NAME`."""
    text = "A folder below data_path. [default: sample]"
    return click.option("-d", "--dataset", cls=Named, metavar="NAME", help=text)(function)


def files_option(function: Any) -> Any:
    """`--config_files "a.yaml b.yaml"`."""
    text = 'Settings files: "a.yaml b.yaml"; later ones win.'
    return click.option("--config_files", cls=Named, several=True, metavar="FILES", help=text)(
        function
    )


def model_names() -> list[str]:
    """The models that a run can have, ours first."""
    from recbole_exp3rt.config.known import all_models, needs_more

    return [name for name in all_models() if not needs_more(name)]


def data_sets() -> list[str]:
    """The data sets below `dataset/`, and those that come with the package."""
    from recbole_exp3rt.config.known import BUILT_IN

    folders = (path.name for path in Path("dataset").glob("*/") if path.is_dir())
    return sorted({*folders, *BUILT_IN})


def generators() -> list[str]:
    """The models that rank all items, ours first."""
    from recbole_exp3rt.config.known import kind_by_name
    from recbole_exp3rt.config.registry import MODELS

    none = ("reranker", "explainer")
    return [
        name
        for name in model_names()
        if kind_by_name(name) == "ranking" and (name not in MODELS or MODELS[name].kind not in none)
    ]


def raters() -> list[str]:
    """The models that can be a baseline of the rating table."""
    from recbole_exp3rt.config.registry import names

    return names("rate")


def rerankers() -> list[str]:
    """The systems that can rerank candidates."""
    from recbole_exp3rt.config.registry import names

    return names("rerank")


def explainers() -> list[str]:
    """The systems that explain."""
    from recbole_exp3rt.config.registry import names

    return names("explain")


VALUES: Mapping[str, Values] = {
    "model": model_names,
    "dataset": data_sets,
    "generator": generators,
    "baselines": raters,
    "reranker": rerankers,
    "explainer": explainers,
}


def _value_of(names: Sequence[str], arguments: Sequence[str]) -> str | None:
    """The value of an option in arguments that are not read yet; None: it is not there."""
    for position, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else next(iter(arguments[position + 1 :]), None)
    return None


def _asked(incomplete: str) -> tuple[str, str, str]:
    """The key whose value a shell asks for, what stands before the value in the same word, and
    what there is of the value; no key: it asks for something else.

    bash takes `=` for a word of its own, zsh and fish do not.
    """
    words = split_arg_string(os.environ.get("COMP_WORDS", ""))
    place = os.environ.get("COMP_CWORD", "")
    if place.isdigit() and "fish" not in os.environ.get("_EXP3RT_COMPLETE", ""):
        words, word = words[: int(place)], "".join(words[int(place) : int(place) + 1])
    else:
        word = place
        words = words[:-1] if words and words[-1] == word else words
    if word.startswith("--"):
        name, equals, begun = word.partition("=")
        return (name[2:], f"{name}=", begun) if equals else ("", "", "")
    before = [one for one in words if one != "="]
    name = {"-m": "--model", "-d": "--dataset"}.get(before[-1], before[-1]) if before else ""
    if not name.startswith("--") or "=" in name or word.startswith("-"):
        return "", "", ""
    return name[2:], "", "" if word == "=" else word
