"""EXP3RT, the review-driven preference reasoner, as a plugin of RecBole.

Importing this package is quick: torch, transformers and recbole are imported when they are used.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config.checked": ["Config"],
        "config.native": ["register"],
        "errors": ["UsageError"],
        "quick_start.quick_start": ["run"],
        "recommender": ["Recommender"],
        "records": ["Review"],
        "rerank.rerank": [
            "Candidates",
            "RatingReranker",
            "Reranker",
            "make_reranking_trainer",
        ],
        "scale": ["RatingScale"],
    },
)
