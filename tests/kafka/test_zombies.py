"""Processes that were frozen and given up: what they had begun is undone, and they do nothing that others have done."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from stepstream.contract.codec import encode
from stepstream.contract.functions import EventTrigger, FunctionRegistered
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, decode_history
from stepstream.contract.topics import EVENTS, FUNCTIONS, HISTORY
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka import Cluster, KafkaSettings
from stepstream.runtime.kafka_log import KafkaLog
from stepstream.runtime.ports import NewRecord
from tests.kafka.broker import running_broker
from tests.kafka.fleet import Fleet
from tests.kafka.judging import judge_run, read_all, until_ended, until_registered
from tests.kafka.test_doubt import rows_of
from tests.kafka.test_probes import WAIT_S_MAX, until
from tests.kafka.zombie_app import STOPS, STOPS_IN

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
ZOMBIE = "tests.kafka.zombie_engine"
APP = Path(__file__).with_name("zombie_app.py")
FENCED = "Fenced: committing: a newer owner is there"
RUNS = 20


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    """Return the address of a broker for this file."""
    with running_broker() as address:
        yield address


async def produce(cluster: Cluster, topic: str, values: Sequence[bytes]) -> None:
    """Append records."""
    producer = await cluster.producer()
    await producer.send([NewRecord(topic, 0, b"", value) for value in values])
    await producer.close()


async def go(cluster: Cluster, numbers: range) -> None:
    """Start a run for each number."""
    await produce(
        cluster, EVENTS, [json.dumps({"name": "zombie/go", "id": f"go-{number}"}).encode() for number in numbers]
    )


async def uncommitted(cluster: Cluster) -> int:
    """Return how many records of history there are, those of open transactions among them."""
    reader = await cluster.reader(committed=False)
    try:
        return (await reader.ends([(HISTORY, 0)]))[HISTORY, 0]
    finally:
        await reader.close()


async def until_history(cluster: Cluster, entries: int) -> list[HistoryEntry]:
    """Return what is committed of history once there is so much."""
    async with asyncio.timeout(WAIT_S_MAX):
        while len(found := [decode_history(record.value) for record in await read_all(cluster, HISTORY)]) < entries:
            pass
    return found


async def outlive_a_commit(fleet: Fleet, told: Path) -> None:
    """Stop an engine in the middle of a commit, take its shard over, and let it go on."""
    cluster = Cluster(KafkaSettings(fleet.bootstrap, fleet.namespace))
    engine = fleet.add_engine(module=ZOMBIE, ZOMBIE_TOLD=str(told))
    functions = (("chain", (EventTrigger("zombie/go"),)), ("other", ()))
    await produce(cluster, FUNCTIONS, [encode(FunctionRegistered(name, "zombie", on)) for name, on in functions])
    await until_registered(cluster, 1)
    second = KafkaLog(cluster, SystemClock(), 0)
    before = await rows_of(second)
    await asyncio.to_thread(told.touch)
    await go(cluster, range(RUNS))
    await asyncio.to_thread(until, lambda: bool(engine.said(STOPS)))
    assert await uncommitted(cluster) > 0
    await second.open()
    assert await rows_of(second) == before
    await second.begin()
    await second.send([], [(b"row", b"of the second")])
    await second.commit({})
    await second.close()
    engine.thaw()
    found = await until_history(cluster, RUNS)
    assert (engine.said(FENCED), engine.ended) == (1, False)
    assert [(type(entry), entry.seq) for entry in found] == [(RunBegan, 1)] * RUNS
    assert len({entry.run_id for entry in found}) == RUNS
    assert (b"row", b"of the second") in await rows_of(second)


def test_an_engine_that_thaws_in_a_commit_is_fenced(bootstrap: str, tmp_path: Path) -> None:
    """It wrote all of a transaction, and another has its shard before it commits: nothing of it is ever there."""
    fleet = Fleet(bootstrap, "fenced", tmp_path, APP, tmp_path / "effects.txt")
    fleet.command("topics", "apply", "--shards", "1", "--app", "zombie")
    try:
        asyncio.run(outlive_a_commit(fleet, tmp_path / "told"))
    except BaseException as error:
        error.add_note(fleet.logs())
        raise
    finally:
        fleet.stop()


async def outlive_a_process_of_each_kind(fleet: Fleet, folder: Path) -> None:
    """Have a worker stop in a chain of steps and an engine in a commit, others end all, and both go on."""
    cluster = Cluster(KafkaSettings(fleet.bootstrap, fleet.namespace))
    engine_told, worker_told = folder / "engine-told", folder / "worker-told"
    engine = fleet.add_engine(module=ZOMBIE, ZOMBIE_TOLD=str(engine_told))
    worker = fleet.add_worker(ZOMBIE_TOLD=str(worker_told))
    await until_registered(cluster, 1)
    await asyncio.to_thread(worker_told.touch)
    await go(cluster, range(RUNS))
    await asyncio.to_thread(until, lambda: bool(worker.said(STOPS)))
    await asyncio.to_thread(engine_told.touch)
    await go(cluster, range(RUNS, RUNS + 1))
    await asyncio.to_thread(until, lambda: bool(engine.said(STOPS)))
    assert worker.process
    fleet.add_engine()
    fleet.add_worker()
    await until_ended(cluster, RUNS + 1)
    zombie = str(worker.process.pid)
    before = [line.split() for line in fleet.effects.read_text().splitlines()]
    assert {pid for _, step, pid in before if step == STOPS_IN} > {zombie}
    engine.thaw()
    worker.thaw()
    # Both know by now that others have their work: the group has told them so.
    await asyncio.to_thread(until, lambda: worker.said("partitions [") > 1 and engine.said("are ours") > 1)
    await go(cluster, range(RUNS + 1, 2 * RUNS))
    runs = await until_ended(cluster, 2 * RUNS)
    assert [line for run_id, entries in runs.items() for line in judge_run(run_id, entries)] == []
    after = [line.split() for line in fleet.effects.read_text().splitlines()]
    older = {run_id for run_id, *_ in before}
    assert [line for line in after[len(before) :] if line[0] in older] == []
    assert {entry.status for entries in runs.values() for entry in entries if isinstance(entry, RunEnded)} == {
        "completed"
    }


def test_processes_that_thaw_do_nothing_that_others_have_done(bootstrap: str, tmp_path: Path) -> None:
    """An engine and a worker were given up for dead, and others have ended all that they had begun.

    When they go on, no body runs again, nothing is there twice, and they take part as before.
    """
    fleet = Fleet(bootstrap, "thawed", tmp_path, APP, tmp_path / "effects.txt")
    fleet.command("topics", "apply", "--shards", "1", "--app", "zombie")
    try:
        asyncio.run(outlive_a_process_of_each_kind(fleet, tmp_path))
    except BaseException as error:
        error.add_note(fleet.logs())
        raise
    finally:
        fleet.stop()
