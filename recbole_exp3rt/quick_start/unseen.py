"""Rows of users that no model has learned from, rated by their other reviews (section 4.2).

A system that reads reviews is asked over its train corpus and these users' other reviews; a
system may also have a method `rate_unseen`. Every other system has no answer for them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from recbole_exp3rt.config.registry import asks
from recbole_exp3rt.data.unseen import Unseen
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.evaluator.calibration import Array
from recbole_exp3rt.evaluator.ratings import metrics_of
from recbole_exp3rt.evaluator.results import Row
from recbole_exp3rt.quick_start.context import Context
from recbole_exp3rt.quick_start.meter import Cost
from recbole_exp3rt.stages.counts import NothingRated


class UnseenRating:
    """Rates the pairs of `unseen` with the systems of the rating task.

    `predicted` maps the name of a row to its ratings: [n_pairs], NaN without an answer.
    """

    def __init__(self, context: Context, unseen: Unseen) -> None:
        self.context = context
        self.unseen = unseen
        self.predicted: dict[str, Array] = {}
        self.rows: list[Row] = []

    @property
    def table(self) -> pd.DataFrame:
        """One line a pair: user_id, item_id, rating, whether a slice has it, predictions."""
        table = pd.DataFrame(self.unseen.tokens, columns=["user_id", "item_id"])
        table["rating"] = self.unseen.ratings
        for part, mask in self.unseen.slices.items():
            table[part] = mask
        return table.assign(**self.predicted)

    @property
    def parts(self) -> list[tuple[str, list[tuple[str, str]], Array, dict[str, Array]]]:
        """Of each slice: its name, pairs, true ratings and all predictions."""
        found = []
        for part, mask in self.unseen.slices.items():
            pairs = [self.unseen.tokens[k] for k in np.flatnonzero(mask)]
            predicted = {name: values[mask] for name, values in self.predicted.items()}
            found.append((part, pairs, self.unseen.ratings[mask], predicted))
        return found

    def rate(self, name: str, constant: float | None = None) -> None:
        """Make the rows of `name`: a system, one of its readings, or calibrated EXP3RT.

        `constant`: this rating for every pair instead.
        """
        n = len(self.unseen.pairs)
        with self.context.meter.measure() as cost:
            if constant is not None:
                predictions, can = np.full(n, constant), True
            else:
                say(self.context.console, f"Rating {n:,} rows of unseen users with {name} …")
                predictions, can = self._predict(name)
        self.predicted[name] = predictions
        self.rows += self._rows_of(name, predictions, cost, can)

    def _predict(self, name: str) -> tuple[Array, bool]:
        """Ratings [n_pairs], and whether the system can rate unseen users at all."""
        context, pairs = self.context, self.unseen.pairs
        if name == context.calibrated_name:
            return context.calibrated(self.predicted["EXP3RT"], self.predicted["Bias"]), True
        system, _, reading = name.partition(" (")
        model = context.fitted(system).model
        if hasattr(model, "rate_unseen"):
            return np.asarray(model.rate_unseen(pairs), dtype=np.float64), True
        found = np.full(len(pairs), np.nan)
        tokens = self.unseen.tokens
        for over, numbers in over_rounds(model, self.unseen):
            rate = over.readings[reading.removesuffix(")")] if reading else over.rate
            try:
                ratings = rate([tokens[k] for k in numbers])
            except NothingRated:  # of a few rows; the whole is told by coverage
                continue
            found[numbers] = np.array(ratings, dtype=np.float64)
        return found, hasattr(model, "over")

    def _rows_of(self, name: str, predictions: Array, cost: Cost, can: bool) -> list[Row]:
        """A row for each slice; the costs stand in the first. Without an answer: NaN."""
        context, table = self.context, list[Row]()
        system = name.partition(" (")[0]
        for part, mask in self.unseen.slices.items():
            metrics = metrics_of(context.config, self.unseen.ratings[mask], predictions[mask])
            coverage = metrics.pop("coverage")
            if not can:
                metrics = dict.fromkeys(metrics, float("nan"))
            table.append(
                Row(
                    name,
                    "rating",
                    metrics,
                    n=int(mask.sum()),
                    users=len({self.unseen.pairs[k].user for k in np.flatnonzero(mask)}),
                    split="unseen",
                    slice=part,
                    coverage=coverage,
                    readout=context.readout_of(system) if asks(system) and not table else "",
                    **vars(Cost() if table else cost),
                )
            )
        return table


def over_rounds(model: Any, unseen: Unseen) -> list[tuple[Any, list[int]]]:
    """For each round of pairs, `model` over its corpus and their users' other reviews; and the
    numbers of the pairs. Nothing, if it cannot be asked over another corpus."""
    if not hasattr(model, "over"):
        return []
    found = []
    for numbers in unseen.rounds:
        others = [review for k in numbers for review in unseen.pairs[k].others]
        found.append((model.over(model.corpus.beside(others, unseen.descriptions)), numbers))
    return found
