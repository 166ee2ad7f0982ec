"""Grounding as tables: how good the grounder is, figures, differences, metrics of the texts.

Console, page and Markdown show the same tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone

from recbole_exp3rt import __version__
from recbole_exp3rt.explain.grounding_figures import METRICS, Difference, Figure, SystemFigures
from recbole_exp3rt.explain.grounding_measured import CutterCard, GrounderCard
from recbole_exp3rt.explain.grounding_run import GroundingReport
from recbole_exp3rt.explain.origin import origin_table
from recbole_exp3rt.report.content import (
    Cell,
    Heading,
    Part,
    Report,
    Table,
    interval_text,
    number_cell,
    rows_of,
    signed,
    text_cell,
)

TITLES = {
    "faithful": "Faithful",
    "unfaithful": "Unfaithful",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "contradicted": "Against",
    "true": "True",
    "tone": "Tone",
}
LOWER_IS_BETTER = ("unfaithful", "contradicted")
LEGEND = (
    "Faithful, Unfaithful: share of statements that profiles and description support, contradict. "
    "Precision, Against: that the held-out review supports, contradicts; Recall: share of the "
    "review's statements that the explanation supports (arXiv 2512.24366). True: true in the "
    "synthetic world. In %. Tone: rank correlation of tone and predicted rating. Small: 95 of 100 "
    "draws of users; n is the number of texts where fewer than all have a value."
)
COMPARED = (
    "The first system minus the second, on the pairs where both have a value, so it need not be "
    "the difference of two figures above. In points of %; Tone as it is. 95 % intervals draw "
    "users; p: permutation by user, corrected over the table (Holm). ★ the first is better, ☆ it "
    "is worse: p < 0.05 and the interval is on one side of 0."
)


def tables_of(report: GroundingReport) -> list[Table]:
    """All tables, in the order in which they are to be read."""
    found = [measured_table(report.card)] if report.card else []
    found += [cutter_table(report.cutting)] if report.cutting else []
    found.append(figures_table(report))
    if report.differences:
        found.append(differences_table(report.differences))
    return [*found, *([metrics_table(report)] if report.metrics else [])]


def measured_table(card: GrounderCard) -> Table:
    """How often a grounder's verdicts are right, on statements whose verdict is known."""
    headings = (
        Heading("verdict", "Verdict", numeric=False),
        Heading("right", "Right"),
        Heading("given", "Given"),
        Heading("precision", "Precision"),
        Heading("recall", "Recall"),
    )
    rows = [
        [
            text_cell(one.verdict),
            Cell(one.wanted, f"{one.wanted:,}"),
            Cell(one.given, f"{one.given:,}"),
            number_cell(one.precision, ".0%"),
            number_cell(one.recall, ".0%"),
        ]
        for one in card.by_verdict
    ]
    lead = (
        f"On {card.n} statements whose verdict is known: {card.right} right ({card.accuracy:.0%})"
    )
    lead += f", {card.read} readable."
    title = f"The grounder {card.grounder}"
    return Table("grounder", title, lead, headings, rows_of(rows))


def cutter_table(card: CutterCard) -> Table:
    """How a cutter takes texts apart whose statements are known."""
    headings = (
        Heading("texts", "Texts"),
        Heading("read", "Readable"),
        Heading("known", "Known statements"),
        Heading("given", "Given"),
        Heading("precision", "Precision"),
        Heading("recall", "Recall"),
        Heading("sentiment", "Sentiment right", "of those found"),
    )
    counts = (card.texts, card.read, card.known, card.given)
    row = [
        *(Cell(one, f"{one:,}") for one in counts),
        *(number_cell(one, ".0%") for one in (card.precision, card.recall, card.sentiment)),
    ]
    lead = f"Texts of the synthetic world taken apart by {card.cutter}, whose statements are known."
    return Table("cutter", "Taking texts apart", lead, headings, rows_of([row]))


def figures_table(report: GroundingReport) -> Table:
    """A line a system."""
    names = [name for name in METRICS if any(name in one.figures for one in report.figures)]
    headings = (
        Heading("system", "System", numeric=False),
        Heading("texts", "Texts", "taken apart"),
        Heading("users", "Users"),
        Heading("statements", "Statements"),
        *(Heading(name, TITLES[name]) for name in names),
    )
    rows = [_figures(one, names, report.pairs) for one in report.figures]
    title = f"Explanations grounded by {report.grounded.grounder}"
    lead = f"{report.pairs:,} pairs of {report.users:,} users."
    return Table("figures", title, lead, headings, rows_of(rows), (LEGEND,))


def _figures(one: SystemFigures, names: Sequence[str], pairs: int) -> list[Cell]:
    return [
        text_cell(one.system),
        *(Cell(count, f"{count:,}") for count in (one.n, one.users)),
        Cell(one.stated, f"{one.stated:,}", interval=_in_a_text(one.statements)),
        *(_figure(name, one.figures.get(name), pairs) for name in names),
    ]


def _in_a_text(statements: float) -> str:
    return "" if math.isnan(statements) else f"{statements:.1f} a text"


def _figure(name: str, figure: Figure | None, pairs: int) -> Cell:
    """A share in per cent, a correlation with two decimals, each with its interval."""
    if figure is None:
        return Cell(None, "–")
    size, form = _scale(name)
    found = number_cell(size * figure.value, form)
    between = figure.interval
    said = []
    if between and name == "tone":
        said.append(interval_text(between.low, between.high, form))
    elif between:  # no share is negative, so a dash is clear, and short
        said.append(f"{size * between.low:.0f}–{size * between.high:.0f}")
    if figure.n < pairs:
        said.append(f"n {figure.n:,}")
    low, high = (between.low, between.high) if between else (None, None)
    return Cell(figure.value, found.text, low, high, "; ".join(said))


def differences_table(differences: Sequence[Difference]) -> Table:
    """A line a metric and two systems."""
    headings = (
        Heading("metric", "Metric", numeric=False),
        Heading("one", "System", numeric=False),
        Heading("other", "Minus", numeric=False),
        Heading("difference", "Difference"),
        Heading("n", "Pairs"),
        Heading("users", "Users"),
        Heading("holm", "p", "Holm"),
    )
    rows = [
        [
            text_cell(TITLES[one.metric]),
            text_cell(one.one),
            text_cell(one.other),
            _difference(one),
            Cell(one.n, f"{one.n:,}"),
            Cell(one.users, f"{one.users:,}"),
            number_cell(one.comparison.holm, ".3f"),
        ]
        for one in differences
    ]
    return Table("differences", "Differences", COMPARED, headings, rows_of(rows))


def _difference(one: Difference) -> Cell:
    found, (size, form) = one.comparison, _scale(one.metric)
    between = interval_text(size * found.low, size * found.high, form)
    better = (found.difference < 0) == (one.metric in LOWER_IS_BETTER)
    return Cell(
        found.difference,
        signed(f"{size * found.difference:+{form}}"),
        found.low,
        found.high,
        between,
        star=("better" if better else "worse") if found.star else "",
    )


def _scale(metric: str) -> tuple[int, str]:
    return (1, ".2f") if metric == "tone" else (100, ".1f")


def metrics_table(report: GroundingReport) -> Table:
    """A line a system, a column a metric of its texts."""
    names = list(dict.fromkeys(name for own in report.metrics.values() for name in own))
    rows = [
        [text_cell(system), *(number_cell(own.get(name), ".2f") for name in names)]
        for system, own in report.metrics.items()
    ]
    headings = (Heading("system", "System", numeric=False), *(Heading(n, n) for n in names))
    lead = "Against the held-out review. None of them says whether a text is true. DIV: lower is "
    lead += "better."
    return Table("metrics", "Metrics of the texts", lead, headings, rows_of(rows))


def grounding_report(report: GroundingReport) -> Report:
    """All tables as a report, for Markdown."""
    part = Part(
        "grounding",
        f"{report.dataset or 'Explanations'}: {report.pairs:,} pairs",
        tuple(f"Warning: {warning}." for warning in report.warnings),
        tuple(tables_of(report)),
    )
    return Report(
        "What explanations state, and what the evidence says",
        __version__,
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        (part,),
        (),
        origin_table(report.explanations, f"Grounder: {report.grounded.grounder}"),
        {},
        how_to_read=("The first tables say whether the grounder can be trusted: read them first.",),
        kicker="recbole-exp3rt ground",
        counted="system",
    )
