"""A partition whose leader is away: the others of its worker go on, and the group hears of it as ever."""

import asyncio

import pytest

from stepstream.runtime.kafka import worker_log
from stepstream.runtime.ports import LogRecord
from tests.fakes.waiting import until
from tests.runtime.kafka.worker_group import AT, TOPIC, Listener, WorkerGroup, renew_at_once

SILENT = (TOPIC, 1)
FRESH = LogRecord(TOPIC, 0, 9, b"k", b"v", (), 0)


def group_without(call: str) -> WorkerGroup:
    """Return a group where no broker answers a call for partition 1; partition 0 is committed up to its end."""
    group = WorkerGroup()
    group.records.clear()
    group.committed_offsets[AT] = group.end_offsets[AT] = group.end_offsets[SILENT] = 8
    group.calls.block(call, SILENT)
    return group


@pytest.mark.parametrize("silent", ["ends", "position"])
async def test_a_partition_without_a_leader_keeps_no_other_waiting(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group confirms the worker all the time, bodies begin, and what is new in other partitions is known so."""
    renew_at_once(monkeypatch)
    group = group_without(silent)
    log = await group.open()
    await asyncio.wait_for(group.assign(0, 1), 5)
    await group.calls.until("confirm", more=5)
    await asyncio.wait_for(log.until_member(), 5)
    await until(lambda: log.is_fresh(FRESH))
    assert log.is_fresh(FRESH._replace(partition=1)) == (silent != "ends")
    await log.close()


async def test_a_partition_without_a_leader_does_not_keep_the_group_from_being_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is asked for a moment, then what was dealt with in the others is told, and where only marks are."""
    renew_at_once(monkeypatch)
    monkeypatch.setattr(worker_log, "_ANSWER_S_MAX", 0.01)
    group = group_without("position")
    log = await group.open()
    await group.assign(0, 1)
    await log.commit({SILENT: 5})
    await until(lambda: {SILENT: 5} in group.commits)
    await until(lambda: {AT: 8} in group.commits)
    await log.close()


async def test_what_cannot_be_written_does_not_keep_the_group_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition of the inbox has no leader as partitions go: the group would give up who waits for it."""
    monkeypatch.setattr(worker_log, "_REVOKE_S_MAX", 0.01)

    class Busy(Listener):
        async def moving(self) -> None:
            await asyncio.get_running_loop().create_future()

    group = WorkerGroup()
    log = await group.open(Busy())
    await group.assign(0, 1)
    await asyncio.wait_for(group.revoke(0, 1), 5)
    await log.close()


async def test_no_position_of_before_an_assignment_is_told_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked for while the group moved: commands that are read again from before it are not passed over."""
    renew_at_once(monkeypatch)
    group = group_without("position")
    log = await group.open()
    await group.assign(0, 1)
    await group.calls.until("position", more=2)
    await group.revoke(0, 1)
    group.committed_offsets[AT] = 5
    await group.assign(0, 1, generations=2)
    group.calls.allow("position")
    await group.calls.until("confirm", more=5)
    assert [offset for offsets in group.commits for offset in offsets.values() if offset > 5] == []
    await log.close()
