"""Explanations of pairs by the systems of a run that explain: beside each other, and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.config.registry import asks
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.quick_start.context import Context
from recbole_exp3rt.quick_start.systems import make_asking
from recbole_exp3rt.stages.step import Progress
from recbole_exp3rt.trainer.fit_cache import FitCache
from recbole_exp3rt.trainer.fitting import Fitted

Pair = tuple[str, str]
Texts = dict[str, list[str | None]]  # system -> explanation of each pair; None: it has none


@dataclass
class Explained:
    """Pairs of a run and what was said of them."""

    pairs: list[Pair] = field(default_factory=list)
    texts: Texts = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """One line a pair and system: user_id, item_id, system, text (empty: no explanation)."""
        rows = [
            (*pair, system, texts[number])
            for number, pair in enumerate(self.pairs)
            for system, texts in self.texts.items()
        ]
        return pd.DataFrame(rows, columns=["user_id", "item_id", "system", "text"])


def explain(context: Context, pairs: Sequence[Pair]) -> Explained:
    """What EXP3RT, if it is part of the run, and each explainer say of the first `pairs`.

    What it took stands in the results, under `explainers`. Raises: UsageError, LLMError.
    """
    run = context.run
    explained = Explained(list(dict.fromkeys(pairs))[: run.explanations])
    if not explained.pairs or not run.explainers:
        return explained
    about = context.results.about.setdefault("explainers", {})
    for name in dict.fromkeys([*(["EXP3RT"] if context.rater else []), *run.explainers]):
        if asks(name):
            context.before_questions()
        with context.meter.measure() as cost:
            texts = list(context.fitted(name).model.explain(explained.pairs))
        explained.texts[name] = texts
        about[name] = {
            "pairs": len(texts),
            "coverage": sum(text is not None for text in texts) / len(texts),
            "calls": cost.calls,
            "tokens": cost.tokens,
            "seconds": cost.seconds,
        }
    return explained


def explain_pair(config: Config, names: Sequence[str], pair: Pair, progress: Progress) -> Texts:
    """What systems other than EXP3RT say of one pair, without a run.

    Raises: UsageError, LLMError.
    """
    others = [name for name in names if name != "EXP3RT"]
    if not others:
        return {}
    split, read = load_split(config), Reader(config)
    learned = split.merged() if read.flag("refit") else split
    cache = FitCache(read.text_or_none("fit_cache"))
    models = LanguageModels.from_config(config)

    def fit(name: str) -> Fitted:
        return cache.fit(name, config, split, refit=read.flag("refit"))

    texts: Texts = {}
    for name in others:
        if asks(name):
            made = make_asking(name, config, split, fit, models, progress, learned=learned)
        else:
            made = fit(name)
        texts[name] = list(made.model.explain([pair]))
    return texts
