"""Members of groups: who stays keeps its partitions, and who was given up does nothing that others have done."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from stepstream.contract.codec import encode
from stepstream.contract.functions import EventTrigger, FunctionRegistered
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, decode_history
from stepstream.contract.topics import EVENTS, FUNCTIONS, HISTORY, INBOX
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka import reader as readers
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.reader import Membership, Reader
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.runtime.kafka.shard_log import KafkaLog
from stepstream.runtime.ports import NewRecord
from tests.kafka.broker import running_broker
from tests.kafka.changelogs import rows_of
from tests.kafka.fleet import Fleet
from tests.kafka.judging import judge_run, read_all, until_ended, until_registered
from tests.kafka.observed import WAIT_S_MAX, until
from tests.kafka.zombie_app import STOPS, STOPS_IN
from tests.kafka.zombie_engine import FENCED

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
ZOMBIE = "tests.kafka.zombie_engine"
APP = Path(__file__).with_name("zombie_app.py")
RUNS = 20
PARTITIONS = 8
SHARE_S_MAX = 30.0


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
    with Fleet(bootstrap, "fenced", tmp_path, APP) as fleet:
        fleet.command("topics", "apply", "--shards", "1", "--app", "zombie")
        asyncio.run(outlive_a_commit(fleet, tmp_path / "told"))


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


def test_processes_that_thaw_do_nothing_that_others_have_done(bootstrap: str, tmp_path: Path) -> None:
    """An engine and a worker were given up for dead, and others have ended all that they had begun.

    When they go on, no body runs again, nothing is there twice, and they take part as before.
    """
    with Fleet(bootstrap, "thawed", tmp_path, APP) as fleet:
        fleet.command("topics", "apply", "--shards", "1", "--app", "zombie")
        asyncio.run(outlive_a_process_of_each_kind(fleet, tmp_path))


class Member:
    """A member of a group, and which partitions it has."""

    def __init__(self) -> None:
        self.has = frozenset[int]()
        self._changed = asyncio.Event()
        self._reader: Reader | None = None

    async def join(self, cluster: Cluster, changed: asyncio.Event) -> "Member":
        """Join the group; `changed` is set whenever partitions come or go."""
        self._changed = changed
        self._reader = await cluster.reader(group="engine")
        self._reader.join(INBOX, Membership(self._assigned, self._revoked))
        return self

    async def _assigned(self, partitions: list[int]) -> None:
        self.has = frozenset(partitions)
        self._changed.set()

    async def _revoked(self, _: list[int]) -> None:
        self.has = frozenset()

    async def leave(self) -> None:
        """Leave the group."""
        if self._reader is not None:
            await self._reader.close()


async def until_shared(members: Sequence[Member], changed: asyncio.Event) -> list[frozenset[int]]:
    """Return what each member has once each has some and together they have all, no partition twice."""
    async with asyncio.timeout(SHARE_S_MAX):
        while sorted(at for member in members for at in member.has) != list(range(PARTITIONS)) or not all(
            member.has for member in members
        ):
            await changed.wait()
            changed.clear()
    return [member.has for member in members]


async def join_one_by_one(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> list[list[frozenset[int]]]:
    """Have three members join; return what each has after each came."""
    cluster = Cluster(KafkaSettings(bootstrap, "sharing"))
    await cluster.create({INBOX: (PARTITIONS, {})}, 1)
    members: list[Member] = []
    changed = asyncio.Event()
    found: list[list[frozenset[int]]] = []
    assignor = vars(readers)["StickyPartitionAssignor"]
    try:
        for number in range(3):
            # It keeps what it knows in its class, as if there were one member a process: each has a class of its own.
            monkeypatch.setattr(readers, "StickyPartitionAssignor", type(f"Of{number}", (assignor,), {}))
            members.append(await Member().join(cluster, changed))
            found.append(await until_shared(members, changed))
    finally:
        await asyncio.gather(*(member.leave() for member in members))
    return found


def test_who_stays_keeps_its_partitions(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition moves only to the one who comes: between those who stay it would be a recovery for nothing."""
    _, (first, second), (first_after, second_after, third) = asyncio.run(join_one_by_one(bootstrap, monkeypatch))
    assert {len(first), len(second)} == {PARTITIONS // 2}
    assert not (first_after - first) | (second_after - second)
    assert third == (first | second) - first_after - second_after
    assert sorted(map(len, (first_after, second_after, third))) == [2, 3, 3]
