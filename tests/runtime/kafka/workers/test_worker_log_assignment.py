"""Partitions are assigned and revoked while a worker reads; it neither skips a command nor runs one that it lost."""

import asyncio

import pytest

from stepstream.runtime.kafka.workers.group_lease import MemberOptions
from stepstream.runtime.kafka.workers.worker_log import KafkaWorkerLog
from stepstream.runtime.ports import LogError, LogRecord
from tests.fakes.waiting import until
from tests.runtime.kafka.workers.worker_group import AT, AT_ONCE, Listener, WorkerGroup


async def polled(log: KafkaWorkerLog, count: int) -> list[LogRecord]:
    """Return this many commands."""
    found: list[LogRecord] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            found += await log.poll(count - len(found))
    return found


async def test_commands_read_before_the_end_is_known_are_not_fresh() -> None:
    """The worker must claim their runs, until the broker has answered where the partition ends."""
    group = WorkerGroup()
    group.calls.block("ends")
    log = await group.open()
    await asyncio.wait_for(group.assign(0), 60)
    records = await polled(log, 3)
    assert [record.offset for record in records] == [7, 8, 9]
    assert not any(log.is_fresh(record) for record in records)
    group.end_offsets[AT] = 8
    group.calls.allow("ends")
    await until(lambda: log.is_fresh(records[1]))
    assert [log.is_fresh(record) for record in records] == [False, True, True]
    await log.close()


async def test_unprocessed_commands_are_not_committed() -> None:
    """The periodic commit skips a partition with a command that was polled and not processed."""
    group = WorkerGroup()
    group.calls.block("ends")
    log = await group.open(options=AT_ONCE)
    await group.assign(0)
    await polled(log, 3)
    group.end_offsets[AT] = 8
    group.calls.allow("ends")
    await until(lambda: group.calls.count["confirm"] > 2)
    assert group.commits == []
    await log.close()


async def test_partition_kept_by_a_rebalance_continues() -> None:
    """During the rebalance nothing is polled; afterwards the next command follows the last one that was polled."""
    group, listener = WorkerGroup(), Listener()
    group.end_offsets[AT] = 8
    log = await group.open(listener)
    await group.assign(0, 1)
    records = await polled(log, 2)
    await group.revoke(0, 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(polled(log, 1), 0.05)
    held = asyncio.ensure_future(log.until_member())
    await asyncio.sleep(0)
    assert not held.done()
    assert not log.is_fresh(records[1])
    await group.assign(0)
    assert listener.moves == [(set(), True), None, ({0}, False)]
    assert group.readers[0].seeks[-1] == {AT: 9}
    assert [record.offset for record in await polled(log, 1)] == [9]
    await asyncio.wait_for(held, 60)
    await until(lambda: log.is_fresh(records[1]))
    await log.close()


@pytest.mark.parametrize(("member", "generations", "lost"), [("member-2", 1, True), ("member-1", 2, False)])
async def test_partition_that_others_may_have_had_is_not_kept(member: str, generations: int, lost: bool) -> None:
    """A member that expired returns with another id; one that missed a generation may have missed another owner."""
    group, listener = WorkerGroup(), Listener()
    group.end_offsets[AT] = 8
    log = await group.open(listener)
    await group.assign(0)
    records = await polled(log, 2)
    await group.revoke(0)
    await group.assign(0, member=member, generations=generations)
    assert listener.moves[-1] == (set(), lost)
    assert group.readers[0].seeks[-1] == {}
    assert [record.offset for record in await polled(log, 3)] == [7, 8, 9]
    assert not log.is_fresh(records[0])
    await log.close()


async def test_end_offset_is_queried_again_after_a_failure() -> None:
    """While the broker is down, no command is fresh; once it answers, later commands are."""
    group = WorkerGroup()
    group.calls.fail("ends", LogError("the broker is away"))
    log = await group.open(options=AT_ONCE)
    await group.assign(0)
    records = await polled(log, 3)
    assert [record.offset for record in records] == [7, 8, 9]
    await until(lambda: group.calls.count["confirm"] > 2)
    assert not log.is_fresh(records[2])
    group.end_offsets[AT] = 9
    group.calls.allow("ends")
    await until(lambda: log.is_fresh(records[2]))
    assert not log.is_fresh(records[1])
    await log.close()


async def test_failed_confirmations_end_the_worker() -> None:
    """An unexpected error of the client must not leave a worker that waits for its membership forever."""
    group = WorkerGroup()
    group.end_offsets[AT] = 8
    log = await group.open(options=AT_ONCE)
    group.calls.fail("confirm", KeyError("a client that does not know its own"))
    await group.assign(0)

    async def poll_on() -> None:
        while True:
            await log.poll(10)

    with pytest.raises(KeyError):
        await asyncio.wait_for(poll_on(), 60)
    await log.close()


async def test_offsets_are_committed_before_partitions_are_revoked() -> None:
    """The next owner of a partition, or the next worker after this one, continues after what was processed."""
    group = WorkerGroup()
    group.end_offsets[AT] = 8
    log = await group.open(options=MemberOptions(commit_s=1_000.0))
    await group.assign(0)
    await until(lambda: group.calls.count["ends"] == 2)
    await log.commit({AT: 8})
    assert group.commits == []
    await group.revoke(0)
    assert group.commits == [{AT: 8}]
    await group.assign(0)
    await log.commit({AT: 9})
    await log.close()
    assert group.commits == [{AT: 8}, {AT: 9}]


async def test_refused_commit_is_repeated() -> None:
    """A group that rebalances refuses commits; the worker continues and commits afterwards."""
    group = WorkerGroup()
    group.end_offsets[AT] = 8
    log = await group.open(options=AT_ONCE)
    await group.assign(0)
    group.calls.fail("commit", LogError("the group rebalances"))
    await log.commit({AT: 8})
    await group.calls.until("commit", more=2)
    assert group.commits == []
    group.calls.allow("commit")
    await until(lambda: {AT: 8} in group.commits)
    await log.close()
