"""What many tests use: the embedded student, loaded once."""

import os

# Before torch is imported, and inherited by every process of the tests: on shared cores, threads
# that wait for each other make small models ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct on the CPU in float32; fetched and converted on the first use."""
    from recbole_exp3rt.llm.load import load_llm

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
    from recbole_exp3rt.llm.openai_http import HTTPOptions, OpenAIHTTP

    return OpenAIHTTP("smollm2", HTTPOptions(base_url=(llama_server,)))
