"""Preferences as tables and as the paper's Figure 3, for the reports of judges and of people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_exp3rt.explain.preferences import Standing
from recbole_exp3rt.report import drawing
from recbole_exp3rt.report.content import (
    Cell,
    Chart,
    Heading,
    Table,
    interval_text,
    number_cell,
    rows_of,
    text_cell,
)

SHARES = {"win": "Win", "tie": "Tie", "loss": "Loss", "split": "No majority"}
TONES = ("series-0", "line", "series-1", "muted")  # of these in the figure
STANDING = (
    Heading("one", "System", numeric=False),
    Heading("other", "Against", numeric=False),
    Heading("criterion", "Criterion", numeric=False),
)
COUNTED = (
    Heading("n", "Pairs"),
    Heading("users", "Users"),
    Heading("holm", "p", "sign test, Holm"),
)


def standings_table(
    name: str,
    title: str,
    lead: str,
    standings: Sequence[Standing],
    notes: Sequence[str] = (),
    *,
    several: bool = False,
) -> Table:
    """One row a standing: shares with their intervals, and p.

    several: more than one judge or rater decides, so there may be no majority.
    """
    shares = _shares(several)
    headings = (*STANDING, *(Heading(share, SHARES[share]) for share in shares), *COUNTED)
    rows = [
        [
            text_cell(one.one),
            text_cell(one.other),
            text_cell(one.criterion),
            *_cells(one, shares),
            Cell(one.n, f"{one.n:,}"),
            Cell(one.users, f"{one.users:,}"),
            number_cell(one.holm, ".3f"),
        ]
        for one in standings
    ]
    return Table(name, title, lead, headings, rows_of(rows), tuple(notes))


def _shares(several: bool) -> list[str]:
    return [name for name in SHARES if several or name != "split"]


def _cells(one: Standing, shares: Sequence[str]) -> list[Cell]:
    values = [float(getattr(one, share)) for share in shares]
    return [
        Cell(
            value,
            f"{value:.1%}",
            interval.low,
            interval.high,
            interval_text(100 * interval.low, 100 * interval.high, ".0f"),
            star=one.star if share == "win" else "",
        )
        for share, value, interval in zip(shares, values, one.intervals, strict=False)
    ]


def figure_3(name: str, standings: Sequence[Standing], *, several: bool = False) -> Chart:
    """Win, tie and loss as one bar for each criterion and rival (the paper's Figure 3).

    several: see `standings_table`; the share without a majority ends the bar.
    """
    rows = list(reversed(standings))  # plotly draws the first one lowest
    labels = [
        f"{drawing.label(one.criterion)} · {drawing.label(one.other)}" + (" *" if one.star else "")
        for one in rows
    ]
    shares = {
        share: [round(100 * getattr(one, share), 2) for one in rows] for share in _shares(several)
    }
    traces: list[Mapping[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": SHARES[share].lower(),
            "x": values,
            "y": labels,
            "text": [f"{value:.0f}" for value in values],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "marker": {},
            "meta": {"color": tone},
        }
        for (share, values), tone in zip(shares.items(), TONES, strict=False)
    ]
    first = standings[0].one if standings else ""
    figure = drawing.figure(
        traces,
        "share of pairs in %",
        "",
        barmode="stack",
        meta={"height": 90 + 28 * len(rows)},
        xaxis={"range": [0, 100]},
        yaxis={"automargin": True, "type": "category"},
    )
    table = standings_table(
        name,
        f"{first} against each other system",
        "Each bar is one criterion and one rival: how often the explanation wins, ties and "
        f"loses{', or no verdict has a majority' if several else ''}. "
        "* marks p < 0.05 of the sign test, corrected for the number of tests.",
        standings,
        several=several,
    )
    return Chart(table, figure)
