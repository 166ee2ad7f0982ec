"""A plain rater: pairs of raw tokens in, predictions out. What EXP3RT holds instead of an LLM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.llm.base import readout_of
from recbole_exp3rt.llm.card import has_card, says
from recbole_exp3rt.llm.names import ORACLE, is_served, load_llm
from recbole_exp3rt.model.language_models import LanguageModels, Load
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.records import RatingPrediction
from recbole_exp3rt.stages.pipeline import Models, Pipeline, Progress, silent

Pairs = Sequence[tuple[str, str]]


@dataclass
class Rater:
    """Rates pairs. A copy is the rater itself: RecBole copies models to count flops."""

    pipeline: Pipeline
    models: LanguageModels | None = None  # where the pipeline's models come from

    def rate(self, pairs: Pairs) -> list[RatingPrediction | None]:
        """A prediction for each pair; None where no answer could be read: [n_pairs]."""
        return self.pipeline.rate(pairs)

    def over(self, corpus: Corpus) -> Rater:
        """The same models, prompts and settings on another corpus; calls are counted together."""
        own = self.pipeline
        pipeline = Pipeline(corpus, own.models, own.prompts, own.settings, own.progress)
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
) -> Rater:
    """A rater over `corpus`. `models` are those of a run; without them, `load` loads its own.

    Raises: LLMError or UsageError for a model that cannot be loaded, a prompt that is wrong.
    """
    models = models or LanguageModels(settings, load)
    prompts = load_prompts(settings.prompt_dir)
    adapter, rates = settings.adapter, settings.rating_model
    steps = (settings.preference_model, settings.profile_model, rates)
    made = Models(*(models.get(name, adapter if name == rates else None) for name in steps))
    return Rater(Pipeline(corpus, made, prompts, settings.stages, progress), models)
