"""The pytest plugin: the fixture `stepstream_engine` is the class `VirtualEngine`."""

import pytest

from stepstream.testing import VirtualEngine


@pytest.fixture
def stepstream_engine() -> type[VirtualEngine]:
    """Return VirtualEngine: `async with stepstream_engine(app) as engine: …`."""
    return VirtualEngine
