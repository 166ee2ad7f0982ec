"""Reads one setting at a time and checks its value.

An error names the key, the value and what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Protocol, TypeVar

from recbole_exp3rt.errors import NotHere, UsageError, nearest
from recbole_exp3rt.llm.server.urls import bare, wrong_with
from recbole_exp3rt.llm.stores.opening import NEEDED
from recbole_exp3rt.llm.stores.places import check_place, is_database
from recbole_exp3rt.scale import RatingScale

TASKS = ("rating", "rerank")
SCALE = ("lowest", "highest", "step")  # the parts of `rating_scale`
MOST_RATING = 1e12  # the absolute value of every rating is smaller

Name = TypeVar("Name", bound=str)


class Lookup(Protocol):
    """A RecBole Config or a similar mapping: it returns None for an unknown key."""

    def __getitem__(self, key: str) -> Any:
        """The value of `key`, or None."""
        ...


def read_scale(config: Lookup) -> RatingScale:
    """Read `rating_scale`: [lowest, highest], [lowest, highest, step], or a map of these names.

    Raises: UsageError for other values, and for more levels than a prompt can list.
    """
    given = config["rating_scale"]
    value = given
    if isinstance(given, Mapping) and {*given} <= {*SCALE} and {*SCALE[:2]} <= {*given}:
        value = [given[name] for name in SCALE if name in given]
    if (
        not isinstance(value, (list, tuple))
        or len(value) not in (2, 3)
        or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
        or not all(abs(v) < MOST_RATING for v in value)  # False for NaN
        or not value[0] < value[1]
    ):
        raise UsageError(
            f"rating_scale={given!r:.200} is not [lowest, highest] in whole numbers, such as "
            "[1, 5], nor [lowest, highest, step], such as [0.5, 5, 0.5]"
        )
    if len(value) == 2 and not all(v == int(v) for v in value):
        low, high = value
        raise UsageError(
            f"rating_scale={given!r} has levels between whole numbers, but no distance "
            f"between levels; give the step: [{low}, {high}, 0.5] for half stars"
        )
    try:
        return RatingScale.between(*value)
    except ValueError as error:
        raise UsageError(f"rating_scale={given!r}: {error}") from None


def read_names(key: str, value: Any) -> tuple[str, ...]:
    """Read a name or a list of names, also as a text without quotes: `[MF,WDL]`. None: no names.

    Raises: UsageError for other values.
    """
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        value = [part.strip() for part in value[1:-1].split(",")]  # as a shell passes it on
    values = [] if value is None else value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(v, str) and v for v in values):
        raise UsageError(f"{key}={value!r} is not a name or a list of names")
    return tuple(values)


class Reader:
    """Reads and checks one key at a time.

    Every method raises UsageError if the value is not of its kind. A method `…_or_none` also
    accepts None.
    """

    def __init__(self, config: Lookup) -> None:
        """Read from `config`."""
        self.config = config

    def _take(self, key: str, fits: Callable[[Any], bool], allowed: str) -> Any:
        """The value, if it `fits`. `allowed` says in the error what does."""
        value = self.config[key]
        if not fits(value):
            raise UsageError(f"{key}={value!r} is not {allowed}")
        return value

    def text(self, key: str) -> str:
        """A text that is not empty."""
        return str(self._take(key, lambda v: isinstance(v, str) and v != "", "a text"))

    def place(self, key: str) -> str:
        """The path of a file, or the URL of a database. Raises: NotHere without psycopg."""
        place = self.text(key)
        check_place(key, place)
        if is_database(place) and find_spec("psycopg") is None:
            raise NotHere(NEEDED)
        return place

    def text_or_none(self, key: str) -> str | None:
        """A text that is not empty, or None."""
        return None if self.config[key] is None else self.text(key)

    def one_of(self, key: str, allowed: Sequence[Name]) -> Name:
        """One of the names `allowed`."""
        value = self.config[key]
        for name in allowed:  # RecBole reads the word none as None
            if value == name or (value is None and name == "none"):
                return name
        hint = nearest(str(value), allowed)
        raise UsageError(f"{key}={value!r} is not one of {', '.join(allowed)}{hint}")

    def flag(self, key: str) -> bool:
        """True or False."""
        return bool(self._take(key, lambda v: isinstance(v, bool), "True or False"))

    def use_bias(self, key: str, allowed: Sequence[str]) -> bool | str:
        """A word of `allowed`; True for `averages`, False for `none`. True and False stay."""
        value = self.config[key]
        if isinstance(value, bool):
            return value
        if value is not None and value not in allowed:
            raise UsageError(f"{key}={value!r} is not one of {', '.join(allowed)}, True or False")
        word = self.one_of(key, allowed)
        return {"averages": True, "none": False}.get(word, word)

    def form(self, key: str, parse: Callable[[str], object], allowed: str) -> str:
        """A text that `parse` takes without a ValueError. RecBole reads the word none as None."""
        value = "none" if self.config[key] is None else self.config[key]
        try:
            parse(value if isinstance(value, str) else "")
        except ValueError:
            raise UsageError(f"{key}={value!r} is not {allowed}") from None
        return str(value)

    def flag_or_none(self, key: str) -> bool | None:
        """True, False or None."""
        return None if self.config[key] is None else self.flag(key)

    def whole(self, key: str, least: int = 1, most: int | None = None) -> int:
        """A whole number from `least` to `most`; None: no upper limit."""

        def fits(value: Any) -> bool:
            whole = isinstance(value, int) and not isinstance(value, bool)
            return whole and least <= value and (most is None or value <= most)

        allowed = "on" if most is None else f"to {most}"
        return int(self._take(key, fits, f"a whole number from {least} {allowed}"))

    def whole_or_none(self, key: str, least: int = 1) -> int | None:
        """A whole number from `least` on, or None."""
        return None if self.config[key] is None else self.whole(key, least)

    def whole_list(self, key: str) -> tuple[int, ...]:
        """One or several whole numbers from 1 on."""
        value = self.config[key]
        values = value if isinstance(value, (list, tuple)) else [value]
        if not values or not all(isinstance(v, int) and v > 0 for v in values):
            raise UsageError(f"{key}={value!r} is not a list of whole numbers from 1 on")
        return tuple(values)

    def number_or_none(self, key: str) -> float | None:
        """A number, or None."""
        if self.config[key] is None:
            return None
        value = self._take(
            key, lambda v: isinstance(v, (int, float)) and not isinstance(v, bool), "a number"
        )
        return float(value)

    def above_zero(self, key: str) -> float:
        """A number above 0."""
        return self._number(key, lambda v: v > 0, "a number above 0")

    def from_zero(self, key: str) -> float:
        """A number from 0 on."""
        return self._number(key, lambda v: v >= 0, "a number from 0 on")

    def share(self, key: str) -> float:
        """A number from 0 to below 1."""
        return self._number(key, lambda v: 0 <= v < 1, "a number from 0 to below 1")

    def _number(self, key: str, fits: Callable[[float], bool], allowed: str) -> float:
        value = self.number_or_none(key)
        if value is None or not (math.isfinite(value) and fits(value)):
            raise UsageError(f"{key}={self.config[key]!r} is not {allowed}")
        return value

    def text_list(self, key: str) -> tuple[str, ...]:
        """A name or a list of names; none for None."""
        return read_names(key, self.config[key])

    def seconds(self, key: str) -> float:
        """A time in seconds, above 0."""
        value = self.number_or_none(key)
        if value is None or value <= 0:
            raise UsageError(f"{key}={value!r} is not a number of seconds above 0")
        return value

    def dollars_or_none(self, key: str) -> float | None:
        """An amount in US dollars from 0 on, or None."""
        value = self.number_or_none(key)
        if value is not None and not 0 <= value < math.inf:
            raise UsageError(f"{key}={value!r} is not a number of US dollars from 0 on")
        return value

    def urls(self, key: str) -> tuple[str, ...]:
        """One or several URLs of servers."""
        urls = self.text_list(key)
        for url in urls:
            if reason := wrong_with(url):
                raise UsageError(
                    f"{key}={bare(url)!r} is not a URL such as http://127.0.0.1:8000/v1: {reason}"
                )
        return urls

    def variable(self, key: str) -> str:
        """The name of an environment variable. Other values may be secrets, so none is shown."""
        value = self.config[key]
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise UsageError(
                f"{key} is not the name of an environment variable, such as OPENAI_API_KEY; "
                "put the key itself into that variable"
            )
        return value

    def names(self, key: str, what: str = "columns of the .item file to labels") -> dict[str, str]:
        """A map of texts; {} for None. `what` says in the error what it should map."""
        value = self.config[key] or {}
        if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
            raise UsageError(f"{key}={value!r} does not map {what}")
        return {str(name): text for name, text in value.items()}

    def tasks(self) -> tuple[str, ...] | None:
        """The setting `task` as a tuple, or None."""
        return None if self.config["task"] is None else (self.one_of("task", TASKS),)
