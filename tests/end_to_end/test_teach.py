"""`--train=True`: what it refuses before any work."""

import pytest

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.quick_start import run


def test_what_leaves_nothing_to_train_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="a model is named for every step"):
        run("EXP3RT", "sample", config_dict={"train": True, "rating_model": "oracle"})
    assert not (tmp_path / "saved").exists()
