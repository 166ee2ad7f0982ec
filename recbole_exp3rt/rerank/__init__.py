"""Reranking: the candidates of a generator in another order, inside RecBole's evaluation.

The Reranker protocol, the trainer that reranks, and the sources of candidates.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "rerank": [
            "Candidates",
            "RatingReranker",
            "Reranked",
            "Reranker",
            "evaluate_ranking",
            "make_reranking_trainer",
        ]
    },
)
