"""The rating task: RMSE and MAE of the model and its baselines on the same test rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recbole_exp3rt.config.registry import asks
from recbole_exp3rt.data.slices import sample_rows, user_slices
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.evaluator.calibration import Array
from recbole_exp3rt.evaluator.ratings import constant_ratings, predict_ratings, rating_metrics
from recbole_exp3rt.evaluator.results import RatedRows, Row
from recbole_exp3rt.quick_start.context import Context
from recbole_exp3rt.quick_start.meter import Cost
from recbole_exp3rt.stages.counts import NothingRated

CONSTANT = "constant"  # the mean train rating: what a model has to beat at least


class RatingTask:
    """Rates test rows with constant, Bias, the baselines, the model and its calibration.

    Systems that ask questions go first, so that a wrong server is found before baselines are
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
    def systems(self) -> list[str]:
        """The systems whose ratings are measured, in the order of the table."""
        return list(dict.fromkeys(["Bias", *self.context.run.baselines, self.context.config.model]))

    @property
    def rows(self) -> list[Row]:
        """The finished rows, in the order of the table."""
        order = [CONSTANT]
        for name in self.systems:
            order += [name, *(found for found in self._rows if found.startswith(f"{name} ("))]
        return [row for name in order for row in self._rows.get(name, ())]

    @property
    def rated(self) -> RatedRows:
        """The test rows and all predictions, for the result file."""
        split = self.context.split
        counts = np.bincount(split.users("train"), minlength=len(split.user_tokens))
        scale = self.context.run.scale
        assert scale is not None
        order = dict.fromkeys(row.name for row in self.rows)
        return RatedRows(
            tuple(user for user, _ in self.pairs),
            tuple(item for _, item in self.pairs),
            split.ratings("test")[self.test_rows],
            counts[split.users("test")[self.test_rows]].astype(np.float64),
            {name: self.predicted[name] for name in order},
            (scale.lowest, scale.highest),
        )

    def run(self) -> None:
        """Make all rows. Raises: NothingRated, after the rows that need no answer are made."""
        context = self.context
        names, nothing = [CONSTANT, *self.systems], None
        for name in sorted(filter(asks, self.systems), key=lambda name: name != "EXP3RT"):
            say(context.console, f"Rating {len(self.pairs):,} test pairs with {name} …")
            try:
                self._measure(name)
            except NothingRated as error:
                nothing = nothing or error
                if name == context.config.model:
                    names, self.explained = [CONSTANT, "Bias"], []
        for name in names:
            if name == CONSTANT:
                self._add(name, lambda: constant_ratings(context.learned, self.test_rows))
            elif name not in self._rows and not asks(name):
                self._measure(name)
        if nothing:
            raise nothing
        if context.settings and context.settings.calibration != "none" and "EXP3RT" in names:
            raw, bias = self.predicted["EXP3RT"], self.predicted["Bias"]
            self._add(context.calibrated_name, lambda: context.calibrated(raw, bias))

    def _measure(self, name: str) -> None:
        """The row of a system, and one for each other way to read its ratings."""
        context = self.context
        self._add(name, lambda: self._predict(name))
        for reading, rate in getattr(context.fitted(name).model, "readings", {}).items():
            said = f"{name} ({reading})"
            self._add(said, lambda rate=rate: _array(rate(self.pairs)), reading)  # type: ignore[misc]

    def _predict(self, name: str) -> Array:
        if asks(name):
            self.context.before_questions()
        return predict_ratings(self.context.fitted(name), self.context.split, self.test_rows)

    def _add(self, name: str, predict: Callable[[], Array], readout: str = "") -> None:
        with self.context.meter.measure() as cost:
            self.predicted[name] = predict()
        self._rows[name] = self._rows_of(name, self.predicted[name], cost, readout)

    def _rows_of(self, name: str, predictions: Array, cost: Cost, readout: str) -> list[Row]:
        """A row over all pairs, with the costs, and one for each slice of users."""
        context, rows = self.context, self.test_rows
        split, system = context.split, name.partition(" (")[0]
        if asks(system):
            readout = readout or context.fitted(system).model.readout
        users = split.users("test")[rows]
        slices = user_slices(split.users("train"), users)
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
                    users=len(set(users[mask])),
                    slice=part,
                    coverage=coverage,
                    readout=readout if whole else "",
                    **vars(costs),
                )
            )
        return table


def _array(ratings: object) -> Array:
    """Ratings as an array, NaN for None: [n_pairs]."""
    return np.array(ratings, dtype=np.float64)
