"""The order that a free answer gives to numbered candidates. Pure; nothing is guessed.

A line names a candidate by its number (`3`, `- 3.`), by its number and title (`3. Title`), or by
its exact title. Where a line holds a title, the title counts: many models number the places of
their ranking anew, and small ones number titles that are no candidates. Numbers alone may also
share a line (`3 > 1 > 2`) or be a JSON list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from recbole_exp3rt.stages.headings import answer_of
from recbole_exp3rt.stages.lists import Unreadable

_LIST = re.compile(r'\[\s*"?\d+"?(?:\s*,\s*"?\d+"?)+\s*,?\s*\]')  # two numbers or more
_LINE = re.compile(r"[\W_]*(?P<number>\d+)(?!\d)(?P<rest>.*)")
_PLACED = re.compile(r"[\W_]*(?P<place>\d+)\s*[.):]\s*[\W_]*(?P<number>\d+)[\W_]*")  # `1. 7`
_MARK = re.compile(r"\s*[.):]")  # between a number and a title


@dataclass(frozen=True)
class WrittenOrder:
    """Numbers of candidates, from 1, best first, each once; and what was written beside them."""

    order: tuple[int, ...]
    repeated: int = 0  # numbers of candidates that were named before
    outside: int = 0  # numbers of no candidate, or beside other words than its title


def written_order(text: str, titles: Sequence[str]) -> WrittenOrder:
    """The order of the candidates in an answer; candidate k has the title `titles[k - 1]`.

    A candidate that is not named is not in the order.
    Raises: Unreadable if no candidate is named, or the answer is only a thought.
    """
    answer = answer_of(text)
    found = _numbers(answer, titles)
    inside = [number for number in found if 1 <= number <= len(titles)]
    if not inside:
        raise Unreadable("no number of a candidate in the answer")
    order = tuple(dict.fromkeys(inside))
    return WrittenOrder(order, len(inside) - len(order), len(found) - len(inside))


def _numbers(answer: str, titles: Sequence[str]) -> list[int]:
    """The numbers that an answer names, in its order; 0 where they cannot be a candidate's."""
    listed = _LIST.search(answer)
    if listed:
        return [int(number) for number in re.findall(r"\d+", listed.group())]
    plain = [_plain(title) for title in titles]
    lines = [line for line in answer.splitlines() if line.strip()]
    placed = [match for line in lines if (match := _PLACED.fullmatch(line))]
    counted = [int(match["place"]) for match in placed] == list(range(1, len(lines) + 1))
    if counted and not any(match["number"] in plain for match in placed):
        return [int(match["number"]) for match in placed]
    return [number for line in lines for number in _of_line(line, plain)]


def _of_line(line: str, titles: Sequence[str]) -> list[int]:
    """What one line names: a title, a number with its title, or numbers alone."""
    match = _LINE.match(line)
    number = int(match["number"]) if match else 0
    rest = match["rest"] if match else ""
    words = re.search(r"[^\W\d_]", line)
    for said in (line if words else "", rest):
        same = [k for k, title in enumerate(titles, 1) if title and title == _plain(said)]
        if same and (words or _MARK.match(said)):
            return [number if number in same else same[0]]
    if match is None:
        return []
    if not words:
        return [int(found) for found in re.findall(r"\d+", line)]
    own = titles[number - 1] if 1 <= number <= len(titles) else ""
    return [number if own and _begins(_plain(rest), own) else 0]


def _begins(one: str, other: str) -> bool:
    """Whether one of two texts is the beginning of the other, in whole words."""
    short, long = sorted((one, other), key=len)
    return bool(short) and long.startswith(short) and not long[len(short) :][:1].isalnum()


def _plain(title: str) -> str:
    """A title without case, marks and outer punctuation, to be compared."""
    return re.sub(r"^[\W_]+|[\W_]+$", "", " ".join(title.split())).casefold()
