"""What many tests use: the embedded student, loaded once."""

import gc
import os
import shutil
import subprocess
import sys

# Before torch is imported, and inherited by every process of the tests: on shared cores, threads
# that wait for each other make small models ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from importlib.util import find_spec
from pathlib import Path

import pytest
from needed import need

# Without torch (CI on Python 3.13), what needs it is left out: whole folders and files by name,
# single tests as skipped.
WITHOUT_TORCH = find_spec("torch") is None
NEED_TORCH = ["cluster", "distill", "end_to_end", "gpu", "recbole"]
NEED_TORCH += ["unit/test_calibration.py", "unit/test_exports.py", "unit/test_style.py"]
NEED_TORCH += [
    f"contract/test_{name}.py"
    for name in ("doctor", "llama3", "memory", "packed", "served_teacher", "transformers_local")
]
NEED_TORCH += ["contract/test_untrusted.py"]
collect_ignore = NEED_TORCH if WITHOUT_TORCH else []


def pytest_xdist_auto_num_workers(config):
    """Two processes for a folder or more; a file or a single test runs in this one."""
    return 2 if all(Path(name).is_dir() for name in config.args) else 0


def pytest_xdist_make_scheduler(config, log):
    """A file is of one process, files go in the order of names; there is one Ray, and one GPU."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            folder = file.rpartition("/")[0]
            return folder if folder in ("tests/cluster", "tests/gpu") else file

    return Files(config, log)


def pytest_collection_finish():
    """What is imported by now stays: the garbage collector need not look at it at each training."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield from _skipped_without_torch())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from _skipped_without_torch())


def _skipped_without_torch():
    try:
        return (yield)
    except Exception as error:
        if WITHOUT_TORCH and "torch" in str(error):
            pytest.skip("needs torch")
        raise


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct on the CPU in float32; fetched and converted on the first use."""
    from recbole_exp3rt.llm.names import load_llm

    return load_llm("smollm2", device="cpu")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The folder of a model of two random layers with SmolLM2's tokenizer."""
    sys.path.insert(0, str(Path(__file__).parent / "distill"))
    import students

    return str(students.tiny_llama(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="session")
def tiny_llm(tiny):
    """That model: what does not depend on what a model says is shown with it in no time."""
    from recbole_exp3rt.llm.local.transformers_llm import TransformersLLM

    return TransformersLLM(tiny, device="cpu")


@pytest.fixture(scope="session")
def sample_files(tmp_path_factory):
    """The folder of the data set `sample`, made once; who writes into it takes a copy."""
    from dataset_converters.sample import make_sample

    folder = tmp_path_factory.mktemp("made") / "sample"
    make_sample(folder)
    return folder


@pytest.fixture(scope="session")
def llama_server():
    """Base URL of a real llama.cpp server with the embedded model, in a process of its own."""
    import llama_server

    process, url = llama_server.start()
    yield url
    process.stdin.close()  # ends it
    process.wait(timeout=10)


@pytest.fixture(scope="session")
def served(llama_server):
    """The embedded model behind that server, its labels read exactly."""
    from recbole_exp3rt.llm.server.openai_llm import HTTPOptions, OpenAIHTTP

    return OpenAIHTTP("smollm2", HTTPOptions(base_url=(llama_server,)))


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    need(chromium, "chromium")
    need(find_spec("playwright"), "playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        found = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="session")
def cluster():
    """A real PostgreSQL server of these tests alone."""
    import postgres_server

    need(postgres_server.programs(), "PostgreSQL")
    need(find_spec("psycopg"), "psycopg")
    started = postgres_server.Cluster(postgres_server.programs())
    yield started
    started.remove()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """Where a new store may be: a file, and a database."""
    if request.param == "sqlite":
        return str(tmp_path / "answers.sqlite")
    return request.getfixturevalue("cluster").database()


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 200 kB, and what makes room for 20 MB, or changes it as told."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(size):
        command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)]
        return subprocess.run(command, capture_output=True).returncode == 0

    if not mount("size=200k"):
        pytest.skip("a small disk can be mounted by root only")
    yield disk, lambda how="remount,size=20m": mount(how)
    subprocess.run(["umount", str(disk)], check=False)
