"""A folder with the sample in it, as a first run leaves it."""

import os

import pytest
from sample_oracle import ORACLE

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.quick_start.quick_start import main
from recbole_exp3rt.recommender import Recommender


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder with the sample in it, made by a run."""
    folder = tmp_path_factory.mktemp("home")
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert main(["--model=Bias", "--use_gpu=False"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(scope="module")
def known(home):
    """A recommender over the sample's train part, and the sample's split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        config = Config("EXP3RT", "sample", config_dict=ORACLE)
        return Recommender.from_config(config), load_split(config)
