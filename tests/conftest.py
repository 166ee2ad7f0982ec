"""What many tests use: the embedded student, loaded once."""

import os
import subprocess

# Before torch is imported, and inherited by every process of the tests: on shared cores, threads
# that wait for each other make small models ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct on the CPU in float32; fetched and converted on the first use."""
    from recbole_exp3rt.llm.names import load_llm

    return load_llm("smollm2", device="cpu")


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
