"""Reads likes and dislikes from an answer, in the forms that models write. Pure; no guesses.

A list begins with a heading: `[Like]`, `**Likes:**`, `## Dislikes`, `1. Likes`, `Like`,
`What the user disliked:`. Text after a heading on the same line is one bullet: `Likes: a, b` is
the bullet "a, b". Three kinds of text belong to no list: text before the first heading, lines
without a bullet mark beside lines with one (a closing sentence), and text under other headings.

In doubt, a dislike must not become a like: "- Likes: a" is a heading only if the first heading
has a bullet mark too, and a sentence that begins with such a word is not a heading.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from recbole_exp3rt.llm.thoughts import part

Side = Literal["like", "dislike"]
Lists = tuple[tuple[str, ...], tuple[str, ...]]


UNFINISHED = "the model's thought does not end, so there is no answer"


class Unreadable(ValueError):
    """An answer without what was asked for, or content that fits into no prompt; it is counted."""


_DISLIKE = (
    r"dis-?lik(?:es?|ed)|(?:(?:do|does|did|was|were|is)\s+)?not\s+(?:likes?|liked|enjoy(?:ed)?)"
    r"|(?:do|does|did|was|were|is)n['’]?t\s+(?:likes?|liked|enjoy(?:ed)?)"
    r"|negatives?|cons|hate[sd]?|weaknesses|drawbacks|complaints|criticisms?"
)
_LIKE = r"lik(?:es?|ed)|positives?|pros|strengths"
_WORD = (
    r"(?:the|an?|what|which|things?|that|this|it|they|he|she|i|you|users?|reviewers?|author|viewer"
    r"|reader|people|of|about|by|in|from|for|is|are|was|were|here|item|movies?|films?|books?"
    r"|product|album|game|music|main|key|overall|also|aspects?|elements?|points?|features?"
    r"|qualities|preferences?|feedback|review|section|list|s)"
)
_DECOR = r"(?:[^\w\"'{(]|_)"
_SIDE = rf"(?:(?P<dislike>{_DISLIKE})|{_LIKE})(?:\(s\))?(?![^\W_])"
_AFTER_SIDE = (  # "likes about the film", while "like the film" is a sentence
    r"(?:\W+(?:about|of|by|in|from|aspects?|elements?|points?|features?|preferences?|section|list)\b"
    rf"(?:\W+{_WORD}\b)*)?"
)
_NAME = rf"{_DECOR}*(?:\d{{1,2}}\W+)?(?:{_WORD}\W+)*{_SIDE}{_AFTER_SIDE}"
_BARE = re.compile(rf"{_DECOR}*(?:\d{{1,2}}\W+)?{_SIDE}{_DECOR}*", re.I)
_WHOLE = re.compile(rf"{_NAME}{_DECOR}*", re.I)
_INLINE = re.compile(rf"{_NAME}[\]*_)>\s]*:(?P<rest>.*)", re.I)
_DASHED = re.compile(rf"{_DECOR}*{_SIDE}[\]*_)>\s]*\s[-–—](?P<rest>\s.*)", re.I)
_TAG = re.compile(r"\[\W*(?P<dislike>dis)?likes?\W*\]", re.I)  # the form that the prompts ask for
_LATER = re.compile(
    r"(?<!\w)dis-?likes?\W{0,3}(?::|\s[-–—]\s)", re.I
)  # after likes on the same line
_HEADING_LENGTH = 120  # a heading is searched in as many first characters of a line

_MARK = re.compile(
    r"\s*(?:[-–—•·▪◦‣●○+✓✔✗✘]|\*(?!\*)(?=\s|[^*]*$)|\(?\d{1,2}(?:\)|\.(?!\d))"
    r"|(?:[a-dA-D]|[iI]{1,3})[.)](?=\s))\s*"
)
_FENCE = re.compile(r"\s*(?:```|~~~)[\w-]*\s*")
_OTHER = re.compile(r"\s*(?:#{1,6}\s.*|\[[^\]]*\]|(\*\*|__)[^*_]+\1|.*:[\s*_]*)\s*")
_EMPHASIS = re.compile(
    r"(\*\*|__|`)(?=\S)(.+?)(?<=\S)\1|(?<![\w*])\*(?=\S)([^*]+)(?<=\S)\*(?![\w*])"
)
_NOTHING = re.compile(
    r"(?:none|nothing|n/?a|(?:there (?:are|is|were) )?no (?:\w+ ){0,2}(?:dis)?likes?"
    r"|not (?:mentioned|specified|stated|applicable))"
    r"(?: (?:is|are|was|were|mentioned|stated|specified|noted|found|expressed|given|listed"
    r"|identified|explicitly|in|by|the|this|review|user))*",
    re.I,
)
_REFUSAL = re.compile(
    r"\W*(?:(?:but )?(?:i['’]m|i am) (?:very |so )?(?:sorry|unable|not able)\b"
    r"|(?:sorry|apologies)[,.]? (?:but )?i\b|as an? (?:ai|(?:large )?language model)\b"
    r"|(?:unfortunately,? )?i (?:can['’]?t|cannot|can not) "
    r"(?:help|assist|provide|fulfil|comply|extract|list|answer|do that)\b)",
    re.I,
)


def answer_of(text: str) -> str:
    """The answer without the model's thinking. Raises: Unreadable if the thinking does not end."""
    answer = part(text).answer
    if answer is None:
        raise Unreadable(UNFINISHED)
    return answer


def read_sides(text: str, *, opened: bool = False) -> Lists:
    """Likes and dislikes of an answer.

    `opened`: the first heading and bullet mark were forced, not written by the model.
    Raises: Unreadable without a heading, for a refusal, or if the thinking does not end.
    """
    sections = list(_sections(answer_of(text)))
    if not sections:
        raise Unreadable("neither a [Like] nor a [Dislike] heading in the answer")
    found: dict[Side, list[str]] = {"like": [], "dislike": []}
    for k, (side, lines) in enumerate(sections):
        found[side] += _bullets(lines, opened=opened and k == 0, last=k == len(sections) - 1)
    if any(_REFUSAL.match(first) for side in found.values() for first in side[:1]):
        raise Unreadable("a refusal in place of lists")
    return tuple(dict.fromkeys(found["like"])), tuple(dict.fromkeys(found["dislike"]))


def heading_sides(text: str) -> list[Side]:
    """The side of each like or dislike heading of an answer, in order."""
    return [side for side, _ in _sections(part(text).answer or "")]


def _sections(text: str) -> Iterator[tuple[Side, list[str]]]:
    """The side and the lines of each heading, in order."""
    side: Side | None = None
    started = listed = False
    lines: list[str] = []
    for line in _lines(text):
        heading = _heading(line, side, listed or not started)
        if heading is None and not (started and _is_other_heading(line)):
            lines.append(line)
            continue
        if side:
            yield side, lines
        if heading is None:
            side, lines = None, []
            continue
        if not started:
            listed = _MARK.match(line) is not None
        started = True
        side, rest = heading
        if side == "like" and (later := _LATER.search(rest)):
            yield side, _rest_as_bullet(rest[: later.start()])
            side, rest = "dislike", rest[later.end() :]
        lines = _rest_as_bullet(rest)
    if side:
        yield side, lines


def _lines(text: str) -> Iterator[str]:
    """Lines without code fences and quotation marks; each [Like] or [Dislike] tag begins a line."""
    started = False
    for line in text.splitlines():
        if _FENCE.fullmatch(line):
            continue
        line = re.sub(r"^\s*(?:>\s?)+", "", line)
        tags = list(_TAG.finditer(line))
        if not tags or not (started or not re.search(r"\w", _unmarked(line[: tags[0].start()]))):
            yield line
            continue
        started = True
        ends = [tag.start() for tag in tags[1:]] + [len(line)]
        if (before := line[: tags[0].start()]).strip():
            yield before
        for tag, end in zip(tags, ends, strict=True):
            yield tag.group() + ":" + line[tag.end() : end].lstrip(" *_:")


def _heading(line: str, side: Side | None, listed: bool) -> tuple[Side, str] | None:
    """The side that a heading line opens, and the text after it; None: the line is no heading.

    `listed`: a line with a bullet mark may open likes.
    """
    body = _unmarked(line)
    found = _INLINE.match(body[:_HEADING_LENGTH]) or _DASHED.match(body[:_HEADING_LENGTH])
    decorated = re.match(r"\s*[#*_\[<【]", body) or _BARE.fullmatch(body[:_HEADING_LENGTH])
    if found is None and decorated and len(body) <= _HEADING_LENGTH:
        found = _WHOLE.fullmatch(body)
    if found is None:
        return None
    opens: Side = "dislike" if found["dislike"] else "like"
    if opens == "like" and body is not line and not listed:
        return None
    return opens, body[found.start("rest") :] if "rest" in found.re.groupindex else ""


def _is_other_heading(line: str) -> bool:
    """Whether a line is a heading of neither likes nor dislikes."""
    return not _MARK.match(line) and _OTHER.fullmatch(line) is not None


def _rest_as_bullet(rest: str) -> list[str]:
    """The text after a heading on the same line, as a bullet; no bullet if it has no word."""
    rest = _unmarked(rest)
    return [f"- {rest}"] if re.search(r"\w", rest) else []


def _unmarked(line: str) -> str:
    mark = _MARK.match(line)
    return line[mark.end() :] if mark else line


def _bullets(lines: Sequence[str], *, opened: bool, last: bool) -> list[str]:
    """The lines with a bullet mark; if no line has one, all lines.

    `opened`: the mark of the first line was forced and does not count. `last`: the section ends
    the answer; without marks only its first paragraph is taken.
    """
    marked = any(map(_MARK.match, lines[1:] if opened else lines))
    bullets: list[str] = []
    after_gap = False
    for k, line in enumerate(lines):
        text = _plain(_unmarked(line))
        if not re.search(r"\w", text):
            after_gap = after_gap or (bool(bullets) and not line.strip())
            continue
        if _MARK.match(line) or not (marked or (after_gap and last)):
            if not _NOTHING.fullmatch(text.strip(" .!()")):
                bullets.append(text)
            elif not marked:
                return bullets
        elif bullets and line[0].isspace() and lines[k - 1].strip():
            bullets[-1] += f" {text}"  # a bullet of two lines
    return bullets


def _plain(text: str) -> str:
    """A line without Markdown emphasis."""
    for _ in range(2):  # emphasis can be nested
        text = _EMPHASIS.sub(lambda found: found[2] or found[3], text)
    return text.strip()
