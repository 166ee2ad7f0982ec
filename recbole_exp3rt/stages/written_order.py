"""The order that a free answer gives to numbered candidates. Pure; nothing is guessed.

A line names a candidate by its number (`3`, `- 3.`, `3. Title`) or by its exact title. Where a
line holds a title, the title counts: many models number the places of their ranking anew.
Numbers alone may also share a line (`3 > 1 > 2`) or be a JSON list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
    outside: int = 0  # numbers of no candidate


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
    listed = _LIST.search(answer)
    if listed:
        return [int(number) for number in re.findall(r"\d+", listed.group())]
    named: dict[str, list[int]] = {}
    for number, title in enumerate(titles, 1):
        named.setdefault(_plain(title), []).append(number)
    named.pop("", None)  # titles without a letter or a digit
    lines = [line for line in answer.splitlines() if line.strip()]
    placed = [match for line in lines if (match := _PLACED.fullmatch(line))]
    counted = [int(match["place"]) for match in placed] == list(range(1, len(lines) + 1))
    if counted and not any(match["number"] in named for match in placed):
        return [int(match["number"]) for match in placed]
    return [number for line in lines for number in _of_line(line, named)]


def _of_line(line: str, named: Mapping[str, Sequence[int]]) -> list[int]:
    """The candidates that one line names: by title, by its first number, or numbers alone."""
    match = _LINE.match(line)
    words = re.search(r"[^\W\d_]", line)
    for said in (line if words else "", match["rest"] if match else ""):
        same = named.get(_plain(said))
        if same and (words or _MARK.match(said)):
            given = int(match["number"]) if match else 0
            return [given if given in same else same[0]]
    if match is None:
        return []
    if words:  # only the first number is one of a candidate
        return [int(match["number"])]
    return [int(number) for number in re.findall(r"\d+", line)]


def _plain(title: str) -> str:
    """A title without case, marks and outer punctuation, to be compared."""
    return re.sub(r"^[\W_]+|[\W_]+$", "", " ".join(title.split())).casefold()
