"""A report as one HTML page: everything is in it, and it needs no network.

plotly.js is inlined once (4.8 MB): charts answer to the mouse and keep their text sharp, and the
library is installed with RecBole anyway. The page forbids itself every request by its own policy.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from recbole_exp3rt.evaluator.results import Case
from recbole_exp3rt.report.content import NONE, Cell, Report
from recbole_exp3rt.report.forms import rating_words, without_nan

PACKAGE = "recbole_exp3rt.report"


@dataclass(frozen=True)
class Moved:
    """A candidate after reranking: its title, and how many ranks it rose (below 0: fell)."""

    title: str
    rose: int


def html_page(report: Report) -> str:
    """The whole page. Every text of the report is escaped."""
    page = _environment().get_template("page.html")
    return page.render(
        report=report,
        plotly=Markup(_plotly()),
        style=Markup(template_file(PACKAGE, "style.css")),
        script=Markup(template_file(PACKAGE, "page.js")),
        none=NONE,
    )


@cache
def environment(package: str) -> Environment:
    """Jinja over the files in `template/` of a package: every text is escaped.

    A name without a value is an error. The filter `script_json` is for script elements.
    """
    made = Environment(
        autoescape=True,
        loader=FunctionLoader(lambda name: template_file(package, name)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["script_json"] = script_json
    return made


def template_file(package: str, name: str) -> str:
    """A file in `template/` of a package."""
    return (files(package) / "template" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    made = environment(PACKAGE)
    made.filters |= {
        "sort_value": _sort_value,
        "rating_words": rating_words,
        "moved": moved,
        "setting": lambda value: json.dumps(value, ensure_ascii=False, default=str),
    }
    made.globals["levels_of"] = case_levels
    return made


def moved(case: Case) -> list[Moved]:
    """The candidates after reranking, with the ranks that each rose; titles may repeat."""
    places: dict[str, list[int]] = {}
    for rank, title in enumerate(case.before):
        places.setdefault(title, []).append(rank)
    found = []
    for rank, title in enumerate(case.after):
        before = places[title].pop(0) if places.get(title) else rank
        found.append(Moved(title, before - rank))
    return found


def case_levels(case: Case) -> list[tuple[str, float, bool]]:
    """Level, its probability, and whether it is the one nearest to the true rating."""
    true = None
    if case.rating is not None and case.probabilities:
        levels = [float(level) for level in case.probabilities]
        true = min(levels, key=lambda level: abs(level - float(case.rating or 0)))
    return [(level, share, float(level) == true) for level, share in case.probabilities.items()]


def _sort_value(cell: Cell) -> str:
    """What a column is sorted by; nothing for a missing value, which comes last."""
    if cell.value is None or (isinstance(cell.value, float) and math.isnan(cell.value)):
        return ""
    return str(cell.value)


def script_json(value: Any) -> Markup:
    """JSON inside a script element: nothing in it can end the element."""
    text = json.dumps(without_nan(value), ensure_ascii=True)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


@cache
def _plotly() -> str:
    """plotly.js as the content of a script element."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")
