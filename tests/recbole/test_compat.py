"""RecBole on today's libraries, and our models through RecBole's own functions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import structured_rows

from recbole_exp3rt.config import compat
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.rerank.evaluation import evaluate_ranking
from recbole_exp3rt.trainer.fitting import fit


def test_names_that_numpy_dropped():
    compat.apply()
    assert np.float is np.float64 and np.zeros(1, dtype=np.bool).dtype == bool


@pytest.mark.parametrize("metric", ["ItemCoverage", "GiniIndex", "AveragePopularity", "GAUC"])
def test_every_metric_of_recbole_can_be_measured(make_world, metric):
    config = make_world(
        structured_rows(), model="Pop", metrics=[metric, "Recall"], valid_metric="Recall@20"
    )
    split = load_split(config)
    metrics = evaluate_ranking(config, split, fit("Pop", config, split)).metrics
    assert any(name.startswith(metric.lower()) for name in metrics)


def test_training_leaves_no_event_files(make_world, tmp_path):
    config = make_world(structured_rows(), model="BPR", epochs=1)
    fit("BPR", config, load_split(config))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "saved"]
    assert not list((tmp_path / "saved").iterdir()), "a search keeps its weights in memory"


def test_no_output_and_no_warning_of_libraries(make_world, tmp_path):
    make_world(structured_rows(), model="LightGCN")
    code = (
        "from recbole_exp3rt.config.configurator import Config\n"
        "from recbole_exp3rt.data.split import load_split\n"
        "from recbole_exp3rt.trainer.fitting import fit\n"
        "for name in ('LightGCN', 'MF', 'WDL', 'NGCF'):\n"
        "    c = Config(name, 'world', config_dict={'epochs': 1, 'rating_scale': [1, 5], 'load_col'"
        ": {'inter': ['user_id', 'item_id', 'rating', 'timestamp']}})\n"
        "    fit(name, c, load_split(c))\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "import_it",
    [
        "from recbole_exp3rt.config.registry import find_model; find_model('SASRec')",
        "import recbole_exp3rt, recbole.utils; recbole_exp3rt.register(); "
        "recbole.utils.get_model('GRU4Rec')",
    ],
)
def test_a_sequential_model_makes_no_training_of_the_process_slow(import_it):
    """RecBole's SINE, imported with any of them, has torch look for anomalies in each step."""
    code = f"{import_it}; import torch; print('looks:', torch.is_anomaly_enabled())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "looks: False" in done.stdout


def test_recbole_finds_our_models_by_name():
    from recbole_exp3rt.config.native import register
    from recbole_exp3rt.config.registry import MODELS
    from recbole_exp3rt.model.mf import MF

    register()  # before the names of RecBole are taken
    from recbole.utils import get_model

    assert get_model("MF") is MF
    for name in MODELS:
        assert get_model(name).__module__.startswith("recbole_exp3rt")
    assert get_model("NeuMF").__module__.startswith("recbole.")


def test_gpu_id_chooses_and_use_gpu_refuses(make_world):
    config = make_world(structured_rows(), use_gpu=False, gpu_id=(0, 1))  # as `0,1` is read
    assert config["device"] == torch.device("cpu")
    assert config["gpu_id"] == "0,1"
