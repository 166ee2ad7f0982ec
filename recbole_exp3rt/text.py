"""Text as files, databases and servers can hold it."""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def without_surrogates(text: str) -> str:
    """`text` with each half of a character (a lone surrogate) replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)
