"""A plain rater: pairs of raw tokens in, predictions out. What EXP3RT holds instead of an LLM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLM, readout_of
from recbole_exp3rt.llm.card import has_card, says
from recbole_exp3rt.llm.names import ORACLE, is_served, load_llm
from recbole_exp3rt.model.language_models import LanguageModels, Load
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.records import RatingPrediction
from recbole_exp3rt.stages.pipeline import Models, Pipeline, Progress, silent

if TYPE_CHECKING:
    from recbole_exp3rt.stages.anchoring import HeldOut

Pairs = Sequence[tuple[str, str]]
PRIOR_BASE = "prior_base"  # m of a prior in a student's card: one number for each label


@dataclass
class Rater:
    """Rates pairs. A copy is the rater itself: RecBole copies models to count flops."""

    pipeline: Pipeline
    models: LanguageModels | None = None  # where the pipeline's models come from

    def rate(self, pairs: Pairs) -> list[RatingPrediction | None]:
        """A prediction for each pair; None where no answer could be read: [n_pairs]."""
        return self.pipeline.rate(pairs)

    def ratings(self, pairs: Pairs, *, reasoning: bool) -> list[float | None]:
        """Expected ratings of pairs, all with a rationale or all without; None: not readable."""
        return [p.expected if p else None for p in self.pipeline.rated(pairs, reasoning=reasoning)]

    def explain(self, pairs: Pairs) -> list[RatingPrediction | None]:
        """As `rate`, with a rationale for every pair, where any pair of this run gets one."""
        return self.pipeline.rated(pairs, reasoning=self.pipeline.settings.explains)

    def said(self, pairs: Pairs) -> list[RatingPrediction | None]:
        """What was predicted for pairs; those that were not rated yet are rated now."""
        known = self.pipeline.predictions
        if left := [pair for pair in pairs if pair not in known]:
            self.rate(left)
            known = self.pipeline.predictions
        return [known.get(pair) for pair in pairs]

    def over(self, corpus: Corpus) -> Rater:
        """The same models, prompts and settings on another corpus; calls are counted together."""
        own = self.pipeline
        priors = own.priors if own.settings.needs_bias else None
        pipeline = Pipeline(corpus, own.models, own.prompts, own.settings, own.progress, priors)
        return Rater(pipeline, self.models)

    def going_on(self, corpus: Corpus) -> Rater:
        """As `over`, and what was read and its counts are shared."""
        return Rater(self.pipeline.going_on(corpus), self.models)

    def __deepcopy__(self, memo: dict[int, Any]) -> Rater:
        return self

    @property
    def calls(self) -> int:
        """Requests that a model answered in this run; answers out of the store are not calls."""
        return self.models.calls if self.models else 0

    @property
    def readout(self) -> str:
        """How the rating model's labels are read: exact, top or parsed."""
        return readout_of(self.pipeline.models.rating)

    def who(self) -> dict[str, str]:
        """Step -> identity of the model that does it."""
        steps = self.pipeline.models
        return {
            "preferences": steps.preference.identity,
            "profiles": steps.profile.identity,
            "rating": steps.rating.identity,
        }


def notes(settings: Settings, prompts: str) -> Iterator[str]:
    """What is to be known of the student that rates: it was not trained, or for other questions.

    `prompts` is the digest of those that it is asked with.
    """
    student = settings.adapter or settings.rating_model
    if student == ORACLE or is_served(student):
        return
    if not has_card(student):
        yield f"{student} was not trained for this task"
        return
    if says(student, "prompts") not in (None, prompts):
        yield f"{student} was trained with other prompts"
    learned = says(student, "data_settings") or {}
    for key in ("use_reasoning", "use_bias"):
        if key in learned and learned[key] != getattr(settings.stages, key):
            yield f"{student} was trained with {key}={learned[key]}"


def make_rater(
    settings: Settings,
    corpus: Corpus,
    progress: Progress = silent,
    load: Load = load_llm,
    models: LanguageModels | None = None,
    held_out: HeldOut | None = None,
) -> Rater:
    """A rater over `corpus`. `models` are those of a run; without them, `load` loads its own.

    `held_out` is what a prior is taken from, see `data/held_out.py`.

    Raises: LLMError or UsageError for a model that cannot be loaded, a prompt that is wrong, or
    labels that are read in a way that no prior can anchor.
    """
    models = models or LanguageModels(settings, load)
    prompts = load_prompts(settings.prompt_dir)
    adapter, rates = settings.adapter, settings.rating_model
    steps = (settings.preference_model, settings.profile_model, rates)
    made = Models(*(models.get(name, adapter if name == rates else None) for name in steps))
    pipeline = Pipeline(corpus, made, prompts, settings.stages, progress)
    if settings.stages.needs_bias:
        if settings.stages.use_bias == "prior":
            _check_readout(made.rating, rates)
        _take_prior(pipeline, held_out, says(adapter or rates, PRIOR_BASE))
    return Rater(pipeline, models)


def _check_readout(llm: LLM, name: str) -> None:
    if readout_of(llm) == "parsed":
        raise UsageError(
            f"use_bias=prior needs the probability of every label, and {name} only writes one "
            "(readout parsed); take a model or server that tells probabilities (readout exact or "
            "top), or use_bias=averages"
        )


def _take_prior(pipeline: Pipeline, held: HeldOut | None, base: Any) -> None:
    """Let the prior be taken out of `held`, over its own corpus; `base` is the card's m."""
    from recbole_exp3rt.stages.anchoring import Priors

    taking, own = pipeline, pipeline
    if held is not None and held.corpus is not own.corpus:
        taking = Pipeline(held.corpus, own.models, own.prompts, own.settings, own.progress)
    right = isinstance(base, list) and len(base) == len(own.settings.scale.labels)
    priors = Priors(taking, held, base if right else None)
    pipeline.priors = taking.priors = priors
