"""EXP3RT, the review-driven preference reasoner, as a plugin of RecBole.

The names below are imported when they are first used, so `import recbole_exp3rt` does not load
torch, transformers or recbole.
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
        "rerank.reranker": ["Candidates", "RatingReranker", "Reranker"],
        "rerank.trainer": ["make_reranking_trainer"],
        "scale": ["RatingScale"],
    },
)
