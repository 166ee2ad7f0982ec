"""A calibration out of a run's validation pairs, honestly: nothing it reads was learned from."""

from __future__ import annotations

import numpy as np

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.slices import sample_rows
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.evaluator.calibration import Calibration, fit_calibration
from recbole_exp3rt.evaluator.ratings import rate_pairs
from recbole_exp3rt.model.rater import Rater
from recbole_exp3rt.trainer.fitting import Fitted, fit


def calibrate(
    config: Config,
    settings: Settings,
    split: Split,
    rater: Rater,
    bias: Fitted,
    *,
    refit: bool,
    seed: int,
) -> Calibration:
    """Fitted on random validation pairs that are rated out of the train part alone.

    With `refit` the run's `rater` and `bias` have read the validation rows; fitted on what those
    say of them, a calibration would trust them too much. So others are asked: the same models on
    a corpus of the train part, a Bias of the train part.
    """
    if refit:
        corpus = corpus_of(split.train, settings.description_fields, settings.review_file)
        rater, bias = rater.over(corpus), fit("Bias", config, split, refit=False)
    rows = sample_rows(split.size("valid"), settings.calibration_pairs, seed)
    pairs = [split.pairs("valid")[row] for row in rows]
    return fit_calibration(
        settings.calibration,
        np.array([p.expected if p else np.nan for p in rater.rate(pairs)]),
        np.array(rate_pairs(bias, split, pairs) if pairs else []),
        split.ratings("valid")[rows],
    )
