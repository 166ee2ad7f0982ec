"""Text that somebody else wrote, made harmless before it stands in a prompt.

A review is data: it may not close the prompt's tags, open new ones, speak as another role or
write the answer's cue. What imitates these keeps its words and loses its marks. The tokens of a
chat template are guarded once more where the template is applied.

What is looked at is the text as it is read, not as it is spelt: full-width brackets are brackets,
what has no width is not there, any line separator ends a line. What is changed is the text itself,
so that nothing else of it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_LINES = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_UNSEEN = ("Cc", "Cf", "Mn")  # controls, formats such as the zero-width ones, marks on a letter
_ORDINARY = re.compile(r"[\t\n -~]*")

# Each group is a mark, and what takes its place. [^\w\n] is whatever decorates: **, >, ###, blanks.
_OURS = r"(?:review|preferences|user\s+profile|item\s+profile|item\s+description)\b"
_NAMES = r"(?:(?:dis)?likes?|inst|(?:(?:user|item)\s+)?average\s+rating|system|assistant|user)"
_ROLES = r"(?:system|developer|user|human|assistant|model|ai|bot|tool)"
_MARKS = (
    # <Review>, </ Review>, <|im_start|>, <<SYS>>, <b>; "<3" and "a < b > c" are left alone
    re.compile(
        rf"(?P<open><+)(?=\s*/\s*[a-z|]|[a-z|]|\s*{_OURS})[^<>]{{0,80}}?(?P<close>>+)", re.I
    ),
    re.compile(rf"(?P<open><+)(?=\s*/\s*[a-z|]|\||\s*{_OURS})", re.I),  # with no end in sight
    # [Like], [/INST], [User Average Rating]: marks of prompts, while [sic] or [1999] are left alone
    re.compile(rf"(?P<open>\[)[^\w\[\]]*{_NAMES}[^\w\[\]]*(?P<close>\])", re.I),
    # at the beginning of a line, in a list or a quotation too
    re.compile(rf"^(?:[^\w\n]|\d)*{_ROLES}(?:[^\w:])*(?P<colon>:)", re.I | re.M),
    re.compile(r"\b(?:predicted[\W_]+user[\W_]+rating|reasoning)[^\w:]*?(?P<colon>\s*:)", re.I),
)
_INSTEAD = {"open": "(", "close": ")", "colon": " -"}


def harmless(text: str) -> str:
    """`text` in which nothing is a tag, a role marker or the answer's cue; else unchanged."""
    for mark in _MARKS:
        read, places = _as_read(text)
        parts, done = [], 0
        for found in mark.finditer(read):
            for name in found.groupdict():
                start, end = places[found.start(name)], places[found.end(name) - 1] + 1
                parts += [text[done:start], _INSTEAD[name]]
                done = end
        text = "".join([*parts, text[done:]])
    return text


def _as_read(text: str) -> tuple[str, Sequence[int]]:
    """The text as it is read, and the place in `text` of each of its characters."""
    if _ORDINARY.fullmatch(text):
        return text, range(len(text))
    read: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if character in _LINES:
            seen = "\n"
        elif character.isspace():
            seen = " "
        else:
            folded = unicodedata.normalize("NFKC", character)
            seen = "".join(c for c in folded if unicodedata.category(c) not in _UNSEEN)
        read.append(seen)
        places += [place] * len(seen)
    return "".join(read), places
