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
from recbole_exp3rt.quick_start.unseen import UnseenRating
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
        unseen = context.unseen
        self.unseen = UnseenRating(context, unseen) if unseen else None

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
        rows = [row for name in order for row in self._rows.get(name, ())]
        return [*rows, *(self.unseen.rows if self.unseen else ())]

    @property
    def rated(self) -> RatedRows:
        """The test rows, those of unseen users and all predictions, for the result file."""
        split, scale = self.context.split, self.context.run.scale
        assert scale is not None
        counts = np.bincount(split.users("train"), minlength=len(split.user_tokens))
        names = list(dict.fromkeys(row.name for row in self.rows))
        parts = [("", self.pairs, split.ratings("test")[self.test_rows], self.predicted)]
        parts += self.unseen.parts if self.unseen else []
        pairs = [pair for _, some, _, _ in parts for pair in some]
        return RatedRows(
            tuple(user for user, _ in pairs),
            tuple(item for _, item in pairs),
            np.concatenate([ratings for _, _, ratings, _ in parts]),
            np.array([counts[split.user_ids.get(user, 0)] for user, _ in pairs], dtype=np.float64),
            {
                name: np.concatenate(
                    [given.get(name, np.full(len(some), np.nan)) for _, some, _, given in parts]
                )
                for name in names
            },
            (scale.lowest, scale.highest),
            tuple(part for part, some, _, _ in parts for _ in some),
        )

    def run(self) -> None:
        """Make all rows. Raises: NothingRated, after the rows that need no answer are made."""
        context = self.context
        names, nothing = [CONSTANT, *self.systems], None
        if context.settings and "EXP3RT" in self.systems:
            context.take_priors(context.settings.stages.rating_share)
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
        calibrated = context.settings and context.settings.calibration != "none"
        if calibrated and "EXP3RT" in names and not nothing:
            raw, bias = self.predicted["EXP3RT"], self.predicted["Bias"]
            self._add(context.calibrated_name, lambda: context.calibrated(raw, bias))
        if self.unseen:
            mean = float(context.learned.ratings("train").mean())
            for name in dict.fromkeys(row.name for row in self.rows):
                self.unseen.rate(name, mean if name == CONSTANT else None)
        if nothing:
            raise nothing

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
        settings = self.context.settings
        if name == "EXP3RT" and settings and 0 < settings.stages.rating_share < 1:
            return _array(self.context.fitted(name).model.rate(self.pairs))  # all in one choice
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
                    pairs=int(mask.sum()),
                    **vars(costs),
                )
            )
        return table


def _array(ratings: object) -> Array:
    """Ratings as an array, NaN for None: [n_pairs]."""
    return np.array(ratings, dtype=np.float64)
