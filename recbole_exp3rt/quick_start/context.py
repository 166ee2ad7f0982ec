"""What the tasks of a run share: settings, split, language models, fitted models, costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np
from rich.console import Console

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import RunSettings, Settings
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.evaluator.calibration import Array, Calibration, calibrate
from recbole_exp3rt.evaluator.ratings import rate_pairs
from recbole_exp3rt.evaluator.results import Results
from recbole_exp3rt.model.exp3rt import EXP3RT
from recbole_exp3rt.model.rater import Rater
from recbole_exp3rt.quick_start.fits import Fits
from recbole_exp3rt.quick_start.meter import Meter
from recbole_exp3rt.trainer.fitting import Fitted

Pairs = Sequence[tuple[str, str]]


@dataclass
class Context:
    """What the tasks of a run share.

    `split` is what models choose on, `learned` what they are finally trained on (with `refit`,
    train + validation). `settings` and `rater` are None where the run's model reads no texts.
    """

    config: Config
    console: Console
    run: RunSettings
    settings: Settings | None
    split: Split
    learned: Split
    rater: Rater | None
    fits: Fits
    results: Results
    notes: list[str]
    generators: tuple[str, ...] = ()
    before_questions: Callable[[], None] = field(default=lambda: None)

    @cached_property
    def meter(self) -> Meter:
        """Counts what the language models are asked."""
        return Meter(self.rater)

    @property
    def calibrated_name(self) -> str:
        """The name of the rows with calibrated ratings."""
        return f"{self.config.model} ({self.settings.calibration})" if self.settings else ""

    def fitted(self, name: str) -> Fitted:
        """The run's own model, which a rater makes ready, or any other, fitted once."""
        if self.rater and name == self.config.model:
            model = EXP3RT(self.config, self.learned.train, self.rater)
            return Fitted(name, self.config, model, None, self.split, self.learned)
        return self.fits.model(name)

    def rate_with(self, name: str) -> Callable[[Pairs], Sequence[float | None]]:
        """A function from pairs of raw tokens to the ratings of a model; None: unreadable.

        The model is fitted now, as RecBole evaluates without gradients.
        """
        if self.rater and name == self.config.model:
            rater = self.rater
            return lambda pairs: [p.expected if p else None for p in rater.rate(pairs)]
        fitted, split = self.fitted(name), self.split
        return lambda pairs: rate_pairs(fitted, split, pairs)

    def rate_calibrated(self) -> Callable[[Pairs], Sequence[float | None]]:
        """As `rate_with` the run's own model, calibrated; the calibration is fitted now."""
        rates = [self.rate_with(name) for name in (self.config.model, "Bias")]
        _ = self.calibration

        def rate(pairs: Pairs) -> Sequence[float | None]:
            raw, bias = (np.array(rate(pairs), dtype=np.float64) for rate in rates)
            ratings = self.calibrated(raw, bias)
            return [None if np.isnan(rating) else float(rating) for rating in ratings]

        return rate

    def calibrated(self, ratings: Array, bias: Array) -> Array:
        """`ratings` [n] calibrated with those of Bias [n]; NaN stays NaN."""
        assert self.settings is not None
        return self.calibration.apply(ratings, bias, self.settings.stages.scale)

    @cached_property
    def calibration(self) -> Calibration:
        """Fitted once, on what the model and Bias predict for validation pairs."""
        assert self.rater is not None and self.settings is not None
        found = calibrate(
            self.config,
            self.settings,
            self.split,
            self.rater,
            self.fitted("Bias"),
            refit=self.run.refit,
            seed=self.run.seed,
        )
        say(self.console, f"{self.calibrated_name}: {found}")
        self.results.about["calibration"] = asdict(found)
        return found
