"""Our models by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from recbole_exp3rt.config import compat


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a model's class stands, and what it is measured by."""

    module: str
    kind: Literal["rating", "ranking"]


MODELS = {
    "Bias": Entry("recbole_exp3rt.model.bias", "rating"),
    "MF": Entry("recbole_exp3rt.model.mf", "rating"),
    "WDL": Entry("recbole_exp3rt.model.wdl", "rating"),
    "EXP3RT": Entry("recbole_exp3rt.model.exp3rt", "rating"),
    "BPR": Entry("recbole_exp3rt.model.bpr", "ranking"),
    "LightGCN": Entry("recbole_exp3rt.model.lightgcn", "ranking"),
    "Pop": Entry("recbole_exp3rt.model.pop", "ranking"),
}


def find_model(name: str) -> type:
    """The class of a model of ours, or else of RecBole's. Raises: ValueError for neither."""
    compat.apply()
    if name in MODELS:
        model: type = getattr(import_module(MODELS[name].module), name)
        return model
    from recbole.utils.utils import get_model

    found: type = get_model(name)
    compat.read_plain_arrays()
    return found
