"""What holds for every test: a command that it runs in its own process sets up logging, which ends with the test."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def own_root() -> Iterator[None]:
    """Put the loggers back as they were: the handlers of the root write to a stream of the test, closed afterwards."""
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(f"stepstream{name}") for name in ("", ".step", ".code", ".run"))]
    handlers, levels = root.handlers[:], [logger.level for logger in loggers]
    yield
    root.handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
