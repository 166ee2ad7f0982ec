"""The form of preferences and profiles: a [Like] and a [Dislike] list; reads and writes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from recbole_exp3rt.stages.headings import Unreadable as Unreadable
from recbole_exp3rt.stages.headings import heading_sides, read_sides
from recbole_exp3rt.stages.untrusted import harmless

Count = Callable[[str], int]
T = TypeVar("T")
# The forced beginning of an answer; without it a small model often begins with something else.
OPENING = "[Like]\n-"
GAP = "[…]"  # replaces the sentences that were removed


def parse_lists(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Likes and dislikes of a complete answer. Raises: Unreadable, see `read_sides`."""
    return read_sides(text)


def read_answer(text: str, *, forced: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Likes and dislikes of an answer to a request whose prefill is OPENING.

    `forced`: the backend forced the prefill, and `text` is what follows it. Otherwise `text` is
    the complete answer. One exception: an earlier version stored such answers without an OPENING
    that the model had written itself; they begin with a space and have no like heading.

    Raises: Unreadable, see `read_sides`.
    """
    if forced:
        return read_sides(OPENING + text, opened=True)
    if text.startswith(" ") and heading_sides(text)[:1] == ["dislike"]:
        return read_sides(OPENING + text, opened=True)
    return read_sides(text)


def render_lists(likes: Sequence[str], dislikes: Sequence[str]) -> str:
    """Both lists as a prompt shows them; an empty list is "None."."""
    return f"[Like]\n{_bullets(likes)}\n\n[Dislike]\n{_bullets(dislikes)}"


def list_answer(likes: Sequence[str], dislikes: Sequence[str]) -> str:
    """Both lists as the complete answer of a student; it always begins with OPENING."""
    answer = render_lists(likes, dislikes)
    if likes:
        return answer
    return f"{OPENING} {answer.removeprefix('[Like]').lstrip()}"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {harmless(line)}" for line in lines) or "None."


def keep_within(parts: Sequence[T], cost: Callable[[T], int], budget: int) -> list[T]:
    """The last parts whose total cost is within the budget, in their order; at least one.

    Only complete parts are removed, the first ones first.
    """
    kept: list[T] = []
    for part in reversed(parts):
        budget -= cost(part)
        if budget < 0 and kept:
            break
        kept.append(part)
    return kept[::-1]


def shorten(text: str, budget: int, count: Count) -> str:
    """`text` within `budget` tokens: sentences, or else words, are removed from its middle."""
    if count(text) <= budget:
        return text
    sentences = re.split(r"(?<=[.!?])\s+", text)
    return _ends(sentences, budget, count) or _ends(text.split(), budget, count)


def _ends(pieces: list[str], budget: int, count: Count) -> str:
    """First and last pieces, alternately, while they fit; '' if the first one does not fit."""
    head: list[str] = []
    tail: list[str] = []
    room = budget - count(f" {GAP}")
    first, last = 0, len(pieces)
    while first < last:
        from_head = len(head) <= len(tail)
        piece = pieces[first] if from_head else pieces[last - 1]
        room -= count(" " + piece)
        if room < 0:
            break
        if from_head:
            head.append(piece)
            first += 1
        else:
            tail.append(piece)
            last -= 1
    return " ".join([*head, GAP, *reversed(tail)]) if head else ""
