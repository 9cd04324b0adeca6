"""A step that takes longer than any time-out of a group: other runs go on beside it, and its worker ends after it."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from stepstream.contract.history import RunBegan, RunEnded, RunMoved
from stepstream.contract.topics import EVENTS
from stepstream.runtime.kafka import SESSION_MS, Cluster, KafkaSettings
from stepstream.runtime.ports import NewRecord
from tests.kafka.broker import running_broker
from tests.kafka.fleet import Fleet
from tests.kafka.judging import Runs, until_ended, until_registered
from tests.kafka.test_probes import WAIT_S_MAX, Observed, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
SHARDS = 2
OTHERS = 20
APP = Path(__file__).with_name("long_app.py")


async def feed(cluster: Cluster, numbers: range) -> None:
    """Start a run for each number."""
    producer = await cluster.producer()
    values = [json.dumps({"name": "long/go", "id": f"long-{n}", "data": {"n": n}}).encode() for n in numbers]
    await producer.send(
        [NewRecord(EVENTS, -1, str(n).encode(), value) for n, value in zip(numbers, values, strict=True)]
    )
    await producer.close()


def ended(runs: Runs) -> set[str]:
    """Return the ids of the events whose runs have completed."""
    found = set[str]()
    for entries in runs.values():
        if isinstance(entries[0], RunBegan) and isinstance(entries[-1], RunEnded):
            assert entries[-1].status == "completed"
            found.add(entries[0].events[0].id)
    return found


def moves(runs: Runs) -> int:
    """Return how often a worker took a run from another."""
    return sum(isinstance(entry, RunMoved) for entries in runs.values() for entry in entries)


async def observe(fleet: Fleet, cluster: Cluster, gate: Path) -> None:
    """Hold one step for more than two time-outs, while runs come and go in the same worker."""
    fleet.add_engine()
    worker = fleet.add_worker("--metrics-port", "0", LONG_GATE=str(gate))
    await until_registered(cluster, SHARDS)
    observed = Observed(fleet.engines, fleet.workers)
    try:
        await feed(cluster, range(1))
        until = time.monotonic() + 2.2 * SESSION_MS / 1_000
        number = 1
        while time.monotonic() < until:
            await feed(cluster, range(number, number + OTHERS))
            number += OTHERS
            runs = await until_ended(cluster, number - 1)
            assert (ended(runs), moves(runs)) == ({f"long-{n}" for n in range(1, number)}, 0)
        assert observed.scrape(worker).sum("stepstream_rebalances_total", group="worker") == 1
        await asyncio.to_thread(gate.write_text, "go on")
        runs = await until_ended(cluster, number)
        assert ("long-0" in ended(runs), moves(runs)) == (True, 0)
    finally:
        observed.client.close()


async def retire(fleet: Fleet, cluster: Cluster, gate: Path) -> None:
    """Ask the worker that holds a step to end: others get its other runs, and the rest of this one when it is done."""
    fleet.add_engine()
    for _ in range(2):
        # Without a name of its own the group forgets it when it goes.
        fleet.add_worker("--drain-s", "60", LONG_GATE=str(gate), STEPSTREAM_INSTANCE="")
    await until_registered(cluster, SHARDS)
    await asyncio.to_thread(until, lambda: all(worker.said("partitions [") for worker in fleet.workers))
    await feed(cluster, range(1))
    begun = gate.with_suffix(".begun")
    await asyncio.to_thread(until, begun.exists)
    (holder,) = [worker for worker in fleet.workers if worker.process and str(worker.process.pid) in begun.read_text()]
    assert holder.process
    holder.process.terminate()
    await asyncio.to_thread(until, lambda: bool(holder.said("steps at work have 60 s to end")))
    await feed(cluster, range(1, OTHERS))
    assert ended(await until_ended(cluster, OTHERS - 1)) == {f"long-{n}" for n in range(1, OTHERS)}
    assert (holder.said("the group of commands.long is left"), holder.ended) == (1, False)
    await asyncio.to_thread(gate.write_text, "go on")
    runs = await until_ended(cluster, OTHERS)
    (entries,) = [each for each in runs.values() if isinstance(each[0], RunBegan) and each[0].events[0].id == "long-0"]
    assert await asyncio.to_thread(holder.process.wait, WAIT_S_MAX) == 0
    assert holder.said("all has come to rest")
    end = entries[-1]
    assert isinstance(end, RunEnded)
    held, after = json.loads(bytes(end.output))
    others = {worker.process.pid for worker in fleet.workers if worker.process and worker is not holder}
    assert (held, {after}) == (holder.process.pid, others)
    assert begun.read_text().split() == [str(holder.process.pid)]
    assert sum(isinstance(entry, RunMoved) for entry in entries) == 1


@pytest.mark.parametrize("scene", [observe, retire])
def test_a_long_step(tmp_path: Path, scene: Callable[[Fleet, Cluster, Path], Coroutine[Any, Any, None]]) -> None:
    """It holds up no other run and moves none; and a worker that is asked to end lets it end first, here, once."""
    os.mkfifo(tmp_path / "gate")
    with running_broker() as bootstrap:
        fleet = Fleet(bootstrap, "long", tmp_path, APP, tmp_path / "effects.txt")
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "long")
        try:
            asyncio.run(scene(fleet, Cluster(KafkaSettings(bootstrap, "long")), tmp_path / "gate"))
        except BaseException as error:
            error.add_note(fleet.logs())
            raise
        finally:
            fleet.stop()
