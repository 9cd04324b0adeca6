"""Members of consumer groups: remaining members keep their partitions, and a removed member repeats nothing."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from stepstream.contract.codec import encode
from stepstream.contract.functions import EventTrigger, FunctionRegistered
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, decode_history
from stepstream.contract.topics import EVENTS, FUNCTIONS, HISTORY, INBOX
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.reader import Membership, Reader
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.shards.shard_log import KafkaLog
from stepstream.runtime.ports import NewRecord
from tests.kafka.chaos.judging import judge_run
from tests.kafka.chaos.zombie_app import SUSPENDED, SUSPENDS_IN
from tests.kafka.chaos.zombie_engine import FENCED
from tests.kafka.cluster.fleet import APPS, Fleet
from tests.kafka.cluster.history import read_all, rows_of, until_ended, until_registered
from tests.polling import WAIT_S_MAX, until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
ZOMBIE = "tests.kafka.chaos.zombie_engine"
APP = APPS / "chaos" / "zombie_app.py"
RUNS = 20
PARTITIONS = 8


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
    """Return how many records history has, including those of open transactions."""
    reader = await cluster.reader(committed=False)
    try:
        return (await reader.ends([(HISTORY, 0)]))[HISTORY, 0]
    finally:
        await reader.close()


async def until_history(cluster: Cluster, entries: int) -> list[HistoryEntry]:
    """Return the committed entries of history once there are enough."""
    async with asyncio.timeout(WAIT_S_MAX):
        while len(found := [decode_history(record.value) for record in await read_all(cluster, HISTORY)]) < entries:
            pass
    return found


async def resume_in_a_commit(fleet: Fleet, stop_file: Path) -> None:
    """Suspend an engine in the middle of a commit, take over its shard, and resume it."""
    cluster = Cluster(KafkaSettings(fleet.bootstrap, fleet.namespace))
    engine = fleet.add_engine(module=ZOMBIE, ZOMBIE_STOP_FILE=str(stop_file))
    functions = (("chain", (EventTrigger("zombie/go"),)), ("other", ()))
    await produce(cluster, FUNCTIONS, [encode(FunctionRegistered(name, "zombie", on)) for name, on in functions])
    await until_registered(cluster, 1)
    second = KafkaLog(cluster, SystemClock(), 0, 1)
    before = await rows_of(second)
    await asyncio.to_thread(stop_file.touch)
    await go(cluster, range(RUNS))
    await asyncio.to_thread(until, lambda: bool(engine.said(SUSPENDED)))
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


def test_engine_suspended_in_a_commit_is_fenced(bootstrap: str, tmp_path: Path) -> None:
    """It wrote all records of a transaction, and another took its shard before the commit: no reader sees them."""
    with Fleet(bootstrap, "fenced", tmp_path, APP) as fleet:
        fleet.command("topics", "apply", "--shards", "1", "--app", "zombie")
        asyncio.run(resume_in_a_commit(fleet, tmp_path / "stop"))


async def resume_after_others_finished(fleet: Fleet, folder: Path) -> None:
    """Suspend a worker in a step and an engine in a commit, let others end all runs, and resume both."""
    cluster = Cluster(KafkaSettings(fleet.bootstrap, fleet.namespace))
    engine_stop, worker_stop = folder / "engine-stop", folder / "worker-stop"
    engine = fleet.add_engine(module=ZOMBIE, ZOMBIE_STOP_FILE=str(engine_stop))
    worker = fleet.add_worker(ZOMBIE_STOP_FILE=str(worker_stop))
    await until_registered(cluster, 1)
    await asyncio.to_thread(worker_stop.touch)
    await go(cluster, range(RUNS))
    await asyncio.to_thread(until, lambda: bool(worker.said(SUSPENDED)))
    await asyncio.to_thread(engine_stop.touch)
    await go(cluster, range(RUNS, RUNS + 1))
    await asyncio.to_thread(until, lambda: bool(engine.said(SUSPENDED)))
    assert worker.process
    fleet.add_engine()
    fleet.add_worker()
    await until_ended(cluster, RUNS + 1)
    zombie = str(worker.process.pid)
    before = [line.split() for line in fleet.effects.read_text().splitlines()]
    assert {pid for _, step, pid in before if step == SUSPENDS_IN} > {zombie}
    engine.thaw()
    worker.thaw()
    # After their next assignments, both know that the group gave their partitions to others.
    await asyncio.to_thread(until, lambda: worker.said("partitions [") > 1 and engine.said("assigned") > 1)
    await go(cluster, range(RUNS + 1, 2 * RUNS))
    runs = await until_ended(cluster, 2 * RUNS)
    assert [line for run_id, entries in runs.items() for line in judge_run(run_id, entries)] == []
    after = [line.split() for line in fleet.effects.read_text().splitlines()]
    older = {run_id for run_id, *_ in before}
    assert [line for line in after[len(before) :] if line[0] in older] == []
    assert {entry.status for entries in runs.values() for entry in entries if isinstance(entry, RunEnded)} == {
        "completed"
    }


def test_suspended_members_repeat_no_work_of_others(bootstrap: str, tmp_path: Path) -> None:
    """The group removed an engine and a worker, and others ended their runs.

    When both resume, no body runs again, no result exists twice, and they join the group again.
    """
    with Fleet(bootstrap, "thawed", tmp_path, APP) as fleet:
        fleet.command("topics", "apply", "--shards", "1", "--app", "zombie")
        asyncio.run(resume_after_others_finished(fleet, tmp_path))


class Member:
    """A member of a group, and its partitions."""

    def __init__(self) -> None:
        self.partitions = frozenset[int]()
        self._changed = asyncio.Event()
        self._reader: Reader | None = None

    async def join(self, cluster: Cluster, changed: asyncio.Event) -> "Member":
        """Join the group; `changed` is set at each assignment."""
        self._changed = changed
        self._reader = await cluster.reader(group="engine")
        self._reader.join(INBOX, Membership(self._assigned, self._revoked))
        return self

    async def _assigned(self, partitions: list[int]) -> None:
        self.partitions = frozenset(partitions)
        self._changed.set()

    async def _revoked(self, _: list[int]) -> None:
        self.partitions = frozenset()

    async def leave(self) -> None:
        """Leave the group."""
        if self._reader is not None:
            await self._reader.close()


async def until_shared(members: Sequence[Member], changed: asyncio.Event) -> list[frozenset[int]]:
    """Return the partitions of each member once each has some, and all are assigned once."""
    async with asyncio.timeout(WAIT_S_MAX):
        while sorted(at for member in members for at in member.partitions) != list(range(PARTITIONS)) or not all(
            member.partitions for member in members
        ):
            await changed.wait()
            changed.clear()
    return [member.partitions for member in members]


async def join_one_by_one(bootstrap: str) -> list[list[frozenset[int]]]:
    """Let three members join; return the partitions of each member after each join."""
    cluster = Cluster(KafkaSettings(bootstrap, "sharing"))
    await cluster.create({INBOX: (PARTITIONS, {})}, 1)
    members: list[Member] = []
    changed = asyncio.Event()
    found: list[list[frozenset[int]]] = []
    try:
        for _ in range(3):
            members.append(await Member().join(cluster, changed))
            found.append(await until_shared(members, changed))
    finally:
        await asyncio.gather(*(member.leave() for member in members))
    return found


def test_rebalance_moves_partitions_only_to_the_new_member(bootstrap: str) -> None:
    """A move between remaining members would cost a recovery without any benefit."""
    _, (first, second), (first_after, second_after, third) = asyncio.run(join_one_by_one(bootstrap))
    assert {len(first), len(second)} == {PARTITIONS // 2}
    assert not (first_after - first) | (second_after - second)
    assert third == (first | second) - first_after - second_after
    assert sorted(map(len, (first_after, second_after, third))) == [2, 3, 3]
