"""The one place where a system that asks a language model is made, and where systems become
rerankers: in a run, for a script, for `exp3rt show`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.registry import MODELS, asks, find_model
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.evaluator.ratings import rate_pairs
from recbole_exp3rt.model.exp3rt import EXP3RT
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.model.rater import Rater, make_rater
from recbole_exp3rt.rerank import reasoned
from recbole_exp3rt.rerank.reranker import RatingReranker, Reranker
from recbole_exp3rt.stages.step import Progress, silent
from recbole_exp3rt.trainer.fitting import Fitted

Pairs = Sequence[tuple[str, str]]
Rate = Callable[[Pairs], Sequence[float | None]]
Fit = Callable[[str], Fitted]


def config_of(name: str, config: Config) -> Config:
    """The settings of the system `name` in a run with `config`."""
    return config if name == config.model else config.for_model(name)


def make_asking(
    name: str,
    config: Config,
    split: Split,
    fit: Fit,
    models: LanguageModels | None = None,
    progress: Progress = silent,
    *,
    learned: Split | None = None,
    rater: Rater | None = None,
) -> Fitted:
    """A system that asks a language model, over the train part of `learned`, usually `split`.

    `config` is that of the run, `fit` gives a fitted model that the system reads. `rater` is that
    of EXP3RT; without `models` or it, a system loads its own.
    Raises: UsageError for settings that do not fit, LLMError for a model that cannot be loaded.
    """
    own, learned = config_of(name, config), learned or split
    if name == "EXP3RT":
        model = EXP3RT(own, learned.train, rater)
    else:
        system = find_model(name)
        reads: dict[str, Any] = {"fit": fit} if getattr(system, "fits", ()) else {}
        if MODELS[name].profiles:
            reads["rater"] = rater or _rater(config, learned, models, progress)
        model = system(own, learned.train, models, progress, **reads)
    return Fitted(name, own, model, None, split, learned)


def _rater(
    config: Config, learned: Split, models: LanguageModels | None, progress: Progress
) -> Rater:
    """The rater of EXP3RT over the train part, where it is no system of the run."""
    settings = Settings.from_config(config_of("EXP3RT", config))
    corpus = corpus_of(learned.train, settings.description_fields, settings.review_file)
    return make_rater(settings, corpus, progress, models=models)


def rate_of(fitted: Fitted, split: Split) -> Rate:
    """A function from pairs of raw tokens to the ratings of a system; None: unreadable."""
    if asks(fitted.name):
        rate: Rate = fitted.model.rate
        return rate
    return lambda pairs: rate_pairs(fitted, split, pairs)


def reranker_of(fitted: Fitted, split: Split) -> Reranker:
    """A system as a reranker: by its own method, or by the ratings it predicts."""
    if hasattr(fitted.model, "rerank"):
        own: Reranker = fitted.model
        return own
    if rater := getattr(fitted.model, "rater", None):
        return reasoned.reranker_of(rater)
    return RatingReranker(rate_of(fitted, split))
