"""Which column of a table is the user, the item, the rating …: named by the caller, or guessed.

The common names, the presets and the words for items stand in `table.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from recbole_exp3rt.errors import UsageError, nearest

ROLES = ("user", "item", "rating", "text", "time", "title", "helpful")
NEEDED = ("user", "item", "rating", "text")
NONE = "none"  # a column that the caller says is not there
_SHOWN = 40  # columns in an error message

Names = str | Sequence[str]


@dataclass(frozen=True)
class Columns:
    """Role -> column; `guessed` are the roles that the caller did not name."""

    of: Mapping[str, str]
    guessed: frozenset[str]

    def get(self, role: str) -> str | None:
        """The column of a role, None where there is none."""
        return self.of.get(role)

    def says(self, role: str) -> str:
        """`guest (guessed)`, `guest` or `none`."""
        column = self.of.get(role, NONE)
        return f"{column} (guessed)" if role in self.guessed and role in self.of else column


@cache
def common() -> dict[str, Any]:
    """The values of `table.yaml`."""
    file = Path(__file__).with_name("table.yaml")
    values: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return values


def preset_of(name: str | None) -> dict[str, Any]:
    """The values of a preset; nothing without a name. Raises: UsageError for an unknown one."""
    presets = common()["presets"]
    if name is not None and name not in presets:
        near = nearest(name, presets)
        raise UsageError(f"preset={name} is unknown{near}; there are {', '.join(presets)}")
    found: dict[str, Any] = presets[name] if name else {}
    return found


def choose(
    found: Sequence[str],
    named: Mapping[str, str | None],
    preset: Mapping[str, Names] | None = None,
    where: str = "the table",
) -> Columns:
    """The column of each role: the one that is named, that of the preset, or a common name.

    `found` are the table's columns. A named column is compared exactly, then without regard to
    case; `none` says that there is no such column. A column has one role; the first role wins.

    Raises: UsageError, with the columns found and wanted, for a column that is not there.
    """
    of: dict[str, str] = {}
    guessed = set()
    explicit = {role: name for role in ROLES if (name := named.get(role)) is not None}
    for role, name in explicit.items():
        if name != NONE or (name in found):
            of[role] = _exactly(name, found, f"--{role}", where)
    for role in (role for role in ROLES if role not in explicit):
        names = (preset or {}).get(role)
        free = [column for column in found if column not in of.values()]
        if names is not None:
            alternatives = [names] if isinstance(names, str) else list(names)
            column = next((name for name in alternatives if name in free), None)
            if column is None and NONE not in alternatives:
                wanted = " or ".join(alternatives)
                raise UsageError(_missing(f"the preset's {role} column {wanted}", found, where))
        else:
            column = first_of(common()["columns"][role], free)
            guessed.add(role)
        if column is not None:
            of[role] = column
    absent = [role for role in NEEDED if role not in of and explicit.get(role) != NONE]
    absent += [role for role in NEEDED[:3] if explicit.get(role) == NONE]
    if absent:
        raise UsageError(
            _missing(f"a column for {', '.join(absent)}", found, where)
            + f"; name it with {' '.join(f'--{role} COLUMN' for role in absent)}"
            + (" (--text none where there are no texts)" if "text" in absent else "")
        )
    return Columns(of, frozenset(guessed))


def first_of(names: Sequence[str], found: Sequence[str]) -> str | None:
    """The column of the first common name that is there."""
    by_name = {plain_name(column): column for column in reversed(found)}
    return next((by_name[plain_name(name)] for name in names if plain_name(name) in by_name), None)


def item_word_of(column: str) -> str | None:
    """What an item is called, by the name of its column: `restaurant_id` is of a restaurant."""
    words: dict[str, str] = common()["item_words"]
    bare = re.sub(r"(?<=.)(id|name|title)$", "", plain_name(column))
    return words.get(column.lower()) or words.get(bare)


def descriptions_of(
    found: Sequence[str], told: Sequence[str], preset: Mapping[str, str], own: bool, where: str
) -> dict[str, str]:
    """Column -> label, of the columns that describe an item; the first is its title.

    `told` are texts `column=Label` or `column`. Without them the preset's columns that are there,
    else common names. `own`: the table is that of the reviews.
    Raises: UsageError for a column that is not there.
    """
    if told:
        pairs = [text.partition("=")[::2] for text in told]
        return {
            _exactly(column, found, "--description", where): label.strip() or column.capitalize()
            for column, label in pairs
        }
    known = {column: label for column, label in preset.items() if column in found}
    if known or preset:
        labels: dict[str, str] = {}
        for column, label in known.items():
            if label not in labels.values():
                labels[column] = label
        return labels
    chosen: dict[str, str] = {}
    for label, names in common()["own_descriptions" if own else "descriptions"].items():
        described = first_of(names, [column for column in found if column not in chosen])
        if described is not None:
            chosen[described] = label
    return chosen


def _exactly(name: str, found: Sequence[str], option: str, where: str) -> str:
    if name in found:
        return name
    alike = [column for column in found if column.lower() == name.lower()]
    if len(alike) == 1:
        return alike[0]
    raise UsageError(_missing(f"column {name} ({option}){nearest(name, found)}", found, where))


def _missing(what: str, found: Sequence[str], where: str) -> str:
    return f"{where} lacks {what}; its columns are {listed(found)}"


def listed(found: Sequence[str]) -> str:
    """The names of columns for a message; of many the first."""
    return (", ".join(found[:_SHOWN]) or "(none)") + (", …" if len(found) > _SHOWN else "")


def plain_name(name: str) -> str:
    """A name by which columns are compared: letters, digits and dots."""
    return re.sub(r"[^\w.]|_", "", name.lower())
