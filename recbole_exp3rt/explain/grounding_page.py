"""Grounding as a page: every statement coloured, with the evidence of its verdict beside it."""

from __future__ import annotations

from recbole_exp3rt.explain.grounding_run import GroundingReport
from recbole_exp3rt.explain.grounding_tables import tables_of
from recbole_exp3rt.explain.origin import origin_table
from recbole_exp3rt.explain.pages import render

MOST_PAIRS = 100  # of a page; the JSON file has all
MARKS = {
    "entailed": "✓ supported",
    "neutral": "? not said",
    "contradicted": "✗ contradicted",
    None: "unreadable",
}


def grounding_page(report: GroundingReport, most: int = MOST_PAIRS) -> str:
    """The page of the first `most` pairs. Texts of others are escaped."""
    systems = report.grounded.texts
    pairs = [one.pair for one in next(iter(systems.values()), ())][:most]
    return render(
        "grounding",
        title="What explanations state, and what the evidence says",
        report=report,
        tables=tables_of(report),
        origin=origin_table(report.explanations, f"Grounder: {report.grounded.grounder}"),
        marks=MARKS,
        shown=len(pairs),
        pairs=[
            (pair, [(system, texts[number]) for system, texts in systems.items()])
            for number, pair in enumerate(pairs)
        ],
    )
