"""Small worlds written as atomic files, in a folder that a test owns."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from worlds import Row, write_inter

from recbole_exp3rt.config.configurator import Config


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole writes below the current folder."""
    monkeypatch.chdir(tmp_path)


MakeWorld = Callable[..., Config]


@pytest.fixture
def make_world(tmp_path: Path) -> MakeWorld:
    """make_world(rows, model=…, part=rows…, **settings) -> the Config of a data set `world`."""

    def make(rows: Sequence[Row] | dict[str, Sequence[Row]], model: str = "Bias", **settings):
        folder = tmp_path / "dataset" / "world"
        if isinstance(rows, dict):
            for part, part_rows in rows.items():
                write_inter(folder / f"world.{part}.inter", part_rows)
            settings.setdefault("benchmark_filename", ["train", "valid", "test"])
        else:
            write_inter(folder / "world.inter", rows)
        values = {
            "rating_scale": [1, 5],
            "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
            **settings,
        }
        return Config(model, "world", config_dict=values)

    return make


@pytest.fixture
def real_data() -> Path:
    """The folder with real data; the test is skipped where it is absent."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("EXP3RT_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
