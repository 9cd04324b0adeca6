"""Each scenario runs in memory with 1 and 5 shards, on disk, and on Kafka with 1 and 4, live or replayed."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stepstream import App
from stepstream.testing import VirtualEngine
from tests.kafka.broker import running_broker
from tests.kafka.worlds import KafkaWorld, fresh_namespace


@dataclass(frozen=True, slots=True)
class World:
    """Where a scenario runs."""

    name: str
    shards: int
    live_cache: bool
    durable: bool
    kafka: bool = False


WORLDS = [
    World("memory", 1, True, False),
    World("memory-replayed", 1, False, False),
    World("shards", 5, True, False),
    World("shards-replayed", 5, False, False),
    World("disk", 1, True, True),
    World("disk-replayed", 1, False, True),
    World("kafka", 1, True, True, kafka=True),
    World("kafka-4-replayed", 4, False, True, kafka=True),
]
KAFKA = (pytest.mark.kafka, pytest.mark.slow)
PARAMETERS = [pytest.param(world, marks=KAFKA if world.kafka else (), id=world.name) for world in WORLDS]
ON_DISK = [parameter for world, parameter in zip(WORLDS, PARAMETERS, strict=True) if world.durable]

on_disk = pytest.mark.parametrize("world", ON_DISK, indirect=True)
EngineOf = Callable[..., VirtualEngine]


@pytest.fixture(scope="session")
def broker_of() -> Iterator[Callable[[], str]]:
    """Return what starts the broker of this session, when the first scenario asks for it."""
    with ExitStack() as stack:
        started: list[str] = []

        def address() -> str:
            if not started:
                started.append(stack.enter_context(running_broker()))
            return started[0]

        yield address


@pytest.fixture(params=PARAMETERS)
def world(request: pytest.FixtureRequest) -> World:
    """The world of this scenario."""
    chosen: World = request.param
    return chosen


@pytest.fixture
def engine_of(world: World, tmp_path: Path, broker_of: Callable[[], str]) -> EngineOf:
    """Make an engine of this world for an app."""
    if world.kafka:
        return functools.partial(
            KafkaWorld,
            broker_of(),
            fresh_namespace(),
            shards=world.shards,
            live_cache=world.live_cache,
            data_dir=tmp_path / "data",
        )

    def make(*apps: App, **options: Any) -> VirtualEngine:
        data_dir = tmp_path / "data" if world.durable else None
        return VirtualEngine(*apps, shards=world.shards, live_cache=world.live_cache, data_dir=data_dir, **options)

    return make
