"""Text that can be encoded as UTF-8 for files, databases and servers."""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def without_surrogates(text: str) -> str:
    """Return `text` with each lone surrogate, half of a character, replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)
