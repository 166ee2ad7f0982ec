"""The [Like] / [Dislike] form that preferences and profiles are written in, both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from recbole_exp3rt.stages.headings import Unreadable as Unreadable
from recbole_exp3rt.stages.headings import headed, read_sides
from recbole_exp3rt.stages.untrusted import harmless

Count = Callable[[str], int]
T = TypeVar("T")
# How an answer in this form begins; a small model that is left to begin itself says anything else.
OPENING = "[Like]\n-"
GAP = "[…]"  # stands where sentences were left out


def parse_lists(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Likes and dislikes out of a whole answer. Raises: Unreadable, see `read_sides`."""
    return read_sides(text)


def read_answer(text: str, *, forced: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Likes and dislikes of an answer to a request that begins with OPENING.

    `forced`: the answer was made to begin so, and `text` goes on from there. Elsewhere `text` is
    all that was said; but where it begins with a blank and no likes are headed in it, it was
    stored by an earlier version, which cut off an opening that the model had written itself.
    Raises: Unreadable.
    """
    if forced:
        return read_sides(OPENING + text, opened=True)
    if text.startswith(" ") and headed(text)[:1] == ["dislike"]:
        return read_sides(OPENING + text, opened=True)
    return read_sides(text)


def render_lists(likes: Sequence[str], dislikes: Sequence[str]) -> str:
    return f"[Like]\n{_bullets(likes)}\n\n[Dislike]\n{_bullets(dislikes)}"


def list_answer(likes: Sequence[str], dislikes: Sequence[str]) -> str:
    """The whole turn of a model that writes these lists: begins with OPENING in any case."""
    answer = render_lists(likes, dislikes)
    if likes:
        return answer
    return f"{OPENING} {answer.removeprefix('[Like]').lstrip()}"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {harmless(line)}" for line in lines) or "None."


def keep_within(parts: Sequence[T], cost: Callable[[T], int], budget: int) -> list[T]:
    """The latest parts whose costs fit into the budget, in their own order; at least one.

    Whole parts go, oldest first, so that what remains is never cut in its middle.
    """
    kept: list[T] = []
    for part in reversed(parts):
        budget -= cost(part)
        if budget < 0 and kept:
            break
        kept.append(part)
    return kept[::-1]


def shorten(text: str, budget: int, count: Count) -> str:
    """`text` within `budget` tokens: sentences, or else words, go from its middle."""
    if count(text) <= budget:
        return text
    sentences = re.split(r"(?<=[.!?])\s+", text)
    return _ends(sentences, budget, count) or _ends(text.split(), budget, count)


def _ends(pieces: list[str], budget: int, count: Count) -> str:
    """First and last pieces in turn while they fit; nothing if not even the first one does."""
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
