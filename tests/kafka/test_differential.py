"""Random programs give the same histories in memory, in memory on four shards, and on a real broker."""

import asyncio
import os
from pathlib import Path

import pytest

from stepstream.contract.history import StepEnded
from stepstream.testing import VirtualEngine
from tests.kafka.broker import running_broker
from tests.kafka.random_programs import Lines, Programs, comparable
from tests.kafka.worlds import KafkaWorld, fresh_namespace

PER_WORLD = 12
# `DIFFERENTIAL=500` runs it at length.
COUNT = int(os.environ.get("DIFFERENTIAL", "24"))


def groups() -> list[range]:
    """Return the seeds, so many a world."""
    return [range(first, min(first + PER_WORLD, COUNT)) for first in range(0, COUNT, PER_WORLD)]


async def in_memory(seeds: range, shards: int) -> Lines:
    """Return the histories of some programs in memory."""
    programs = Programs(seeds)
    async with VirtualEngine(programs.app, shards=shards) as engine:
        await programs.play(engine)
        return comparable(engine.history)


async def on_kafka(seeds: range, bootstrap: str, folder: Path) -> Lines:
    """Return their histories on a broker, with one shard or four, with the live cache or with every run replayed."""
    programs = Programs(seeds)
    turn = seeds.start // PER_WORLD
    shards, live_cache = (4, False) if turn % 2 else (1, True)
    world = KafkaWorld(
        bootstrap, fresh_namespace(), programs.app, shards=shards, live_cache=live_cache, data_dir=folder
    )
    async with world as engine:
        await programs.play(engine)
        return comparable(engine.history)


def differences(seeds: range, wanted: Lines, found: Lines) -> list[str]:
    """Return what is not the same, with both sides."""
    return [
        f"{name} (seeds {seeds}): {branch or 'run'}\n  {wanted.get(name, {}).get(branch)}\n  {lines.get(branch)}"
        for name in sorted(wanted.keys() | found.keys())
        for lines in [found.get(name, {})]
        for branch in sorted(wanted.get(name, {}).keys() | lines.keys())
        if wanted.get(name, {}).get(branch) != lines.get(branch)
    ]


@pytest.mark.parametrize("seeds", groups(), ids=str)
async def test_shards_make_no_difference(seeds: range) -> None:
    """One shard and four tell the same of each run."""
    wanted = await in_memory(seeds, 1)
    assert len(wanted) >= len(seeds)
    assert not differences(seeds, wanted, await in_memory(seeds, 4))


@pytest.mark.kafka
@pytest.mark.slow
def test_kafka_makes_no_difference(tmp_path: Path) -> None:
    """A broker tells the same as memory, with one shard and with four, and whether runs are replayed or not.

    Free are moments and the ids made of them, the order between branches of one gather, and that runs moved.
    """
    found: list[str] = []
    with running_broker() as bootstrap:
        for seeds in groups():
            told = asyncio.run(on_kafka(seeds, bootstrap, tmp_path / str(seeds.start)))
            found += differences(seeds, asyncio.run(in_memory(seeds, 1)), told)
    assert not found, "\n".join(found[:10])


async def test_a_difference_would_be_seen() -> None:
    """Another output, a lost entry, or two entries the other way round are differences."""
    seeds = range(3)
    programs = Programs(seeds)
    async with VirtualEngine(programs.app) as engine:
        await programs.play(engine)
        history = list(engine.history)
    wanted = comparable(history)
    assert not differences(seeds, wanted, comparable(history))
    ended = next(at for at, entry in enumerate(history) if isinstance(entry, StepEnded))
    assert differences(seeds, wanted, comparable(history[:ended] + history[ended + 1 :]))
    assert differences(seeds, wanted, comparable([*history[:-1], history[-1], history[ended]]))
