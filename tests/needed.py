"""What a test needs of the machine."""

import os

import pytest


def need(found, what):
    """Skip a test that needs `what`; where CI=true that is a failure."""
    if not found:
        missing = f"{what} is not installed"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
