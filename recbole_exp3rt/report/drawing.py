"""Plotly figures as plain dictionaries, without colours: the page gives those of its theme.

`meta.color` is the number of a colour in the page's palette, or the name of one of its tones.
Names of others are escaped, as plotly reads a little HTML in texts.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

Values = Sequence[float | str | None]
DASHES = ("solid", "dash", "dot")
PALETTE = 8  # colours; further lines take them again, dashed
LONGEST = 40  # letters of a name in a legend: what fits a phone
MUTED = "muted"


def label(text: str) -> str:
    """A name as text of a chart, not as markup; a long one is cut."""
    plain = " ".join(text.split())
    cut = plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1]}…"
    return html.escape(cut, quote=False)


def line(
    name: str, number: int, x: Values, y: Values, *, spread: Values | None = None, **more: Any
) -> dict[str, Any]:
    """A line with markers, of the palette's colour `number`; `spread`: half of each error bar."""
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label(name),
        "x": list(x),
        "y": list(y),
        "line": {"dash": DASHES[number // PALETTE % len(DASHES)], "width": 2},
        "marker": {"size": 6},
        "meta": {"color": number % PALETTE},
    }
    if spread is not None:
        trace["error_y"] = {"type": "data", "array": list(spread), "thickness": 1, "width": 0}
    return {**trace, **more}


def reference(name: str, x: Values, y: Values) -> dict[str, Any]:
    """A quiet dashed line to compare with."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label(name),
        "x": list(x),
        "y": list(y),
        "line": {"dash": "dot", "width": 1.5},
        "hoverinfo": "skip",
        "meta": {"color": MUTED},
    }


def bars(name: str, number: int, x: Values, y: Values) -> dict[str, Any]:
    """A line of steps, as the outline of bars."""
    return line(name, number, x, y, mode="lines", line={"shape": "hvh", "width": 2})


def boxes(
    name: str, number: int, x: Values, quantiles: Sequence[Sequence[float]], *, shown: bool
) -> dict[str, Any]:
    """A box at each x, of 10, 25, 50, 75 and 90 % quantiles: [boxes][5]."""
    low, first, middle, third, high = zip(*quantiles, strict=True)
    return {
        "type": "box",
        "name": label(name),
        "x": list(x),
        "lowerfence": list(low),
        "q1": list(first),
        "median": list(middle),
        "q3": list(third),
        "upperfence": list(high),
        "visible": True if shown else "legendonly",
        "line": {"width": 1.5},
        "meta": {"color": number % PALETTE},
    }


def points(names: Sequence[str], numbers: Sequence[int], x: Values, y: Values) -> list[Any]:
    """One marker a system, named beside it."""
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": label(name),
            "x": [across],
            "y": [up],
            "marker": {"size": 12},
            "meta": {"color": number % PALETTE},
        }
        for name, number, across, up in zip(names, numbers, x, y, strict=True)
    ]


def figure(traces: Sequence[Mapping[str, Any]], x: str, y: str, **more: Any) -> dict[str, Any]:
    """A figure with titled axes; `more` goes into its layout."""
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": x}, **more.pop("xaxis", {})},
        "yaxis": {"title": {"text": y}, **more.pop("yaxis", {})},
        **more,
    }
    return {"data": list(traces), "layout": layout}
