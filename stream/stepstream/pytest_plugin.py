"""A pytest plugin: the fixture `stepstream_engine` makes engines with virtual time."""

import pytest

from stepstream.testing import VirtualEngine


@pytest.fixture
def stepstream_engine() -> type[VirtualEngine]:
    """Return VirtualEngine: `async with stepstream_engine(app) as engine: …`."""
    return VirtualEngine
