"""Reads likes and dislikes from an answer, in the forms that models write. Pure; no guesses.

A list begins with a heading: `[Like]`, `**Likes:**`, `## Dislikes`, `1. Likes`, `Like`,
`What the user disliked:`. Text after a heading on the same line is one bullet: `Likes: a, b` is
the bullet "a, b". Three kinds of text belong to no list: text before the first heading, lines
without a bullet mark beside lines with one (a closing sentence), and text under other headings.

In doubt, a dislike must not become a like: "- Likes: a" is a heading only if the first heading
has a bullet mark too, and a sentence that begins with such a word is not a heading. A line that
may be a heading in other words, or in another language, ends its list (`_before_doubt`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal

from recbole_exp3rt.llm.thoughts import part

Side = Literal["like", "dislike"]
Lists = tuple[tuple[str, ...], tuple[str, ...]]


UNFINISHED = "the model's thought does not end, so there is no answer"


class Unreadable(ValueError):
    """An answer that does not hold what was asked for. It is counted, never guessed."""


_DISLIKE = (
    r"dis\W?lik(?:es?|ed|ings?)|(?:(?:(?:do|does|did|was|were|is|would|could)\s+)?(?:not|never)"
    r"|(?:do|does|did|was|were|is|would|could)n['’]?t)\s+(?:\w+\s+)?"
    r"(?:likes?|liked|enjoy(?:ed)?|work(?:ed)?)"
    r"|negatives?|cons|hate[sd]?|weaknesses|drawbacks|complaints|criticisms?|downsides?|flaws"
    r"|issues|problems|shortcomings"
)
_LIKE = r"lik(?:es?|ed)|positives?|pros|strengths"
_WORD = (
    r"(?:the|an?|what|which|things?|that|this|it|they|he|she|i|you|users?|reviewers?|author|viewer"
    r"|reader|people|of|about|by|in|from|for|is|are|was|were|here|item|movies?|films?|books?"
    r"|product|album|game|music|main|key|overall|also|aspects?|elements?|points?|features?"
    r"|qualities|preferences?|feedback|review|section|list|s)"
)
_DECOR = r"(?:[^\w\"'{(]|_)"
_SIDE = rf"(?:(?P<dislike>{_DISLIKE})|{_LIKE})(?:\(s\))?(?:\s*\(\d+\))?(?![^\W_])"
_AFTER_SIDE = (  # "likes about the film", while "like the film" is a sentence
    r"(?:\W+(?:about|of|by|in|from|aspects?|elements?|points?|features?|preferences?|section|list)\b"
    rf"(?:\W+{_WORD}\b)*)?"
)
_NAME = rf"{_DECOR}*(?:\d{{1,2}}\W+)?(?:{_WORD}\W+)*{_SIDE}{_AFTER_SIDE}"
_BARE = re.compile(rf"{_DECOR}*(?:\d{{1,2}}\W+)?{_SIDE}{_DECOR}*", re.I)
_WHOLE = re.compile(rf"{_NAME}{_DECOR}*", re.I)
_INLINE = re.compile(rf"{_NAME}[\]*_)>\s]*:(?P<rest>.*)", re.I)
_DASHED = re.compile(rf"{_DECOR}*{_SIDE}[\]*_)>\s]*\s[-–—](?P<rest>\s.*)", re.I)
# as the prompts ask for it
_TAG = re.compile(r"\[[^\w\[\]]*(?P<dislike>dis)?likes?[^\w\[\]]*\]", re.I)
# behind likes in a line
_LATER = re.compile(rf"(?<!\w)(?:{_DISLIKE})\W{{0,3}}(?::|\s[-–—]\s)", re.I)
_AVERSION = re.compile(r"\bdis\W?lik|👎", re.I)
# What a heading in other words is known by, if it is of dislikes.
_AGAINST = re.compile(
    r"\b(?:dis\W?l\w*|not|nor?|never|least|less|unlik\w*|negativ\w*|bad|worst?|worse|cons|minus(?:es)?"
    r"|hat(?:es?|ed|red)|weak\w*|drawbacks?|complain\w*|critici\w*|issues?|problems?|flaw\w*|faults?"
    r"|downsides?|shortcomings?|disappoint\w*|annoy\w*|frustrat\w*|fail\w*|lack\w*|improv\w*"
    r"|concerns?|however)\b|\w['’]t\b|👎|❌",
    re.I,
)
_HEADING_LENGTH = 120  # characters of a line in which a heading is looked for

_MARK = re.compile(
    r"\s*(?:[-–—•·▪◦‣●○+✓✔✗✘❌✅]|\*(?!\*)(?=\s|[^*]*$)|\(?\d{1,2}(?:\)|\.(?!\d))"
    r"|(?:[a-dA-D]|[iI]{1,3})[.)](?=\s))\s*"
)
_PLUS, _CROSS = ("+", "✓", "✔"), ("✗", "✘", "❌")
_FENCE = re.compile(r"\s*(?:```|~~~)[\w-]*\s*")
_OTHER = re.compile(r"\s*(?:#{1,6}\s.*|\[[^\]]*\]|(\*\*|__)[^*_]+\1|.*:[\s*_]*)\s*")
_EMPHASIS = re.compile(
    r"(\*\*|__|`)(?=\S)(.+?)(?<=\S)\1|(?<![\w*])\*(?=\S)([^*]+)(?<=\S)\*(?![\w*])"
)
_NOTHING = re.compile(
    r"(?:none|nothing|(?:no|and)(?=\W*$)|n/?a"
    r"|(?:there (?:are|is|were) )?no (?:\w+ ){0,2}(?:dis)?likes?"
    r"|not (?:mentioned|specified|stated|applicable))"
    r"(?: (?:is|are|was|were|mentioned|stated|specified|noted|found|expressed|given|listed"
    r"|identified|explicitly|in|by|the|this|review|user))*(?=\W*$|[,.;:] )",
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
    """What was answered, without what was thought. Raises: Unreadable if it is only a thought."""
    answer = part(text).answer
    if answer is None:
        raise Unreadable(UNFINISHED)
    return answer


def read_sides(text: str, *, opened: bool = False) -> Lists:
    """Likes and dislikes of an answer; `opened`: its first heading and mark were put there.

    Raises: Unreadable without a heading, for a refusal, or if only a thought was written.
    """
    sections = list(_sections(answer_of(text)))
    if not sections:
        raise Unreadable("neither a [Like] nor a [Dislike] heading in the answer")
    found: dict[Side, list[str]] = {"like": [], "dislike": []}
    for k, (side, lines) in enumerate(sections):
        lines = _before_doubt(side, lines)
        found[side] += _bullets(lines, opened=opened and k == 0, last=k == len(sections) - 1)
    if any(_REFUSAL.match(first) for side in found.values() for first in side[:1]):
        raise Unreadable("a refusal in place of lists")
    return tuple(dict.fromkeys(found["like"])), tuple(dict.fromkeys(found["dislike"]))


def heading_sides(text: str) -> list[Side]:
    """What the headings of an answer open, in order."""
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
            yield side, _rest_as_bullet(rest[: later.start()].rstrip(" *_|;(/"))
            side, rest = "dislike", rest[later.end() :]
        elif side == "like" and (other := _AVERSION.search(rest)):
            rest = rest[: other.start()].rstrip(" *_|;(/")
        lines = _rest_as_bullet(rest)
    if side:
        yield side, lines


def _lines(text: str) -> Iterator[str]:
    """Lines without fences and quotation marks; a tag of ours stands on a line of its own."""
    started = False
    for line in text.splitlines():
        if _FENCE.fullmatch(line):
            continue
        line = re.sub(r"^\s*(?:>\s?)+", "", line)
        folded = _folded(line)
        line = folded if _heading(folded, None, True) or _TAG.search(folded) else line
        tags = list(_TAG.finditer(line))
        if not tags or not (started or not re.search(r"\w", _unmarked(line[: tags[0].start()]))):
            yield line
            continue
        started = True
        ends = [tag.start() for tag in tags[1:]] + [len(line)]
        behind = re.search(r"\w", line[tags[0].end() :])
        if (before := line[: tags[0].start()]).strip() and (behind or not tags[0]["dislike"]):
            yield before  # "- a [Dislike]" may say of which list it is
        for tag, end in zip(tags, ends, strict=True):
            yield tag.group() + ":" + line[tag.end() : end].lstrip(" *_:")


def _heading(line: str, side: Side | None, listed: bool) -> tuple[Side, str] | None:
    """The side that a line opens, and what stands behind it; `listed`: bullets may open likes."""
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


def _before_doubt(side: Side, lines: Sequence[str]) -> list[str]:
    """The lines of a section before one that may be a heading of something else.

    Such are a line without a mark between bullets, a bullet further out than the first one or a
    number among signs, if bullets follow; among likes, what names the opposite as a heading does,
    a cross, and a minus where likes have a plus.
    """
    marks = [_MARK.match(line) if _says(line) else None for line in lines]
    first = next((k for k, mark in enumerate(marks) if mark), len(lines))
    plus = first < len(lines) and _mark(lines[first]) in _PLUS
    nearest: list[re.Match[str] | None] = [None]  # the next bullet's mark, from the last line on
    for found in reversed(marks[1:]):
        nearest.append(found or nearest[-1])
    for k, line in enumerate(lines):
        if not _says(line) and not _AVERSION.search(line):
            continue
        text, following = _plain(_unmarked(line)), nearest[-1 - k]
        goes_on = line[0].isspace() or (text[0].islower() and _says(lines[k - 1]))
        against: re.Pattern[str] | None
        if marks[k] is None:
            heads = following is not None and k > first and not goes_on
            against = _AGAINST if following and not goes_on else _AVERSION
        else:
            heads = following is not None and k > first and _outer(line, lines[first])
            nested = following is not None and _indent(following.group()) > _indent(line)
            against = _AGAINST if nested or text.endswith((":", "：")) else None
            minus = _mark(line) in (*_CROSS, *("-–—" if plus else ""))
            heads = heads or (side == "like" and minus)
        if heads or (side == "like" and against and against.search(text)):
            return list(lines[:k])
    return list(lines)


def _mark(line: str) -> str:
    found = _MARK.match(line)
    return found.group().strip() if found else ""


def _outer(line: str, first: str) -> bool:
    """Whether a bullet stands further out than the first one, or is a number among signs."""
    numbered = re.match(r"\s*\(?\d", line) and not re.match(r"\s*\(?\w", first)
    return _indent(line) < _indent(first) or bool(numbered)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _says(line: str) -> bool:
    return re.search(r"\w", _unmarked(line)) is not None


def _folded(line: str) -> str:
    """A line as it is read: full-width signs are signs, what has no width is not there."""
    if line.isascii():
        return line
    folded = unicodedata.normalize("NFKC", line)
    return "".join(c for c in folded if unicodedata.category(c) != "Cf")


def _is_other_heading(line: str) -> bool:
    """Whether a line is a heading of something else."""
    return not _MARK.match(line) and len(line) <= 400 and _OTHER.fullmatch(line) is not None


def _rest_as_bullet(rest: str) -> list[str]:
    """What stands behind a heading on its line, as a bullet."""
    rest = _unmarked(rest)
    return [f"- {rest}"] if re.search(r"\w", rest) else []


def _unmarked(line: str) -> str:
    mark = _MARK.match(line)
    return line[mark.end() :] if mark else line


def _bullets(lines: Sequence[str], *, opened: bool, last: bool) -> list[str]:
    """Lines with a mark; where none has one, all lines, at the end of the answer its first
    paragraph. The mark that was put there (`opened`) does not count."""
    marked = any(_MARK.match(line) and _says(line) for line in (lines[1:] if opened else lines))
    bullets: list[str] = []
    after_gap = False
    for k, line in enumerate(lines):
        text = _plain(_unmarked(line))
        if not re.search(r"\w", text):
            after_gap = after_gap or (bool(bullets) and not line.strip())
            continue
        if _MARK.match(line) or not (marked or (after_gap and last)):
            if not _NOTHING.match(text.strip(" .!()")):
                bullets.append(text)
            elif not marked:
                return bullets
        elif bullets and line[0].isspace() and lines[k - 1].strip():
            bullets[-1] += f" {text}"  # a bullet over two lines
    return bullets


def _plain(text: str) -> str:
    """A line without the signs of emphasis."""
    for _ in range(2):  # one may stand inside of another
        text = _EMPHASIS.sub(lambda found: found[2] or found[3], text)
    return text.strip()
