"""A worker's partitions come while it reads: no command is passed over, whatever the broker answers and when."""

import asyncio

import pytest

from stepstream.runtime.kafka import worker_log
from stepstream.runtime.kafka.worker_log import KafkaWorkerLog
from stepstream.runtime.ports import LogError, LogRecord
from tests.fakes.waiting import until
from tests.runtime.kafka.worker_group import AT, Listener, WorkerGroup, renew_at_once


async def taken(log: KafkaWorkerLog, count: int) -> list[LogRecord]:
    """Return this many commands; a poll may return none now and then."""
    found: list[LogRecord] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            found += await log.poll(count - len(found))
    return found


async def test_commands_that_come_before_the_ends_are_known_are_taken_and_claimed() -> None:
    """The broker is slow to say where a partition ends: what is read of it meanwhile is ours, and not fresh."""
    group = WorkerGroup()
    group.calls.block("ends")
    log = await group.open()
    await asyncio.wait_for(group.assign(0), 5)
    records = await taken(log, 3)
    assert [record.offset for record in records] == [7, 8, 9]
    assert not any(log.is_fresh(record) for record in records)
    group.end_offsets[AT] = 8
    group.calls.allow("ends")
    await until(lambda: log.is_fresh(records[1]))
    assert [log.is_fresh(record) for record in records] == [False, True, True]
    await log.close()


async def test_what_is_taken_meanwhile_is_not_committed_as_dealt_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told of a partition with a command that was taken and is not dealt with, however often we look."""
    renew_at_once(monkeypatch)
    group = WorkerGroup()
    group.calls.block("ends")
    log = await group.open()
    await group.assign(0)
    await taken(log, 3)
    group.end_offsets[AT] = 8
    group.calls.allow("ends")
    await until(lambda: group.calls.count["confirm"] > 2)
    assert group.commits == []
    await log.close()


async def test_partitions_that_come_back_are_read_on_and_not_again() -> None:
    """The group moves when a worker joins: what was taken stays taken, and what comes meanwhile comes afterwards."""
    group, listener = WorkerGroup(), Listener()
    group.end_offsets[AT] = 8
    log = await group.open(listener)
    await group.assign(0, 1)
    records = await taken(log, 2)
    await group.revoke(0, 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(taken(log, 1), 0.05)
    held = asyncio.ensure_future(log.until_member())
    await asyncio.sleep(0)
    assert not held.done()
    assert not log.is_fresh(records[1])
    await group.assign(0)
    assert listener.moves == [(set(), True), None, ({0}, False)]
    assert group.readers[0].seeks[-1] == {AT: 9}
    assert [record.offset for record in await taken(log, 1)] == [9]
    await asyncio.wait_for(held, 5)
    await until(lambda: log.is_fresh(records[1]))
    await log.close()


@pytest.mark.parametrize(("member", "generations", "lost"), [("member-2", 1, True), ("member-1", 2, False)])
async def test_what_others_may_have_had_is_not_kept(member: str, generations: int, lost: bool) -> None:
    """Who was given up comes back under another name, and who missed a generation may have missed an owner."""
    group, listener = WorkerGroup(), Listener()
    group.end_offsets[AT] = 8
    log = await group.open(listener)
    await group.assign(0)
    records = await taken(log, 2)
    await group.revoke(0)
    await group.assign(0, member=member, generations=generations)
    assert listener.moves[-1] == (set(), lost)
    assert group.readers[0].seeks[-1] == {}
    assert [record.offset for record in await taken(log, 3)] == [7, 8, 9]
    assert not log.is_fresh(records[0])
    await log.close()


async def test_ends_that_cannot_be_told_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that goes while partitions come leaves them ours; when it is back, new commands are fresh again."""
    renew_at_once(monkeypatch)
    group = WorkerGroup()
    group.calls.fail("ends", LogError("the broker is away"))
    log = await group.open()
    await group.assign(0)
    records = await taken(log, 3)
    assert [record.offset for record in records] == [7, 8, 9]
    await until(lambda: group.calls.count["confirm"] > 2)
    assert not log.is_fresh(records[2])
    group.end_offsets[AT] = 9
    group.calls.allow("ends")
    await until(lambda: log.is_fresh(records[2]))
    assert not log.is_fresh(records[1])
    await log.close()


async def test_a_lease_that_nobody_renews_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a client raises: who is not known as a member would hold every body back for ever."""
    renew_at_once(monkeypatch)
    group = WorkerGroup()
    group.end_offsets[AT] = 8
    log = await group.open()
    group.calls.fail("confirm", KeyError("a client that does not know its own"))
    await group.assign(0)

    async def poll_on() -> None:
        while True:
            await log.poll(10)

    with pytest.raises(KeyError):
        await asyncio.wait_for(poll_on(), 5)
    await log.close()


async def test_the_group_hears_what_is_dealt_with_before_partitions_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dealt with is told by and by; who takes a partition over, or comes after us, finds it told."""
    monkeypatch.setattr(worker_log, "_COMMIT_S", 1_000.0)
    group = WorkerGroup()
    group.end_offsets[AT] = 8
    log = await group.open()
    await group.assign(0)
    await log.commit({AT: 8})
    assert group.commits == []
    await group.revoke(0)
    assert group.commits == [{AT: 8}]
    await group.assign(0)
    await log.commit({AT: 9})
    await log.close()
    assert group.commits == [{AT: 8}, {AT: 9}]


async def test_a_group_that_refuses_what_it_is_told_does_not_end_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the group is on the move it takes no offsets; it is told again afterwards."""
    renew_at_once(monkeypatch)
    group = WorkerGroup()
    group.end_offsets[AT] = 8
    log = await group.open()
    await group.assign(0)
    group.calls.fail("commit", LogError("the group is on the move"))
    await log.commit({AT: 8})
    await group.calls.until("commit", more=2)
    assert group.commits == []
    group.calls.allow("commit")
    await until(lambda: {AT: 8} in group.commits)
    await log.close()
