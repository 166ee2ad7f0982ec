"""HTML pages of this room: everything is in them, every text is escaped, and no request is made.

A page forbids itself scripts and requests by its own policy.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from recbole_exp3rt.text import without_surrogates


def render(name: str, **values: Any) -> str:
    """The page `template/<name>.html` with these values."""
    return without_surrogates(_environment().get_template(f"{name}.html").render(**values))


@cache
def _environment() -> Environment:
    return Environment(
        autoescape=True,
        loader=FunctionLoader(_file),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _file(name: str) -> str:
    return (files("recbole_exp3rt.explain") / "template" / name).read_text(encoding="utf-8")
