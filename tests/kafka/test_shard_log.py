"""A shard's log on a broker: commits with an unknown outcome, foreign changelogs, and inputs that lost records."""

import asyncio
import shutil
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from stepstream.contract.codec import encode
from stepstream.contract.functions import EventTrigger, FunctionRegistered
from stepstream.contract.topics import CHANGELOG, EVENTS, FUNCTIONS, HISTORY, INBOX
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka.backbone import STALE_MS
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.shards.shard_log import SHARD_TOPICS, KafkaLog
from stepstream.runtime.kafka.shards.standby import Standby
from stepstream.runtime.kafka.topics.origin import origin_of
from stepstream.runtime.ports import LogError, NewRecord
from stepstream.runtime.shard.tables import open_tables
from stepstream.runtime.storage.rocks_store import RocksStore
from tests.kafka.cluster.broker import Broker, running
from tests.kafka.cluster.fleet import Fleet, Member
from tests.kafka.cluster.history import rows_of
from tests.kafka.cluster.observed import Observed
from tests.kafka.cluster.topics import until_gone
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long]


async def opened(cluster: Cluster) -> KafkaLog:
    """Return the log of shard 0, opened by a new owner."""
    log = KafkaLog(cluster, SystemClock(), 0, 1)
    await log.open()
    return log


async def write(log: KafkaLog, number: int) -> None:
    """Write one output and one row, and leave the transaction open."""
    await log.begin()
    await log.send([NewRecord(HISTORY, 0, b"run", b"%d" % number)], [(b"row", b"%d" % number)])


async def freeze_a_commit(broker: Broker) -> None:
    """Write, and later commit, while the broker is suspended: both time out, and changelog and history agree."""
    cluster = Cluster(KafkaSettings(broker.bootstrap, "commits", transaction_s=5))
    await cluster.create({name: (1, {}) for name in SHARD_TOPICS}, 1)
    first = await opened(cluster)
    await write(first, 1)
    await first.commit({})
    broker.freeze()
    try:
        with pytest.raises(LogError, match="writing: TimeoutError"):
            await write(first, 2)
    finally:
        broker.thaw()
    await first.close()
    first = await opened(cluster)
    await write(first, 2)
    broker.freeze()
    try:
        with pytest.raises(LogError, match="committing: TimeoutError"):
            await first.commit({})
    finally:
        broker.thaw()
    await first.close()
    second = await opened(cluster)
    rows = await rows_of(second)
    reader = await cluster.reader()
    reader.assign([(HISTORY, 0)])
    reader.seek({(HISTORY, 0): 0})
    outputs: list[bytes] = []
    while len(outputs) < len(rows):
        outputs += [record.value for record in await reader.read(10, 500)]
    outputs += [record.value for record in await reader.read(10, 500)]
    await reader.close()
    await second.close()
    assert rows
    assert [value for _, value in rows] == outputs == [b"1", b"2"][: len(rows)]


@pytest.mark.alone
def test_commit_has_a_deadline(tmp_path: Path) -> None:
    """A stalled broker blocks a shard until the deadline; the next owner finds all of the transaction or nothing."""
    with running(Broker(tmp_path)) as broker:
        asyncio.run(freeze_a_commit(broker))


async def register(cluster: Cluster) -> None:
    """Register a function, which is a row of each shard."""
    producer = await cluster.producer()
    known = FunctionRegistered("work", "commits", (EventTrigger("commits/go"),))
    await producer.send([NewRecord(FUNCTIONS, 0, b"work", encode(known))])
    await producer.close()


def restart(member: Member) -> None:
    """Start a process with an empty log, so that the address found there is the new one."""
    member.log.write_text("")
    member.start()


def observe(fleet: Fleet, observed: Observed) -> None:
    """Delete the changelog of an engine that has tables."""
    engine = fleet.add_engine()
    until(lambda: observed.answers("/ready") == {200})
    until(lambda: observed.scrape(engine).sum("stepstream_input_lag_records", topic="functions") == 0)
    engine.stop()
    asyncio.run(Cluster(KafkaSettings(fleet.bootstrap, "deleted")).delete([CHANGELOG]))
    fleet.command("topics", "apply", "--shards", "1", "--app", "work")
    restart(engine)
    until(lambda: observed.answers("/ready") == {200})
    assert engine.said("do not belong to their changelog")
    assert engine.said(f"renamed to {engine.disk}/shard-0.aside")
    assert (engine.disk / "shard-0.aside").is_dir()


def test_engine_sets_tables_of_a_deleted_changelog_aside(bootstrap: str, tmp_path: Path) -> None:
    """An engine whose changelog was recreated does not serve rows of the old one, and keeps them under another name."""
    with Fleet(bootstrap, "deleted", tmp_path) as fleet, Observed(fleet) as observed:
        fleet.command("topics", "apply", "--shards", "1", "--app", "work")
        asyncio.run(register(Cluster(KafkaSettings(bootstrap, "deleted"))))
        observe(fleet, observed)


async def fill(cluster: Cluster, name: bytes, count: int) -> None:
    """Recreate a changelog, and fill it with transactions of one row, every other one aborted."""
    if CHANGELOG in await cluster.topics([CHANGELOG]):
        await cluster.delete([CHANGELOG])
        await until_gone(cluster, CHANGELOG)
    await cluster.create({name: (1, {}) for name in SHARD_TOPICS}, 1)
    # Two concurrent callers get the same origin.
    origin, again = await asyncio.gather(origin_of(cluster, 0, 4), origin_of(cluster, 0, 5))
    found = await origin_of(cluster, 0, 6)
    assert {(origin.key, origin.shards), (again.key, again.shards)} == {(found.key, found.shards)}
    assert found.key
    assert found.shards in (4, 5)
    for number in range(count):
        log = await opened(cluster)
        await log.begin()
        await log.send([], [(b"r" + name, b"%d" % number)])
        if number % 2 == 0:
            await log.commit({})
        await log.close()


async def recovered(cluster: Cluster, path: Path) -> tuple[int, dict[bytes, bytes]]:
    """Recover the tables in a folder from the changelog; return the position where that began, and their rows."""
    store, log = RocksStore(path, SystemClock().now_ms, STALE_MS), await opened(cluster)
    try:
        position, _ = await open_tables(store, log.origin)
        async for rows, after in log.changelog(position):
            store.write(rows, after)
        return position, dict(store.scan(b"r", 0))
    finally:
        store.close()
        await log.close()


async def follow(cluster: Cluster, path: Path) -> dict[bytes, bytes]:
    """Let a standby in a folder catch up; return its rows."""
    store = RocksStore(path, SystemClock().now_ms, STALE_MS)
    copy = Standby(cluster, store, SystemClock(), 0, 1, STALE_MS)
    following = asyncio.ensure_future(copy.serve())
    reader = await cluster.reader()
    end = (await reader.ends([(CHANGELOG, 0)]))[CHANGELOG, 0]
    await asyncio.to_thread(until, lambda: (copy.position or 0) >= end)
    rows = dict(store.scan(b"r", 0))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await reader.close()
    return rows


async def take_foreign_tables(bootstrap: str, folder: Path) -> None:
    """Recover tables of the right changelog, of another namespace, and of a deleted changelog."""
    first, second = (Cluster(KafkaSettings(bootstrap, name)) for name in ("first", "second"))
    await fill(first, b"first", 3)
    await fill(second, b"second", 5)
    assert await recovered(first, folder / "own") == (0, {b"rfirst": b"2"})
    shutil.copytree(folder / "own", folder / "copy")
    position, rows = await recovered(first, folder / "own")
    assert (position > 0, rows) == (True, {b"rfirst": b"2"})
    assert await recovered(second, folder / "own") == (0, {b"rsecond": b"4"})
    assert await follow(second, folder / "copy") == {b"rsecond": b"4"}
    shutil.copytree(folder / "copy", folder / "later")
    await fill(second, b"third", 7)
    assert await recovered(second, folder / "copy") == (0, {b"rthird": b"6"})
    assert await follow(second, folder / "later") == {b"rthird": b"6"}


def test_tables_of_another_changelog_are_rebuilt(bootstrap: str, tmp_path: Path) -> None:
    """Tables of another namespace, or of a deleted changelog, are dropped instead of mixed with the recovered rows."""
    asyncio.run(take_foreign_tables(bootstrap, tmp_path))


async def lose_inputs(bootstrap: str, caplog: pytest.LogCaptureFixture) -> None:
    """Seek to a position past the end of an input, and to one that its retention has deleted."""
    cluster, at = Cluster(KafkaSettings(bootstrap, "lost")), (EVENTS, 0)
    await cluster.create({name: (1, {}) for name in (EVENTS, FUNCTIONS, INBOX)}, 1)
    producer = await cluster.producer()
    events = [NewRecord(EVENTS, 0, b"", b"%d" % number) for number in range(110)]
    await producer.send(events[:100])
    log = KafkaLog(cluster, SystemClock(), 0, 1)
    with pytest.raises(LogError, match=r"lost.events-0 ends at 100, .* up to 103 were processed: .* append 3 records"):
        await log.seek({at: 103})
    await log.close()
    await producer.send(events[100:103])
    log = KafkaLog(cluster, SystemClock(), 0, 1)
    await log.seek({at: 103})
    await producer.send(events[103:])
    assert (await log.poll(500, None))[0].offset == 103
    await log.close()
    async with cluster.admin() as admin:
        await admin.delete_records({TopicPartition("lost.events", 0): RecordsToDelete(before_offset=50)})
    log = KafkaLog(cluster, SystemClock(), 0, 1)
    await log.seek({at: 20})
    assert "lost.events-0 begins at 50, but was processed up to 20: its retention deleted 30 offsets" in caplog.text
    assert (await log.poll(500, None))[0].offset == 50
    await log.close()
    # A reader whose position is deleted while it reads fails instead of starting at the beginning.
    reader = await cluster.reader(known=True)
    reader.assign([at])
    for place in (20, 1_000):
        reader.seek({at: place})
        with pytest.raises(LogError, match="OffsetOutOfRange"):
            await reader.read(1, 10_000)
    await reader.close()
    await producer.close()


def test_input_that_lost_records_is_not_read_from_its_start(bootstrap: str, caplog: pytest.LogCaptureFixture) -> None:
    """That would process records twice: the shard refuses to serve with a remedy, and logs a gap from retention."""
    asyncio.run(lose_inputs(bootstrap, caplog))
