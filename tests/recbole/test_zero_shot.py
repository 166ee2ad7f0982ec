"""Zero-shot EXP3RT is a settings file that is named: its prompts, asked of an untrained model."""

import shutil

import pytest

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.quick_start.quick_start import run


@pytest.fixture
def sample(tmp_path, sample_files):
    shutil.copytree(sample_files, tmp_path / "dataset" / "sample")


def models_of(files, **given):
    settings = Settings.from_config(Config("EXP3RT", "sample", files, given))
    return {settings.preference_model, settings.profile_model, settings.rating_model}


def test_the_named_file_gives_every_step_to_one_untrained_model(sample):
    assert models_of(["zero-shot"]) == {"smollm2"} != models_of([])
    assert models_of(["zero-shot"], student="oracle") == {"oracle"}
    assert models_of(["zero-shot"], profile_model="oracle") == {"smollm2", "oracle"}


def test_it_runs_the_steps_of_exp3rt(sample):
    own = {"student": "oracle", "task": "rating", "eval_pairs": 5, "baselines": []}
    results = run("EXP3RT", "sample", config_files=["zero-shot"], config_dict=own)
    (row,) = [row for row in results.rows if (row.name, row.slice) == ("EXP3RT", "all")]
    assert row.coverage == 1 and row.n == 5
    assert set(results.about["steps"].values()) == {"sample-oracle (synthetic)"}
    assert results.about["stages"]["use_reasoning"], "its prompt with reasoning"


def test_a_file_of_the_user_s_wins_over_a_name_of_ours(sample, tmp_path):
    (tmp_path / "zero-shot").write_text("student: oracle\n")
    assert models_of(["zero-shot"], preference_model="oracle") >= {"oracle"}
    assert Config("EXP3RT", "sample", ["zero-shot"])["student"] == "oracle"
    with pytest.raises(UsageError, match="no settings file zero-shots; check config_files"):
        Config("EXP3RT", "sample", ["zero-shots"])
