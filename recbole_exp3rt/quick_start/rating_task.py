"""The rating task: RMSE and MAE of the model and its baselines on the same test rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recbole_exp3rt.data.slices import sample_rows, user_slices
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.evaluator.calibration import Array
from recbole_exp3rt.evaluator.ratings import constant_ratings, predict_ratings, rating_metrics
from recbole_exp3rt.evaluator.results import Row
from recbole_exp3rt.quick_start.context import Context
from recbole_exp3rt.quick_start.meter import Cost
from recbole_exp3rt.stages.counts import NothingRated

CONSTANT = "constant"  # the mean train rating: what a model has to beat at least


class RatingTask:
    """Rates test rows with constant, Bias, the baselines, the model and its calibration.

    A model that asks questions goes first, so that a wrong server is found before baselines are
    fitted; the order of the table stays.
    """

    name = "rating"

    def __init__(self, context: Context) -> None:
        self.context = context
        split, run = context.split, context.run
        self.test_rows = sample_rows(split.size("test"), run.eval_pairs, run.seed)
        self.total = split.size("test")
        pairs = split.pairs("test")
        self.pairs = [pairs[row] for row in self.test_rows]
        self.explained = list(self.pairs)
        self.predicted: dict[str, Array] = {}
        self._rows: dict[str, list[Row]] = {}

    @property
    def rows(self) -> list[Row]:
        """The finished rows, in the order of the table."""
        names = dict.fromkeys([*self._names(), *self._rows])
        return [row for name in names for row in self._rows.get(name, ())]

    def run(self) -> None:
        """Make all rows. Raises: NothingRated, after the rows of constant and Bias are made."""
        context, model = self.context, self.context.config.model
        names, nothing = self._names(), None
        if context.rater:
            say(context.console, f"Rating {len(self.pairs):,} test pairs with {model} …")
            try:
                self._add(model, lambda: self._predict(model))
            except NothingRated as error:
                nothing, names = error, [CONSTANT, "Bias"]
                self.explained = []
        for name in names:
            if name == CONSTANT:
                self._add(name, lambda: constant_ratings(context.learned, self.test_rows))
            elif name not in self._rows:
                self._add(name, lambda name=name: self._predict(name))  # type: ignore[misc]
        if nothing:
            raise nothing
        if context.settings and context.settings.calibration != "none":
            raw, bias = self.predicted[model], self.predicted["Bias"]
            self._add(context.calibrated_name, lambda: context.calibrated(raw, bias))

    def _names(self) -> list[str]:
        run, model = self.context.run, self.context.config.model
        return list(dict.fromkeys([CONSTANT, "Bias", *run.baselines, model]))

    def _predict(self, name: str) -> Array:
        context = self.context
        if context.rater and name == context.config.model:
            context.before_questions()
        return predict_ratings(context.fitted(name), context.split, self.test_rows)

    def _add(self, name: str, predict: Callable[[], Array]) -> None:
        with self.context.meter.measure() as cost:
            self.predicted[name] = predict()
        self._rows[name] = self._rows_of(name, self.predicted[name], cost)

    def _rows_of(self, name: str, predictions: Array, cost: Cost) -> list[Row]:
        """A row over all pairs, with the costs, and one for each slice of users."""
        context, rows = self.context, self.test_rows
        split, rater = context.split, context.rater
        own = rater is not None and name.startswith(context.config.model)
        slices = user_slices(split.users("train"), split.users("test")[rows])
        table = []
        for part, mask in {"all": np.ones(len(rows), dtype=bool), **slices}.items():
            if not mask.any():
                continue
            metrics = rating_metrics(context.config, split, predictions[mask], rows[mask])
            coverage, whole = metrics.pop("coverage"), part == "all"
            costs = cost if whole else Cost()
            table.append(
                Row(
                    name,
                    self.name,
                    metrics,
                    n=int(mask.sum()),
                    slice=part,
                    coverage=coverage,
                    calls=costs.calls,
                    tokens=costs.tokens,
                    seconds=costs.seconds,
                    readout=rater.readout if rater and own and whole else "",
                    missing_labels=costs.missing_labels,
                )
            )
        return table
