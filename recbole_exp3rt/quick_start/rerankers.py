"""Our systems as rerankers for a script: by name, on a split."""

from __future__ import annotations

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.precheck import check_rerankers
from recbole_exp3rt.config.registry import asks, find_model
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.evaluator.ratings import rate_pairs
from recbole_exp3rt.rerank.reasoned import reranker_of
from recbole_exp3rt.rerank.reranker import RatingReranker, Reranker
from recbole_exp3rt.trainer.fitting import fit


def load_reranker(name: str, config: Config, split: Split) -> Reranker:
    """The system `name` as a reranker of candidates, such as TALLRec, ZSRanker, TextKNN or EXP3RT.

    It reads the train part of `split` alone. A system that is fitted is fitted now, with its
    settings chosen on the validation part; a rating model reranks by its ratings. `config` is that
    of a run on the same data, such as `Config("LightGCN", "sample")`; `<System>.<key>` in it sets
    what the system has of its own.

    Raises: UsageError for a name that is no reranker, LLMError for a model that cannot be loaded.
    """
    check_rerankers([name])
    if not asks(name):
        fitted = fit(name, config, split, refit=False)
        if hasattr(fitted.model, "rerank"):
            own: Reranker = fitted.model
            return own
        return RatingReranker(lambda pairs: rate_pairs(fitted, split, pairs))
    model = find_model(name)(config.for_model(name), split.train)
    if prepare := getattr(model, "prepare", None):
        prepare(split, print, train=True)
    if rater := getattr(model, "rater", None):
        return reranker_of(rater)
    return model if hasattr(model, "rerank") else RatingReranker(model.rate)
