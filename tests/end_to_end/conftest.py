"""A folder with the sample in it, as a first run leaves it."""

import os

import pytest

from recbole_exp3rt.quick_start.quick_start import main


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
