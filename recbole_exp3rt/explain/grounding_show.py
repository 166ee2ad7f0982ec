"""Grounding on a console: how good the grounder is, then a line a system."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.table import Table

from recbole_exp3rt.display.terminal import escape
from recbole_exp3rt.explain.grounding import METRICS, Figure, SystemFigures
from recbole_exp3rt.explain.grounding_measured import GrounderCard
from recbole_exp3rt.explain.grounding_run import GroundingReport

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
LEGEND = (
    "Faithful, Unfaithful: share of statements that profiles and description support, contradict. "
    "Precision, Against: that the held-out review supports, contradicts; Recall: share of the "
    "review's statements that the explanation supports (arXiv 2512.24366). True: true in the "
    "synthetic world. In %; below, 95 of 100 draws of users. Tone: rank correlation of tone and "
    "predicted rating."
)


def show_grounding(console: Console, report: GroundingReport) -> None:
    """Print the card of the grounder, the figures of each system, and the metrics of texts."""
    if report.card:
        show_card(console, report.card)
    names = [name for name in METRICS if any(name in one.figures for one in report.figures)]
    title = f"Explanations grounded by {report.grounded.grounder}, {report.pairs} pairs"
    table = Table(title=escape(title), box=box.SIMPLE, title_justify="left")
    table.add_column("System")
    for heading in ("Stated", *(TITLES[name] for name in names)):
        table.add_column(heading, justify="right")
    for one in report.figures:
        cells = [written(name, one.figures.get(name)) for name in names]
        table.add_row(escape(one.system), stated(one), *cells)
    console.print(table)
    console.print(LEGEND)
    _show_metrics(console, report)
    for step, said in report.unreadable.items():
        console.print(escape(f"{step}: {said}"))
    for warning in report.warnings:
        console.print(f"[bold]Warning:[/bold] {escape(warning)}.")


def written(name: str, figure: Figure | None) -> str:
    """A figure as text: a share in per cent with its interval, a correlation with two decimals."""
    if figure is None:
        return "–"
    if name == "tone":
        return f"{figure.value:.2f}"
    text = f"{100 * figure.value:.1f}"
    if figure.interval is None:
        return text
    return f"{text}\n{100 * figure.interval.low:.0f}–{100 * figure.interval.high:.0f}"


def stated(one: SystemFigures) -> str:
    """The mean number of statements of a system; – where no text could be taken apart."""
    return "–" if math.isnan(one.statements) else f"{one.statements:.1f}"


def show_card(console: Console, card: GrounderCard) -> None:
    """How often a grounder's verdicts are right, on statements whose verdict is known."""
    title = f"The grounder {card.grounder} on {card.n} statements whose verdict is known: "
    title += f"{card.right} right ({card.accuracy:.0%}), {card.read} readable"
    console.print(escape(title))
    table = Table(box=box.SIMPLE)
    for heading in ("Verdict", "Right", "Given", "Precision", "Recall"):
        table.add_column(heading, justify="left" if heading == "Verdict" else "right")
    for one in card.by_verdict:
        shares = ["–" if s is None else f"{100 * s:.0f} %" for s in (one.precision, one.recall)]
        table.add_row(one.verdict, str(one.wanted), str(one.given), *shares)
    console.print(table)


def _show_metrics(console: Console, report: GroundingReport) -> None:
    if not report.metrics:
        return
    names = list(dict.fromkeys(name for own in report.metrics.values() for name in own))
    table = Table(title="Metrics of the texts", box=box.SIMPLE, title_justify="left")
    table.add_column("System")
    for name in names:
        table.add_column(name, justify="right")
    for system, own in report.metrics.items():
        cells = [f"{own[name]:.2f}" if name in own else "–" for name in names]
        table.add_row(escape(system), *cells)
    console.print(table)
