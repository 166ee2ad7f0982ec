import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Twelve train and four validation examples of the rating task."""
    import students

    return str(students.write_data(tmp_path_factory.mktemp("data") / "rating"))
