"""Each scenario runs in memory with 1 and 5 shards, on disk, and on Kafka, live or replayed.

`make fast` runs them live on one shard. `make test` also runs them replayed: on five shards, on disk, and, if they are
marked `log`, on four shards on Kafka. `make test-long` runs the rest, of which only those marked `log` run live on
Kafka: a scenario that passes live on disk and replayed on Kafka finds nothing more there.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stepstream import App
from stepstream.testing import VirtualEngine
from tests.kafka.cluster.worlds import KafkaWorld, fresh_namespace


@dataclass(frozen=True, slots=True)
class World:
    """Where a scenario runs."""

    name: str
    shards: int
    live_cache: bool
    durable: bool
    kafka: bool = False
    marks: tuple[pytest.MarkDecorator, ...] = ()
    """What decides which command runs a scenario here."""


SLOW, LONG, REPLAYED, KAFKA = pytest.mark.slow, pytest.mark.long, pytest.mark.replayed, pytest.mark.kafka
WORLDS = [
    World("memory", 1, True, False),
    World("memory-replayed", 1, False, False, marks=(LONG,)),
    World("shards", 5, True, False, marks=(LONG,)),
    World("shards-replayed", 5, False, False, marks=(SLOW, REPLAYED)),
    World("disk", 1, True, True, marks=(SLOW, LONG)),
    World("disk-replayed", 1, False, True, marks=(SLOW,)),
    World("kafka", 1, True, True, kafka=True, marks=(KAFKA, SLOW, LONG)),
    World("kafka-4-replayed", 4, False, True, kafka=True, marks=(KAFKA, SLOW)),
]
PARAMETERS = [pytest.param(world, marks=world.marks, id=world.name) for world in WORLDS]
ON_DISK = [parameter for world, parameter in zip(WORLDS, PARAMETERS, strict=True) if world.durable]

on_disk = pytest.mark.parametrize("world", ON_DISK, indirect=True)
EngineOf = Callable[..., VirtualEngine]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the scenarios on Kafka that are not marked `log` to `make test-long`, and out if they are live."""
    for item in list(items):
        world = _world_of(item)
        if world is None or not world.kafka or item.get_closest_marker("log"):
            continue
        if world.live_cache:
            items.remove(item)
        else:
            item.add_marker(pytest.mark.long)


def _world_of(item: pytest.Item) -> World | None:
    callspec = getattr(item, "callspec", None)
    world = callspec.params.get("world") if callspec else None
    return world if isinstance(world, World) else None


@pytest.fixture(params=PARAMETERS)
def world(request: pytest.FixtureRequest) -> World:
    """The world of this scenario."""
    chosen: World = request.param
    return chosen


@pytest.fixture
def engine_of(world: World, tmp_path: Path, request: pytest.FixtureRequest) -> EngineOf:
    """Return a function that makes an engine of this world for an app."""
    if world.kafka:
        return functools.partial(
            KafkaWorld,
            # Requested here, so that scenarios in memory start no broker.
            request.getfixturevalue("bootstrap"),
            fresh_namespace(),
            shards=world.shards,
            live_cache=world.live_cache,
            data_dir=tmp_path / "data",
        )

    def make(*apps: App, **options: Any) -> VirtualEngine:
        data_dir = tmp_path / "data" if world.durable else None
        return VirtualEngine(*apps, shards=world.shards, live_cache=world.live_cache, data_dir=data_dir, **options)

    return make
