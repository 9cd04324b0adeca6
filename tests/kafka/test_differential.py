"""Random programs have the same histories in memory on one shard and on four, and on a real broker."""

import asyncio
import os
from pathlib import Path

import pytest

from stepstream.contract.history import StepEnded
from stepstream.testing import VirtualEngine
from tests.kafka.cluster.worlds import KafkaWorld, fresh_namespace
from tests.kafka.random_programs import LEAVES, Lines, Programs, comparable, make_program, names_of

PER_WORLD = 12
# DIFFERENTIAL=500 compares more programs.
COUNT = int(os.environ.get("DIFFERENTIAL", "24"))


def groups() -> list[range]:
    """Return the seeds in groups that share a world."""
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
    shards, live_cache = (4, False) if seeds.start // PER_WORLD % 2 else (1, True)
    world = KafkaWorld(
        bootstrap, fresh_namespace(), programs.app, shards=shards, live_cache=live_cache, data_dir=folder
    )
    async with world as engine:
        await programs.play(engine)
        return comparable(engine.history)


def differences(seeds: range, expected: Lines, found: Lines) -> list[str]:
    """Return what differs, with both sides."""
    return [
        f"{name} (seeds {seeds}): {branch or 'run'}\n  {expected.get(name, {}).get(branch)}\n  {lines.get(branch)}"
        for name in sorted(expected.keys() | found.keys())
        for lines in [found.get(name, {})]
        for branch in sorted(expected.get(name, {}).keys() | lines.keys())
        if expected.get(name, {}).get(branch) != lines.get(branch)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seeds", groups(), ids=str)
async def test_number_of_shards_does_not_change_histories(seeds: range) -> None:
    """Each run has the same history on one shard and on four."""
    expected = await in_memory(seeds, 1)
    assert len(expected) >= len(seeds)
    assert not differences(seeds, expected, await in_memory(seeds, 4))


@pytest.mark.kafka
@pytest.mark.long
def test_histories_on_kafka_are_those_in_memory(bootstrap: str, tmp_path: Path) -> None:
    """Each run has the same history on a broker, with one shard and with four, live and replayed.

    Times and the ids derived from them may differ, and so may the order of the branches of a gather, and moves.
    """
    found: list[str] = []
    for seeds in groups():
        lines = asyncio.run(on_kafka(seeds, bootstrap, tmp_path / str(seeds.start)))
        found += differences(seeds, asyncio.run(in_memory(seeds, 1)), lines)
    assert not found, "\n".join(found[:10])


def test_programs_have_steps_of_all_kinds() -> None:
    """Limits are among them: on steps, runs and work, singletons, throttles, rates, keys, debounces and batches."""
    programs = [make_program(seed) for seed in range(COUNT)]
    assert [kind for kind in LEAVES if not any(names_of(program, kind) for program in programs)] == []


async def test_differences_of_histories_are_detected() -> None:
    """A lost entry and a repeated entry are differences."""
    seeds = range(3)
    programs = Programs(seeds)
    async with VirtualEngine(programs.app) as engine:
        await programs.play(engine)
        history = list(engine.history)
    expected = comparable(history)
    assert not differences(seeds, expected, comparable(history))
    ended = next(at for at, entry in enumerate(history) if isinstance(entry, StepEnded))
    assert differences(seeds, expected, comparable(history[:ended] + history[ended + 1 :]))
    assert differences(seeds, expected, comparable([*history[:-1], history[-1], history[ended]]))
