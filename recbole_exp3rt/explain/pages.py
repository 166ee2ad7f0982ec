"""HTML pages of this room: everything is in them, every text is escaped, and no request is made.

A page forbids itself scripts and requests by its own policy.
"""

from __future__ import annotations

from typing import Any

from recbole_exp3rt.report.page import environment
from recbole_exp3rt.text import without_surrogates

PACKAGE = "recbole_exp3rt.explain"


def render(name: str, **values: Any) -> str:
    """The page `template/<name>.html` with these values."""
    page = environment(PACKAGE).get_template(f"{name}.html")
    return without_surrogates(page.render(**values))
