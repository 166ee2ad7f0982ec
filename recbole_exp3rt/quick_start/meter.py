"""What a piece of work costs: calls and tokens of the language models, missing labels, seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from recbole_exp3rt.model.language_models import LanguageModels


@dataclass
class Cost:
    """What a piece of work took: see the fields of the same names in `evaluator.results.Row`."""

    calls: int = 0
    tokens: int = 0
    missing_labels: int = 0
    hits: int = 0
    dollars: float = 0.0
    seconds: float = 0.0
    new_tokens: int = 0


class Meter:
    """Measures what the language models of a run are asked; without any, seconds alone."""

    def __init__(self, models: LanguageModels | None) -> None:
        self.models = models

    @contextmanager
    def measure(self) -> Iterator[Cost]:
        """The cost of the work inside `with`; it is complete when the block ends."""
        cost, start = Cost(), time.monotonic()
        before = self._counts()
        try:
            yield cost
        finally:
            for name, now in self._counts().items():
                setattr(cost, name, now - before[name])
            cost.seconds = time.monotonic() - start

    def _counts(self) -> dict[str, float]:
        models = self.models
        if models is None:
            return {}
        return {
            "calls": models.calls,
            "tokens": models.tokens,
            "missing_labels": models.missing_labels,
            "hits": models.hits,
            "dollars": models.spent.cost,
            "new_tokens": models.written,
        }
