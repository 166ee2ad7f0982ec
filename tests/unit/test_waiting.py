"""How OpenMP's threads wait is chosen before torch is loaded, and the user's choice is kept."""

import os
import subprocess
import sys

import pytest

from recbole_exp3rt.llm.local import waiting

OPENMP = (*waiting.WAITING, waiting.THREADS)

# Prints the choice when torch is about to be imported, and ends there.
AT_TORCH = """
import os, sys
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Stop())
"""
DOORS = {
    "command": "from recbole_exp3rt.cli.main import main; main(['run', '--dataset=sample'])",
    "train": "from recbole_exp3rt.cli.main import main; main(['train']); import torch",
    "run": "import recbole_exp3rt; recbole_exp3rt.run('BPR', 'sample')",
    "Recommender": "from recbole_exp3rt import Recommender, Review;"
    "Recommender.from_reviews([Review('u', 'i', 3, 'Good.')], rating_scale=(1, 5))",
    "Config": "from recbole_exp3rt.config.configurator import Config",
    "register": "import recbole_exp3rt; recbole_exp3rt.register()",
    "load_llm": "from recbole_exp3rt.llm.names import load_llm; load_llm('smollm2')",
}


@pytest.mark.parametrize("door", DOORS)
def test_the_waiting_is_chosen_before_torch_is_loaded(door, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in OPENMP}
    run = subprocess.run(
        [sys.executable, "-c", AT_TORCH + DOORS[door]],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stdout.splitlines()[-1:] == [str(waiting.SPINS)], run.stderr


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.parametrize("name", waiting.WAITING)
def test_what_the_user_said_about_waiting_is_kept(name, no_torch):
    environment = {name: "as the user likes"}
    waiting.choose(environment)
    assert {k: environment[k] for k in waiting.WAITING if k in environment} == {
        name: "as the user likes"
    }


def test_once_torch_is_loaded_nothing_changes(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", sys)
    environment = {}
    waiting.choose(environment)
    assert environment == {}


def test_there_are_no_more_threads_than_the_container_grants_cores(no_torch, monkeypatch):
    monkeypatch.setattr(waiting, "usable_cores", lambda: 64)
    monkeypatch.setattr(waiting, "cpu_quota", lambda: 2)
    environment, chosen = {}, {"OMP_NUM_THREADS": "7"}
    waiting.choose(environment)
    waiting.choose(chosen)
    assert environment["OMP_NUM_THREADS"] == "2" and chosen["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_container_says_how_many_cores_it_grants(files, cores, tmp_path):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert waiting.cpu_quota(tmp_path) == cores
