"""The [Like] / [Dislike] form that preferences and profiles are written in, both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from recbole_exp3rt.stages.untrusted import harmless

Count = Callable[[str], int]
T = TypeVar("T")
# How an answer in this form begins; a small model that is left to begin itself says anything else.
OPENING = "[Like]\n-"
GAP = "[…]"  # stands where sentences were left out

_TAG = re.compile(r"\[\s*(dis)?likes?\s*\]", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•–]|\d+[.)])\s*")
_NOTHING = re.compile(r"^(none|nothing|n/?a)\b[\s.!]*$", re.IGNORECASE)


class Unreadable(ValueError):
    """An answer that does not hold what was asked for. It is counted, never guessed."""


def parse_lists(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Likes and dislikes out of an answer.

    Raises: Unreadable if neither tag is there.
    """
    tags = list(_TAG.finditer(text))
    if not tags:
        raise Unreadable("neither [Like] nor [Dislike] in the answer")
    sides: dict[bool, list[str]] = {False: [], True: []}
    ends = [tag.start() for tag in tags[1:]] + [len(text)]
    for tag, end in zip(tags, ends, strict=True):
        side = sides[tag.group(1) is not None]
        for line in text[tag.end() : end].splitlines():
            bullet = _BULLET.sub("", line).strip()
            if bullet and not _NOTHING.match(bullet) and bullet not in side:
                side.append(bullet)
    return tuple(sides[False]), tuple(sides[True])


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
