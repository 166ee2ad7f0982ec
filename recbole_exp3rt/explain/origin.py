"""Where explanations come from: how many pairs each system explained, and the models behind it."""

from __future__ import annotations

from recbole_exp3rt.config.registry import MODELS, asks
from recbole_exp3rt.explain.explanations import RULES, Explanations
from recbole_exp3rt.report.content import Cell, Heading, Table, rows_of, text_cell

BY_RULE = "none (no language model)"
TRAINED = "its own, trained by the run"
UNKNOWN = "not known"


def models_behind(found: Explanations, system: str) -> str:
    """What wrote the texts of a system, in words: the language models, or that there is none."""
    models = ", ".join(found.writers.get(system, ()))
    if system in RULES:
        return f"{BY_RULE}; bullets by {models}" if models else BY_RULE
    if not models and system in MODELS and not asks(system):
        return TRAINED
    return models or UNKNOWN


def origin_table(found: Explanations, lead: str) -> Table:
    """One row a system."""
    headings = (
        Heading("system", "System", numeric=False),
        Heading("explained", "Pairs explained"),
        Heading("shared", "Explained by all"),
        Heading("models", "Models behind it", numeric=False),
    )
    rows = [
        [
            text_cell(name),
            Cell(found.found[name], f"{found.found[name]:,}"),
            Cell(found.shared, f"{found.shared:,}"),
            text_cell(models_behind(found, name)),
        ]
        for name in found.systems
    ]
    return Table("origin", "Where this comes from", lead, headings, rows_of(rows))
