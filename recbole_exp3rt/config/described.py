"""What each setting means: read from the comments of the yaml files, which are the only source.

A line `key: default  # meaning` describes a setting; indented comment lines below it go on. The
comment lines that open a paragraph are `Title. A sentence about the group.` Needs no RecBole and
no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import properties_dir

_SETTING = re.compile(r"(?P<key>[\w-]+):\s*(?P<default>[^#]*?)\s*(?:#\s*(?P<meaning>.*))?$")
_ASIDE = re.compile(r"\([^)]*\)")
_WORD = re.compile(r"[\w.:-]+")
_TYPE = re.compile(r"^\([^)]*\) ?")
# Of RecBole's overall.yaml, in the order of the help
MOST_USED: tuple[str, ...] = (
    "data_path",
    "seed",
    "use_gpu",
    "gpu_id",
    "checkpoint_dir",
    "metrics",
    "valid_metric",
)
MOST_USED += ("epochs", "learning_rate", "train_batch_size", "eval_batch_size", "stopping_step")


@dataclass(frozen=True)
class Described:
    """One setting: its key, its default as the file writes it, and a line of meaning."""

    key: str
    default: str
    meaning: str

    @property
    def is_flag(self) -> bool:
        """Whether it is switched on by its name alone, as `--refit`."""
        return self.default in ("True", "False")

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it can have, where its meaning lists them: `a | b (why); …`."""
        switch = ("True", "False") if self.is_flag else ()
        return (*switch, *self.words)

    @property
    def words(self) -> tuple[str, ...]:
        """The words that its meaning lists; a flag may have some beside True and False."""
        listed = _ASIDE.sub("", self.meaning.partition(";")[0]).split("|")
        values = tuple(value.strip() for value in listed)
        return values if len(values) > 1 and all(map(_WORD.fullmatch, values)) else ()


@dataclass(frozen=True)
class Group:
    """Settings that stand together under one title; `text` says more about them."""

    title: str
    settings: tuple[Described, ...]
    text: str = ""


@cache
def groups_of(name: str) -> tuple[Group, ...]:
    """The groups of `properties/<name>.yaml`; a file that is not there has none."""
    file = properties_dir() / f"{name}.yaml"
    return tuple(read_groups(file)) if file.is_file() else ()


def read_groups(file: Path) -> list[Group]:
    """The groups of a yaml file, in its order."""
    groups: list[Group] = []
    comment: list[str] = []
    settings: list[Described] = []

    def close() -> None:
        if settings:
            title, _, text = " ".join(comment).partition(". ")
            groups.append(Group(title.rstrip("."), tuple(settings), text))
            settings.clear()
        comment.clear()

    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if not text:
            close()
        elif line.startswith("#"):
            comment.append(text.lstrip("# "))
        elif text.startswith("#") and settings:
            last = settings[-1]
            settings[-1] = replace(last, meaning=f"{last.meaning} {text.lstrip('# ')}")
        elif found := _SETTING.match(line):
            settings.append(
                Described(found["key"], found["default"], (found["meaning"] or "").strip())
            )
    close()
    return groups


def models() -> list[str]:
    """Our models that have settings of their own."""
    files = (properties_dir() / "model").glob("*.yaml")
    return sorted(file.stem for file in files if "-" not in file.stem)


def groups_of_run(model: str = "EXP3RT") -> list[Group]:
    """All settings of a run of `model`: what any run does, the model's own, those of language
    models, then the rest.

    A default of the model takes the place of the run's; RecBole's most used settings come last.
    """
    own = groups_of(f"model/{model}") or _of_recbole(model)
    given = {one.key: one for group in own for one in group.settings} | _measured(model)
    groups: list[Group] = []
    listed: set[str] = set()
    asked: Sequence[Group] = groups_of("llm")
    for group in (*groups_of("overall"), *asked):
        settings = [
            replace(one, default=given[one.key].default) if one.key in given else one
            for one in group.settings
        ]
        listed.update(one.key for one in settings)
        groups.append(replace(group, settings=tuple(settings)))
    ours = []
    for group in own:
        settings = [one for one in group.settings if one.key not in listed]
        if settings:
            ours.append(replace(group, settings=tuple(settings)))
    groups, asked = groups[: -len(asked)], groups[-len(asked) :]
    does, reranks, *rest, recboles = groups
    known = {one.key for group in ours for one in group.settings}
    more = [one for one in _most_used() if one.key not in known]
    more = [replace(one, default=given.get(one.key, one).default) for one in more]
    recboles = replace(recboles, settings=(*recboles.settings, *more))
    return [does, reranks, *ours, *asked, *rest, recboles]


def groups_titled(titles: Iterable[str], model: str = "EXP3RT") -> list[Group]:
    """The groups of a run with these titles, in this order. Raises: KeyError for another title."""
    by_title = {group.title: group for group in groups_of_run(model)}
    return [by_title[title] for title in titles]


def _of_recbole(model: str) -> tuple[Group, ...]:
    """The settings of a model that only RecBole has; none where there is no such model."""
    from recbole_exp3rt.config.known import recbole_models, recbole_properties

    try:
        if model not in recbole_models():
            return ()
    except UsageError:
        return ()
    settings = _settings_in(recbole_properties() / "model" / f"{model}.yaml")
    return (Group(model, tuple(settings), "RecBole's own model."),) if settings else ()


def _measured(model: str) -> dict[str, Described]:
    """The metrics of models of this kind, which are not RecBole's usual ones."""
    from recbole_exp3rt.config.known import kind_by_name

    try:
        groups = groups_of(kind_by_name(model))
    except UsageError:
        return {}
    settings = {one.key: one for group in groups for one in group.settings}
    return {key: settings[key] for key in ("metrics", "valid_metric") if key in settings}


def _most_used() -> list[Described]:
    """RecBole's settings that many runs need; none where RecBole is not installed."""
    from recbole_exp3rt.config.known import recbole_properties

    try:
        settings = _settings_in(recbole_properties() / "overall.yaml")
    except UsageError:
        return []
    by_key = {one.key: one for one in settings}
    return [by_key[key] for key in MOST_USED if key in by_key]


def _settings_in(file: Path) -> list[Described]:
    """The settings of one of RecBole's yaml files; its comments begin with a type."""
    settings = (one for group in read_groups(file) for one in group.settings)
    return [replace(one, meaning=_TYPE.sub("", one.meaning)) for one in settings]


def flags(groups: Sequence[Group]) -> frozenset[str]:
    """Keys of the settings that need no value on a command line."""
    return frozenset(one.key for group in groups for one in group.settings if one.is_flag)
