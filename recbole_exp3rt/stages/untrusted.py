"""Text that somebody else wrote, made harmless before it stands in a prompt.

A review is data: it may not close the prompt's tags, open new ones, speak as another role or
write the answer's cue. What imitates these keeps its words and loses its marks. The tokens of a
chat template are guarded once more where the template is applied.
"""

from __future__ import annotations

import re

# <Review>, </ Review>, <|im_start|>, <<SYS>>, <start_of_turn>; "<3" and "a < b > c" are left alone
_OURS = r"(?:review|preferences|user profile|item profile|item description)"
_ANGLE = re.compile(
    rf"<+(\s*/\s*[A-Za-z|][^<>\n]{{0,80}}?|[A-Za-z|][^<>\n]{{0,80}}?|\s*{_OURS})\s*>+",
    re.IGNORECASE,
)
# [Like], [/INST], [User Average Rating]: marks of prompts, while [sic] or [1999] are left alone
_SQUARE = re.compile(
    r"\[\s*(/?\s*(?:(?:dis)?likes?|inst|(?:user|item)?\s*average rating|system|assistant))\s*\]",
    re.IGNORECASE,
)
_ROLE = re.compile(r"(^|\n)([^\S\n]*(?:#+[^\S\n]*)?(?:system|user|assistant|human)[^\S\n]*):", re.I)
_CUE = re.compile(r"\b(predicted user rating|reasoning)\s*:", re.IGNORECASE)


def harmless(text: str) -> str:
    """`text` in which nothing is a tag, a role marker or the answer's cue; else unchanged."""
    text = _ANGLE.sub(r"(\1)", text)
    text = _SQUARE.sub(r"(\1)", text)
    text = _ROLE.sub(r"\1\2 -", text)
    return _CUE.sub(r"\1 -", text)
