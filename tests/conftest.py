"""What many tests use: the embedded student, loaded once."""

import pytest


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct on the CPU in float32; fetched and converted on the first use."""
    from recbole_exp3rt.llm.load import load_llm

    return load_llm("smollm2", device="cpu")
