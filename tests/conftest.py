"""What holds for every test: a command that it runs in its own process sets up logging, which ends with the test."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def own_root() -> Iterator[None]:
    """Put the root logger back as it was: its handlers write to a stream of the test that is closed afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
