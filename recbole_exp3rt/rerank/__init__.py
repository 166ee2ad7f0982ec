"""Reranking: an LLM or another model sorts the candidates of a generator.

`reranker` says what a reranker is, `trainer` reranks inside RecBole's evaluation, `evaluation`
measures, and `generators` makes the candidates from a model, a checkpoint or a file. A reranker
that asks a language model, such as `zs_ranker`, gets it from the run.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation": ["RankingResult", "evaluate_ranking"],
        "generators": ["load_generator"],
        "reranker": ["Candidates", "KeepOrder", "RatingReranker", "Reranked", "Reranker"],
        "trainer": ["make_reranking_trainer"],
    },
)
