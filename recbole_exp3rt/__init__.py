"""EXP3RT, the review-driven preference reasoner, as a plugin of RecBole.

Importing this package takes a blink: torch, transformers and recbole arrive when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_exp3rt.config.native import register as register
    from recbole_exp3rt.errors import UsageError as UsageError
    from recbole_exp3rt.recommender import Recommender as Recommender
    from recbole_exp3rt.rerank.rerank import Candidates as Candidates
    from recbole_exp3rt.rerank.rerank import RatingReranker as RatingReranker
    from recbole_exp3rt.rerank.rerank import Reranker as Reranker
    from recbole_exp3rt.rerank.rerank import make_reranking_trainer as make_reranking_trainer

__version__ = "0.1.0"

# Public names and the modules that they are fetched from on first use (PEP 562).
_PUBLIC = {
    "Candidates": "rerank",
    "RatingReranker": "rerank",
    "Recommender": "recommender",
    "Reranker": "rerank",
    "UsageError": "errors",
    "make_reranking_trainer": "rerank",
    "register": "native",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(f"{__name__}.compat").apply()  # before any module that imports recbole
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
