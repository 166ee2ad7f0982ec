"""Small helpers for text: what UTF-8 can encode, its sentences, words, what was cut off."""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")
_END = re.compile(r"(?<=[.!?…。！？])[\"'”’)\]]*\s+")  # of a sentence, with what closes it

_WORD = re.compile(r"\w+")
_SMALL = frozenset(
    ("a", "an", "and", "the", "of", "in", "on", "for", "with", "to", "that", "is", "are", "very")
)
SHARED = 0.5  # of the words of the shorter of two phrases that mean the same


def without_surrogates(text: str) -> str:
    """Return `text` with each lone surrogate, half of a character, replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


def marked_if_cut(text: str) -> str:
    """`text` with … at its end if it ends within a sentence, as an answer does at its limit."""
    end = text.rstrip().rstrip("\"'”’)]*_")
    return text if not end or end[-1] in ".!?…。！？:" else f"{text.rstrip()} …"


def sentences(text: str) -> list[str]:
    """The sentences of `text`, each in one line with its closing marks; none of an empty text.

    A sentence ends with . ! ? … 。 ！ or ？ before a blank; quotes and brackets may close it.
    """
    line = " ".join(text.split())
    ends = [found.end() for found in _END.finditer(line)]
    bounds = zip([0, *ends], [*ends, len(line)], strict=True)
    return [line[start:end].strip() for start, end in bounds if line[start:end].strip()]


def share_words(one: str, other: str) -> bool:
    """Whether two phrases have at least half of the words of the shorter one in common.

    Words such as "the" do not count.
    """
    words = [set(_WORD.findall(phrase.lower())) - _SMALL for phrase in (one, other)]
    shorter = min(map(len, words))
    return shorter > 0 and len(words[0] & words[1]) >= SHARED * shorter
