"""The validation rows that the numbers of a prior are taken from, and a corpus without them."""

from __future__ import annotations

from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.data.slices import sample_rows
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.stages.anchoring import HeldOut


def held_out(
    split: Split, settings: Settings, corpus: Corpus, *, refit: bool, seed: int
) -> HeldOut | None:
    """What a prior needs of `split`; None where nothing is taken from it, or without validation.

    `corpus` is that of the run. With `refit` it holds the validation rows, so another one is made
    of the train part.
    """
    n_rows = split.size("valid")
    if not settings.stages.needs_bias or not n_rows:
        return None
    if refit:
        corpus = corpus_of(split.train, settings.description_fields, settings.review_file)
    rows = sample_rows(n_rows, settings.calibration_pairs, seed)
    return HeldOut(corpus, split.pairs("valid"), split.ratings("valid"), rows.tolist())
