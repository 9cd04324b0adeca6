"""The pytest plugin: the fixture `stepstream_engine` is the class `VirtualEngine`."""

import importlib
from typing import Any

import pytest


@pytest.fixture
def stepstream_engine() -> Any:
    """Return VirtualEngine: `async with stepstream_engine(app) as engine: …`."""
    # Each start of pytest loads this module, and most test suites of an environment do not use the engine.
    return importlib.import_module("stepstream.testing").VirtualEngine
