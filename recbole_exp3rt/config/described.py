"""What each setting means: read from the comments of the yaml files, which are the only source.

A line `key: default  # meaning` describes a setting; indented comment lines below it go on. The
comment lines that open a paragraph are the title of its group. Needs no RecBole and no torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from recbole_exp3rt.paths import properties_dir

_SETTING = re.compile(r"(?P<key>\w+):\s*(?P<default>[^#]*?)\s*(?:#\s*(?P<meaning>.*))?$")


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


@dataclass(frozen=True)
class Group:
    """Settings that stand together under one title."""

    title: str
    settings: tuple[Described, ...]


@cache
def groups_of(name: str) -> tuple[Group, ...]:
    """The groups of `properties/<name>.yaml`; a file that is not there has none."""
    file = properties_dir() / f"{name}.yaml"
    return tuple(read_groups(file)) if file.is_file() else ()


def read_groups(file: Path) -> list[Group]:
    """The groups of a yaml file, in its order."""
    groups: list[Group] = []
    titles: list[str] = []
    settings: list[Described] = []

    def close() -> None:
        if settings:
            groups.append(Group(" ".join(titles), tuple(settings)))
            settings.clear()
        titles.clear()

    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if not text:
            close()
        elif line.startswith("#"):
            titles.append(text.lstrip("# "))
        elif text.startswith("#") and settings:
            last = settings[-1]
            settings[-1] = Described(last.key, last.default, f"{last.meaning} {text.lstrip('# ')}")
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
    """All settings of a run of `model`: those of any run, then the model's own."""
    return [*groups_of("overall"), *groups_of(f"model/{model}")]


def flags(groups: Sequence[Group]) -> frozenset[str]:
    """Keys of the settings that need no value on a command line."""
    return frozenset(one.key for group in groups for one in group.settings if one.is_flag)
