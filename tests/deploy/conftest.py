"""Tests of the deployment: marked long, because their packages are large and only `make test-long` installs them."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, before -m selects."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.long)
