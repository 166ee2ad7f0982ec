"""The bias-only row on the authors' rating split; the full table is benchmarks/paper_splits.py."""

from __future__ import annotations

import numpy as np
import pytest

from dataset_converters.__main__ import main as convert
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.evaluator.ratings import predict_ratings, rating_metrics
from recbole_exp3rt.trainer.fitting import fit


@pytest.mark.realdata
def test_bias_on_imdb_aligned(real_data, tmp_path):
    source, target = real_data / "imdb-aligned", tmp_path / "dataset" / "imdb-aligned"
    arguments = ["--part", "aligned", "--input_path", str(source), "--output_path", str(target)]
    assert convert(["exp3rt", *arguments]) == 0
    split = load_split(Config("Bias", "imdb-aligned"))
    rows = np.arange(split.size("test"))
    predictions = predict_ratings(fit("Bias", split.config, split, refit=True), split, rows)
    metrics = rating_metrics(split.config, split, predictions, rows)
    assert len(rows) == 407 and metrics["rmse"] == pytest.approx(1.82, abs=0.03)
