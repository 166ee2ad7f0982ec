"""Our systems by name: models that rate or rank, rerankers, explainers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from recbole_exp3rt.config import compat


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the class of a system stands, and what it does.

    `kind` says what it is measured by. A `rating` or `ranking` model is a model of RecBole. A
    `reranker` has a method `rerank`, an `explainer` a method `explain`; a model may have them too
    (`does`). `reads`: it learns from review texts or descriptions. `asks`: it may ask a language
    model and is not fitted; its class is made with `models`, the language models of the run.
    A class may name in `fits` models that it reads fitted; then it is made with `fit` too. With
    `profiles` it is made with the rater of EXP3RT, and asks what EXP3RT asks.
    """

    module: str
    kind: Literal["rating", "ranking", "reranker", "explainer"]
    reads: bool = False
    asks: bool = False
    does: tuple[Literal["rerank", "explain"], ...] = ()
    profiles: bool = False


def _of_profiles(module: str) -> Entry:
    where = f"recbole_exp3rt.explainer.{module}"
    return Entry(where, "explainer", reads=True, asks=True, profiles=True)


MODELS = {
    "Bias": Entry("recbole_exp3rt.model.bias", "rating"),
    "MF": Entry("recbole_exp3rt.model.mf", "rating"),
    "WDL": Entry("recbole_exp3rt.model.wdl", "rating"),
    "RGCL": Entry("recbole_exp3rt.model.rgcl", "rating", True),
    "EXP3RT": Entry("recbole_exp3rt.model.exp3rt", "rating", True, True, ("explain",)),
    "P5": Entry("recbole_exp3rt.model.p5.model", "rating", reads=True, does=("rerank", "explain")),
    "LLMRec": Entry("recbole_exp3rt.model.llmrec", "rating", True, True),
    "RawReviews": Entry("recbole_exp3rt.model.rawreviews", "rating", True, True),
    "ZSRanker": Entry("recbole_exp3rt.rerank.zs_ranker", "reranker", True, True),
    "TALLRec": Entry("recbole_exp3rt.rerank.tallrec", "reranker", True, True),
    "XRec": Entry("recbole_exp3rt.explainer.xrec", "explainer", True, True),
    "Template": _of_profiles("template"),
    "SimilarUser": _of_profiles("similar_user"),
    "Popular": _of_profiles("popular"),
    "TextKNN": Entry("recbole_exp3rt.model.textknn", "rating", reads=True),
    "BPR": Entry("recbole_exp3rt.model.bpr", "ranking"),
    "LightGCN": Entry("recbole_exp3rt.model.lightgcn", "ranking"),
    "Pop": Entry("recbole_exp3rt.model.pop", "ranking"),
}


def names(does: Literal["rate", "rank", "rerank", "explain"]) -> list[str]:
    """The systems that can do this. Whatever rates can rerank: candidates by predicted rating."""
    kinds = {"rate": "rating", "rank": "ranking", "rerank": "reranker", "explain": "explainer"}
    return [
        name
        for name, entry in MODELS.items()
        if entry.kind == kinds[does]
        or does in entry.does
        or (does == "rerank" and entry.kind == "rating")
    ]


def asks(name: str) -> bool:
    """Whether a system of this name asks a language model."""
    return name in MODELS and MODELS[name].asks


def find_model(name: str) -> type:
    """The class of a model of ours, or else of RecBole's. Raises: ValueError for neither."""
    compat.apply()
    if name in MODELS:
        model: type = getattr(import_module(MODELS[name].module), name)
        return model
    from recbole.utils.utils import get_model

    with compat.no_search_for_anomalies():
        found: type = get_model(name)
    compat.read_plain_arrays()
    return found
