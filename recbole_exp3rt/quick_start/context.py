"""What the tasks of a run share: settings, split, language models, fitted models, costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from rich.console import Console

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.registry import asks
from recbole_exp3rt.config.settings import RunSettings, Settings
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.data.unseen import Unseen
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.evaluator.calibration import Array, Calibration, calibrate
from recbole_exp3rt.evaluator.results import Results
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.model.rater import Rater
from recbole_exp3rt.quick_start.fits import Fits
from recbole_exp3rt.quick_start.meter import Meter
from recbole_exp3rt.quick_start.rates import Rates
from recbole_exp3rt.quick_start.systems import (
    Pairs,
    Rate,
    config_of,
    make_asking,
    rate_of,
    reranker_of,
)
from recbole_exp3rt.rerank.reranker import Reranker
from recbole_exp3rt.stages.counts import NothingRated
from recbole_exp3rt.trainer.fitting import Fitted


@dataclass
class Context:
    """What the tasks of a run share.

    `split` is what models choose on, `learned` what they are finally trained on (with `refit`,
    train + validation). `models` is None where no system of the run asks a language model,
    `settings` and `rater` where EXP3RT is none of its systems.
    """

    config: Config
    console: Console
    run: RunSettings
    settings: Settings | None
    split: Split
    learned: Split
    models: LanguageModels | None
    rater: Rater | None
    rates: Rates
    fits: Fits
    results: Results
    notes: list[str]
    generators: tuple[str, ...] = ()
    unseen: Unseen | None = None  # rows of users outside of the data set that are rated too
    before_questions: Callable[[], None] = field(default=lambda: None)
    asking: dict[str, Fitted] = field(default_factory=dict)  # systems that ask, made already

    @cached_property
    def meter(self) -> Meter:
        """Counts what the language models are asked."""
        return Meter(self.models)

    @property
    def calibrated_name(self) -> str:
        """The name of the rows with calibrated ratings."""
        return f"EXP3RT ({self.settings.calibration})" if self.settings else ""

    def config_of(self, name: str) -> Config:
        """The settings of a system of this run."""
        return config_of(name, self.config)

    def fitted(self, name: str) -> Fitted:
        """A system, ready to be asked: made once, or fitted once."""
        return self._asking(name) if asks(name) else self.fits.model(name)

    def _asking(self, name: str) -> Fitted:
        if name not in self.asking:
            self.asking[name] = made = make_asking(
                name,
                self.config,
                self.split,
                self.fits.model,
                self.models,
                self.rates,
                learned=self.learned,
                rater=self.rater,
            )
            if name != "EXP3RT":
                self._prepare(made.model, train=False)
        return self.asking[name]

    def _prepare(self, model: Any, *, train: bool) -> None:
        """Let a system that asks take its own student, if it has one; `train` it if needed."""
        if prepare := getattr(model, "prepare", None):
            prepare(self.split, lambda text: say(self.console, text), train=train)
        if training := getattr(model, "timed_training", None):
            self.rates.note_training(*training)
        if model.step:
            identity, step = model.llm.identity, self.rates.step_of(model.step.title)
            if self.rates.identities.get(step) != identity:
                say(self.console, f"  {model.step.name} by {identity}")
            self.rates.identities[step] = identity

    def rate_with(self, name: str) -> Rate:
        """A function from pairs of raw tokens to the ratings of a model; None: unreadable.

        The model is fitted now, as RecBole evaluates without gradients.
        """
        return rate_of(self.fitted(name), self.split)

    def reranker(self, name: str) -> Reranker:
        """The system `name` as a reranker: by its own method, or by the ratings it predicts.

        One that learns with a student of its own is trained now.
        """
        fitted = self.fitted(name)
        if asks(name) and hasattr(fitted.model, "rerank"):
            self._prepare(fitted.model, train=True)
        return reranker_of(fitted, self.split)

    def readout_of(self, system: str) -> str:
        """How the labels of a system that asks are read: exact, top, parsed or not at all."""
        return str(getattr(self.fitted(system.partition(" (")[0]).model, "readout", ""))

    @property
    def can_rate(self) -> bool:
        """Whether the data has ratings on a scale, which Bias needs."""
        return self.split.has_ratings and self.run.scale is not None

    def rate_calibrated(self) -> Rate:
        """As `rate_with` EXP3RT, calibrated; the calibration is fitted now."""
        rates = [self.rate_with(name) for name in ("EXP3RT", "Bias")]
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

    def take_priors(self, share: float | None) -> None:
        """Take the priors of EXP3RT before its rows are measured, and say what they are.

        `share`: of pairs that get a rationale; None: EXP3RT is not asked.
        """
        rater = self.rater
        if rater is None or share is None or rater.pipeline.settings.use_bias != "prior":
            return
        priors, ways = rater.pipeline.priors, ([False] if share < 1 else [])
        ways += [True] if share > 0 else []
        for reasoning in [way for way in ways if way not in priors.found]:
            self.before_questions()
            with self.meter.measure() as cost:
                try:
                    prior = priors.of(reasoning)
                except NothingRated:  # the task will say so of its own pairs
                    return
            way = "with" if reasoning else "without"
            say(self.console, f"Prior of ratings {way} a rationale: {prior}; {cost.calls:,} calls")
        self.results.about["prior"] = priors.about

    @cached_property
    def calibration(self) -> Calibration:
        """Fitted once, on what EXP3RT and Bias predict for validation pairs."""
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
