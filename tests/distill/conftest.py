import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A base model of two random layers with SmolLM2's tokenizer."""
    import students

    return str(students.tiny_llama(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Twelve train and four validation examples of the rating task."""
    import students

    return str(students.write_data(tmp_path_factory.mktemp("data") / "rating"))
