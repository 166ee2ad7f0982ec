"""A plain rater: pairs of raw tokens in, predictions out. What EXP3RT holds instead of an LLM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.llm.base import LLM, readout_of
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.card import has_card, says
from recbole_exp3rt.llm.cost.budget import MeteredLLM
from recbole_exp3rt.llm.cost.ledger import Ledger, Spent
from recbole_exp3rt.llm.cost.prices import Prices
from recbole_exp3rt.llm.names import ORACLE, is_served, load_llm
from recbole_exp3rt.llm.store import Store
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.records import RatingPrediction
from recbole_exp3rt.stages.pipeline import Models, Pipeline, Progress, silent

Pairs = Sequence[tuple[str, str]]


@dataclass
class Rater:
    """Rates pairs. A copy is the rater itself: RecBole copies models to count flops."""

    pipeline: Pipeline
    models: dict[str, CachedLLM] = field(default_factory=dict)

    def rate(self, pairs: Pairs) -> list[RatingPrediction | None]:
        """A prediction for each pair; None where no answer could be read: [n_pairs]."""
        return self.pipeline.rate(pairs)

    def over(self, corpus: Corpus) -> Rater:
        """The same models, prompts and settings on another corpus; calls are counted together."""
        own = self.pipeline
        pipeline = Pipeline(corpus, own.models, own.prompts, own.settings, own.progress)
        return Rater(pipeline, self.models)

    def __deepcopy__(self, memo: dict[int, Any]) -> Rater:
        return self

    @property
    def calls(self) -> int:
        """Requests that a model answered in this run; answers out of the store are not calls."""
        return sum(model.calls for model in self.models.values())

    @property
    def tokens(self) -> int:
        """Prompt and new tokens of those calls."""
        return sum(model.prompt_tokens + model.new_tokens for model in self.models.values())

    @property
    def memory(self) -> dict[str, Any]:
        """Name -> what a local model needs of the memory that was free."""
        plans = {name: getattr(model.llm, "memory", None) for name, model in self.models.items()}
        return {name: plan for name, plan in plans.items() if plan is not None}

    @property
    def readout(self) -> str:
        """How the rating model's labels are read: exact, top or parsed."""
        return readout_of(self.pipeline.models.rating)

    @property
    def missing_labels(self) -> int:
        """Labels of all ratings that are bounded, not known."""
        return self.pipeline.counts["rating"].missing_labels

    @property
    def spent(self) -> Spent:
        """What this run has paid for answers of models on servers."""
        return sum(
            (getattr(model.llm, "spent", Spent()) for model in self.models.values()), Spent()
        )

    @property
    def remarks(self) -> list[str]:
        """What is to be known of the answers of models on servers."""
        metered = [model.llm for model in self.models.values() if isinstance(model.llm, MeteredLLM)]
        estimated = sum(llm.estimated for llm in metered)
        mended = sum(int(getattr(llm.llm, "mended", 0)) for llm in metered)
        said = {
            f"{estimated:,} answers came without usable token counts: estimated": estimated,
            f"{mended:,} answers held broken characters: U+FFFD took their place": mended,
        }
        return [text for text, number in said.items() if number]

    def who(self) -> dict[str, str]:
        """Step -> identity of the model that does it."""
        steps = self.pipeline.models
        return {
            "preferences": steps.preference.identity,
            "profiles": steps.profile.identity,
            "rating": steps.rating.identity,
        }


def meter(llm: LLM, settings: Settings) -> LLM:
    """`llm` with a ledger, and a budget if there is one. Raises: UsageError."""
    return MeteredLLM(llm, Prices.load(settings.prices), Ledger(settings.ledger), settings.budget)


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
    load: Callable[..., LLM] = load_llm,
) -> Rater:
    """A rater over `corpus`; each model is loaded once, behind the store of answers.

    Raises: LLMError or UsageError for a model that cannot be loaded, a prompt that is wrong.
    """
    prompts = load_prompts(settings.prompt_dir)
    store = Store(settings.store_path)
    models: dict[str, CachedLLM] = {}
    for name in (settings.preference_model, settings.profile_model, settings.rating_model):
        if name not in models:
            options = {"adapter": settings.adapter} if name == settings.rating_model else {}
            if is_served(name):
                llm = meter(load(name, http=settings.http, **options), settings)
            else:
                machine = {
                    "batch_tokens": settings.batch_tokens,
                    "threads": settings.threads,
                    "dtype": settings.dtype,
                    "quantization": settings.quantization,
                    "enable_thinking": settings.http.enable_thinking,
                    "lazy": True,  # with every answer in the store, no weights are needed
                }
                llm = load(name, **machine, **options)
            models[name] = CachedLLM(llm, store)
    steps = Models(
        preference=models[settings.preference_model],
        profile=models[settings.profile_model],
        rating=models[settings.rating_model],
    )
    return Rater(Pipeline(corpus, steps, prompts, settings.stages, progress), models)
