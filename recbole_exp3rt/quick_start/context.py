"""What the tasks of a run share: settings, split, language models, fitted models, costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from rich.console import Console

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.registry import asks, find_model
from recbole_exp3rt.config.settings import RunSettings, Settings
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.data.unseen import Unseen
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.evaluator.calibration import Array, Calibration, calibrate
from recbole_exp3rt.evaluator.ratings import rate_pairs
from recbole_exp3rt.evaluator.results import Results
from recbole_exp3rt.model.exp3rt import EXP3RT
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.model.rater import Rater
from recbole_exp3rt.quick_start.fits import Fits
from recbole_exp3rt.quick_start.meter import Meter
from recbole_exp3rt.quick_start.rates import Rates
from recbole_exp3rt.rerank.reasoned import reranker_of
from recbole_exp3rt.rerank.reranker import RatingReranker, Reranker
from recbole_exp3rt.stages.counts import NothingRated
from recbole_exp3rt.trainer.fitting import Fitted

Pairs = Sequence[tuple[str, str]]
Rate = Callable[[Pairs], Sequence[float | None]]


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
        return self.config if name == self.config.model else self.config.for_model(name)

    def fitted(self, name: str) -> Fitted:
        """A system, ready to be asked: made once, or fitted once."""
        return self._asking(name) if asks(name) else self.fits.model(name)

    def _asking(self, name: str) -> Fitted:
        if name not in self.asking:
            config, train = self.config_of(name), self.learned.train
            if name == "EXP3RT":
                model: Any = EXP3RT(config, train, self.rater)
            else:
                system = find_model(name)
                own = {"fit": self.fits.model} if getattr(system, "fits", ()) else {}
                model = system(config, train, self.models, self.rates, **own)
                self._prepare(model, train=False)
            self.asking[name] = Fitted(name, config, model, None, self.split, self.learned)
        return self.asking[name]

    def _prepare(self, model: Any, *, train: bool) -> None:
        """Let a system that asks take its own student, if it has one; `train` it if needed."""
        if prepare := getattr(model, "prepare", None):
            prepare(self.split, lambda text: say(self.console, text), train=train)
        if model.step:
            identity, step = model.llm.identity, self.rates.step_of(model.step.title)
            if self.rates.identities.get(step) != identity:
                say(self.console, f"  {model.step.name} by {identity}")
            self.rates.identities[step] = identity

    def rate_with(self, name: str) -> Rate:
        """A function from pairs of raw tokens to the ratings of a model; None: unreadable.

        The model is fitted now, as RecBole evaluates without gradients.
        """
        fitted, split = self.fitted(name), self.split
        if asks(name):
            rate: Rate = fitted.model.rate
            return rate
        return lambda pairs: rate_pairs(fitted, split, pairs)

    def reranker(self, name: str) -> Reranker:
        """The system `name` as a reranker: by its own method, or by the ratings it predicts.

        One that learns with a student of its own is trained now.
        """
        own = getattr(find_model(name), "rerank", None)
        if own is None:
            if name == "EXP3RT":
                return reranker_of(self.fitted(name).model.rater)
            return RatingReranker(self.rate_with(name))
        reranker: Reranker = self.fitted(name).model
        if asks(name):
            self._prepare(reranker, train=True)
        return reranker

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
