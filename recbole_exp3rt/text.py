"""Small helpers for text: what UTF-8 can encode, and what was cut off."""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def without_surrogates(text: str) -> str:
    """Return `text` with each lone surrogate, half of a character, replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


def marked_if_cut(text: str) -> str:
    """`text` with … at its end if it ends within a sentence, as an answer does at its limit."""
    end = text.rstrip().rstrip("\"'”’)]*_")
    return text if not end or end[-1] in ".!?…:" else f"{text.rstrip()} …"
