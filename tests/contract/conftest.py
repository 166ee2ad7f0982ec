"""A server with OpenAI's Batch route, and its model, for more than one file."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from batch_stand_in import batches

from recbole_exp3rt.llm.server import batch_route, endpoint, openai_batch
from recbole_exp3rt.llm.server.openai_batch import OpenAIBatch
from recbole_exp3rt.llm.server.openai_llm import HTTPOptions


@pytest.fixture
def batch_server(monkeypatch):
    """A stand-in of the Batch route, with waiting times of a test."""
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(endpoint, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(batch_route, "SETTLE", 0.5)
    monkeypatch.setattr(openai_batch, "SETTLE", 0.5)
    with batches() as (server, url):
        server.url = url
        yield server


@pytest.fixture
def to(batch_server, tmp_path):
    """to(**options) -> the model behind that server."""

    def make(**options):
        options = {"batch_poll_seconds": 0.02, "max_retries": 3, **options}
        places = {"batch_dir": str(tmp_path / "batches")}
        return OpenAIBatch("teacher", HTTPOptions((batch_server.url,), **places, **options))

    return make
