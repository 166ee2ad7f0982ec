"""Takes the numbers of a prior: its spread, the model's own label distribution, the weight.

They are taken once, from train pairs and validation pairs, and hold for every corpus that is rated
afterwards, so also for users and items that join later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.records import RatingPrediction
from recbole_exp3rt.stages.bias import Array, CorpusBias, Pair, digest_of
from recbole_exp3rt.stages.prior import (
    REG_WEIGHT,
    Prior,
    fit_weight,
    label_logs,
    log_mean,
    log_normal,
)
from recbole_exp3rt.stages.settings import StageSettings

REG_WEIGHTS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0)  # among which Bias's ridge is chosen, as in a run
LEAST_ANSWERS = 10  # with fewer readable validation pairs no weight is fitted


class RatesPairs(Protocol):
    """What a prior needs of a pipeline."""

    @property
    def corpus(self) -> Corpus:
        """The train part."""
        ...

    @property
    def settings(self) -> StageSettings:
        """Settings of the steps."""
        ...

    @property
    def bias(self) -> CorpusBias:
        """Bias over the corpus."""
        ...

    def unanchored(self, pairs: Sequence[Pair], reasoning: bool) -> list[RatingPrediction | None]:
        """What the model itself says of pairs. Raises: NothingRated."""
        ...


@dataclass(frozen=True)
class HeldOut:
    """Validation rows, and a corpus that has not read them.

    ratings: [n_pairs] in rating units. All pairs are behind the spread of Bias's errors; the rows
    `asked` are those that the model rates for the weight.
    """

    corpus: Corpus
    pairs: Sequence[Pair]
    ratings: Array
    asked: Sequence[int]


class Priors:
    """The priors of a rating model: one for ratings with a rationale, one for those without."""

    def __init__(
        self,
        pipeline: RatesPairs,
        held_out: HeldOut | None = None,
        base: Sequence[float] | None = None,
    ) -> None:
        """`pipeline` rates the pairs that the numbers are taken from.

        Without `held_out` the spread is that of the cross-fitted errors on train, and the weight
        is 1. `base` is m where the student's card says it.
        """
        self.pipeline = pipeline
        self.held_out = held_out
        self.base = base
        self._found: dict[bool, Prior] = {}

    @cached_property
    def reg_weight(self) -> float:
        """Bias's ridge penalty: as set, else the best of REG_WEIGHTS on validation, else 5."""
        settings, held = self.pipeline.settings, self.held_out
        if settings.prior_reg_weight is not None:
            return settings.prior_reg_weight
        if held is None or not len(held.pairs):
            return REG_WEIGHT

        def error(weight: float) -> float:
            rated = CorpusBias(held.corpus, settings.scale, weight).rate(held.pairs)
            return float(np.square(rated - held.ratings).mean())

        return min(REG_WEIGHTS, key=error)

    @cached_property
    def sigma(self) -> float:
        """Root mean squared error of Bias in rating units: on validation, else on train, where
        each pair is rated without its fold."""
        bias, scale = self.pipeline.bias, self.pipeline.settings.scale
        if self.held_out is not None and len(self.held_out.pairs):
            errors = bias.rate(self.held_out.pairs) - self.held_out.ratings
        else:
            rows = list(self.pipeline.corpus.rated_by_item())
            errors = bias.rate([row[:2] for row in rows]) - [rating for *_, rating in rows]
        if not len(errors):
            return (scale.highest - scale.lowest) / 2
        return float(np.sqrt(np.square(errors).mean()))

    def of(self, reasoning: bool) -> Prior:
        """The prior of ratings with or without a rationale; asks the model the first time.

        Raises: NothingRated if the model rates none of the pairs.
        """
        if reasoning not in self._found:
            self._found[reasoning] = self._fit(reasoning)
        return self._found[reasoning]

    @property
    def found(self) -> Mapping[bool, Prior]:
        """The priors so far, by whether the ratings have a rationale."""
        return dict(self._found)

    @property
    def about(self) -> dict[str, dict[str, Any]]:
        """The priors so far, as plain values for a result file."""
        names = {True: "reasoning", False: "direct"}
        return {names[reasoning]: asdict(prior) for reasoning, prior in self._found.items()}

    def questions(self) -> list[Pair]:
        """The pairs that the numbers are taken from: of train, then of validation."""
        return [*self._sample(), *self._asked()]

    def _sample(self) -> list[Pair]:
        """Random train pairs, by their keys alone: `prior_pairs` of them, none with a `base`."""
        if self.base is not None:
            return []
        number = self.pipeline.settings.prior_pairs
        return sorted(self.pipeline.corpus.pairs, key=lambda pair: digest_of(*pair))[:number]

    def _asked(self) -> list[Pair]:
        held = self.held_out
        if held is None or self.pipeline.settings.prior_weight is not None:
            return []
        return [held.pairs[row] for row in held.asked]

    def _fit(self, reasoning: bool) -> Prior:
        pipeline, settings = self.pipeline, self.pipeline.settings
        base, read = self._base(reasoning)
        sigma = self.sigma
        if settings.prior_weight is not None:
            made = Prior(sigma, base, settings.prior_weight, self.reg_weight, read)
            return replace(made, note="it is given")
        asked = self._asked()
        said = pipeline.unanchored(asked, reasoning) if asked else []
        there = [k for k, one in enumerate(said) if one]
        made = Prior(sigma, base, 1.0, self.reg_weight, read, len(asked), len(there))
        if len(there) < LEAST_ANSWERS:
            note = f"{len(there)} validation answers, fewer than {LEAST_ANSWERS}"
            return replace(made, note=note)
        assert self.held_out is not None
        truth = np.array([self.held_out.ratings[self.held_out.asked[k]] for k in there])
        prior = log_normal(pipeline.bias.rate([asked[k] for k in there]), sigma, settings.scale)
        logs = label_logs([one for one in said if one], settings.scale)
        weight = fit_weight(logs, base, prior, truth, settings.scale)
        return replace(made, weight=weight)

    def _base(self, reasoning: bool) -> tuple[tuple[float, ...], int]:
        """m, and the number of answers behind it."""
        if self.base is not None:
            return tuple(self.base), 0
        scale = self.pipeline.settings.scale
        sample = self._sample()
        said: list[RatingPrediction] = []
        if sample:
            said = [one for one in self.pipeline.unanchored(sample, reasoning) if one]
        if not said:
            return (0.0,) * len(scale.labels), 0
        return log_mean(said, scale), len(said)
