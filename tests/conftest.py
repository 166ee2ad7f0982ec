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
