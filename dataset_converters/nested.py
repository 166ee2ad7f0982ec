"""Reviews inside records: a user with a list of reviews, or an item with one.

`{"user_id": "u1", "reviews": [{"item_id": "i1", "rating": 4, …}, …]}` becomes one row a review,
with the fields of the user beside its own. So does a mapping `{"u1": [{…}, …]}`, and either of them
once more inside a list or a mapping. Files are JSON lines, an array, or objects over several lines.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dataset_converters.columns import common, first_of, plain_name
from dataset_converters.read import beginning, numbered_records, opened, parsed
from recbole_exp3rt.errors import UsageError

Record = dict[str, Any]

LONGEST = 64 * 2**20  # bytes of one user or item with all its reviews
_WHOLE = 256 * 2**20  # bytes of a file of objects over several lines
_FIRST = 20  # records that tell the shape
_DEEPEST = 3  # levels of lists and mappings
_LISTS: tuple[str, ...] = ("reviews", "user_reviews", "review_list", "ratings", "interactions")
_LISTS += ("data", "items")
_LISTS += ("users", "movies", "books", "products", "results", "rows", "records")
_MAYBE = re.compile(rb'["\']\s*:\s*(?:\[\s*\{|\{\s*["\'])')


@dataclass(frozen=True)
class Shape:
    """Where the reviews of a file are. `side` is what the outer record is: user or item."""

    side: str
    inside: str  # the name of the list, for messages; '' for a mapping
    spread: bool  # objects over several lines

    def rows(self, path: Path) -> Iterator[Record | None]:
        """Each review with the fields around it; None for what is none.

        Raises: UsageError for a file that cannot be read or a record that is too long.
        """
        for found in _documents(path, self.spread):
            if isinstance(found, dict):
                yield from _rows(found, {}, self.side)
            else:
                yield None


def shape_of(path: Path) -> Shape | None:
    """The shape of a JSON file; None if its records are the reviews themselves."""
    head = beginning(path)
    if not _MAYBE.search(head):
        return None
    spread = _is_spread(head)
    first = [d for d in islice(_documents(path, spread), _FIRST) if isinstance(d, dict)]
    parts = [part for part in map(_part, first) if part]
    if len(parts) * 2 < len(first) or not parts:
        return Shape("user", "", True) if spread and first else None
    name = Counter(name for name, _ in parts).most_common(1)[0][0]
    return Shape(_side(first), name, spread)


def _is_spread(head: bytes) -> bool:
    """Whether the first record does not end with its first line."""
    first, end, _ = head.lstrip().partition(b"\n")
    line = first.decode("utf-8", errors="replace").strip()
    if not end or not line.startswith("{") or line[-1] not in "{[,:":
        return False
    return not isinstance(parsed(line.rstrip(",")), dict)


def _documents(path: Path, spread: bool) -> Iterator[object]:
    """The records of a file; None for what is no JSON."""
    if not spread:
        yield from (found for _, found in numbered_records(path, LONGEST))
        return
    with opened(path) as file:
        data = file.read(_WHOLE + 1)
    if len(data) > _WHOLE:
        raise UsageError(
            f"{path} is JSON over several lines and longer than {_WHOLE:,} bytes; write one record "
            "a line"
        )
    text, at = data.decode("utf-8", errors="replace"), 0
    decoder = json.JSONDecoder()
    while (at := _filled(text, at)) < len(text):
        try:
            found, at = decoder.raw_decode(text, at)
            yield found
        except (ValueError, RecursionError):
            yield None
            return


def _filled(text: str, at: int) -> int:
    """Where the next record begins: after blanks and commas."""
    while at < len(text) and (text[at].isspace() or text[at] == ","):
        at += 1
    return at


def _part(found: Mapping[str, Any]) -> tuple[str, list[Any]] | None:
    """The name and the elements of what holds the reviews; '' for a mapping. None: nothing does."""
    if _is_review(found):
        return None
    lists = [name for name, value in found.items() if _holds_reviews(value)]
    if lists:
        several = set(lists) == set(found) and not set(lists) & set(_LISTS)
        if several:
            return "", list(found.values())
        name = min(lists, key=lambda n: _LISTS.index(n) if n in _LISTS else len(_LISTS))
        return name, found[name] if isinstance(found[name], list) else [found[name]]
    if found and all(isinstance(value, dict) and _named(value) for value in found.values()):
        return "", list(found.values())
    for name in _LISTS:
        value = found.get(name, 0)
        if value is None or (isinstance(value, list) and all(isinstance(v, dict) for v in value)):
            return name, value or []
    return None


def _holds_reviews(value: object, depth: int = 0) -> bool:
    """Whether a value is a list or a mapping of reviews, or of records that hold some."""
    if depth > _DEEPEST:
        return False
    if isinstance(value, dict):
        inner = list(value.values())
        if inner and not any(isinstance(v, dict | list) for v in inner):
            return False
        return any(_holds_reviews(v, depth + 1) for v in inner[:_FIRST]) or (
            bool(inner) and all(isinstance(v, dict) and _named(v) for v in inner[:_FIRST])
        )
    if not isinstance(value, list):
        return False
    some = [v for v in value[:_FIRST] if isinstance(v, dict)]
    return any(_named(v) or _holds_reviews(v, depth + 1) for v in some)


def _names(role: str) -> frozenset[str]:
    return frozenset(map(plain_name, common()["columns"][role]))


def _named(row: Mapping[str, Any], roles: tuple[str, ...] = ("rating", "text")) -> bool:
    """Whether a record has a plain value by a common name of one of the roles."""
    plain = {plain_name(k) for k, v in row.items() if not isinstance(v, dict | list)}
    return any(plain & _names(role) for role in roles)


def _is_review(row: Mapping[str, Any]) -> bool:
    """Whether a record has both a rating and a text of its own."""
    return _named(row, ("rating",)) and _named(row, ("text",))


def _rows(found: Record, outer: Record, side: str, depth: int = 0) -> Iterator[Record | None]:
    """The reviews of a record, with what stands around them in `outer`."""
    part = _part(found) if depth <= _DEEPEST else None
    if part is None:
        yield {**outer, **found} if outer or depth else (found if _named(found) else None)
        return
    name, elements = part
    if not name:
        whose = side if depth == 0 else _other(side)
        inner = next(_inner(elements), {})
        column = "key" if first_of(common()["columns"][whose], _flat(inner)) else f"{whose}_id"
        for key, value in found.items():
            around = {**outer, column: key}
            for element in value if isinstance(value, list) else [value]:
                yield from _below(element, around, side, depth)
        return
    own = {k: v for k, v in found.items() if k != name}
    around = {**outer, **{_outer_name(k, side): v for k, v in own.items()}}
    value = found[name]
    if isinstance(value, dict):
        yield from _rows(value, around, side, depth + 1)
        return
    for element in elements:
        yield from _below(element, around, side, depth)


def _below(element: object, around: Record, side: str, depth: int) -> Iterator[Record | None]:
    if isinstance(element, dict):
        yield from _rows(element, around, side, depth + 1)
    else:
        yield None


def _other(side: str) -> str:
    return "item" if side == "user" else "user"


def _outer_name(name: str, side: str) -> str:
    """The column of a field of the outer record: its id keeps its name."""
    if name.startswith(f"{side}_") or plain_name(name) in _names(side):
        return name
    return f"{side}_{name}"


def _side(first: list[Record]) -> str:
    """Whether the outer records are users or items, by the names in the inner ones."""
    votes: Counter[str] = Counter()
    for found in first:
        part = _part(found)
        if part is None:
            continue
        name, elements = part
        inner = next(_inner(elements), {})
        outer = [key for key in found if key != name] if name else []
        has = {side: first_of(common()["columns"][side], _flat(inner)) for side in _SIDES}
        if bool(has["user"]) != bool(has["item"]):
            votes["item" if has["user"] else "user"] += 1
        else:
            around = {side: first_of(common()["columns"][side], outer) for side in _SIDES}
            votes["item" if around["item"] and not around["user"] else "user"] += 1
    return votes.most_common(1)[0][0]


_SIDES = ("user", "item")


def _flat(row: Mapping[str, Any]) -> list[str]:
    """Names of fields, and of those in records, as `movie.id`."""
    inner = (f"{k}.{i}" for k, v in row.items() if isinstance(v, dict) for i in v)
    return [*row, *inner]


def _inner(elements: list[Any], depth: int = 0) -> Iterator[Record]:
    """The innermost records."""
    for element in elements:
        if isinstance(element, list):
            yield from _inner(element, depth + 1)
        elif isinstance(element, dict):
            part = _part(element) if depth <= _DEEPEST else None
            yield from _inner(part[1], depth + 1) if part else iter([element])
