"""What a piece of work costs: calls and tokens of the language models, missing labels, seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from recbole_exp3rt.model.language_models import LanguageModels


@dataclass
class Cost:
    """`calls` and `tokens` of language models, labels without a known probability, `seconds`."""

    calls: int = 0
    tokens: int = 0
    missing_labels: int = 0
    seconds: float = 0.0


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
            now = self._counts()
            cost.calls, cost.tokens, cost.missing_labels = (
                after - was for after, was in zip(now, before, strict=True)
            )
            cost.seconds = time.monotonic() - start

    def _counts(self) -> tuple[int, int, int]:
        models = self.models
        return (models.calls, models.tokens, models.missing_labels) if models else (0, 0, 0)
