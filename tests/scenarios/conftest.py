"""Each scenario runs in memory with 1 and 5 shards and on disk, with the live cache on and off."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stepstream import App
from stepstream.testing import VirtualEngine


@dataclass(frozen=True, slots=True)
class World:
    """Where a scenario runs."""

    name: str
    shards: int
    live_cache: bool
    durable: bool


WORLDS = [
    World("memory", 1, True, False),
    World("memory-replayed", 1, False, False),
    World("shards", 5, True, False),
    World("shards-replayed", 5, False, False),
    World("disk", 1, True, True),
    World("disk-replayed", 1, False, True),
]
EngineOf = Callable[..., VirtualEngine]


@pytest.fixture(params=WORLDS, ids=lambda world: world.name)
def world(request: pytest.FixtureRequest) -> World:
    """The world of this scenario."""
    chosen: World = request.param
    return chosen


@pytest.fixture
def engine_of(world: World, tmp_path: Path) -> EngineOf:
    """Make an engine of this world for an app."""

    def make(*apps: App, **options: Any) -> VirtualEngine:
        data_dir = tmp_path / "data" if world.durable else None
        return VirtualEngine(*apps, shards=world.shards, live_cache=world.live_cache, data_dir=data_dir, **options)

    return make
