"""A partition without a leader does not delay the other partitions of its worker, or its membership."""

import asyncio

import pytest

from stepstream.runtime.kafka.client import reader
from stepstream.runtime.kafka.workers.group_lease import MemberOptions
from stepstream.runtime.ports import LogRecord
from tests.fakes.waiting import until
from tests.runtime.kafka.workers.worker_group import AT, AT_ONCE, TOPIC, Listener, WorkerGroup

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
async def test_leaderless_partition_delays_no_other(silent: str) -> None:
    """The membership is confirmed, code starts, and new commands of other partitions are fresh."""
    group = group_without(silent)
    log = await group.open(options=AT_ONCE)
    await asyncio.wait_for(group.assign(0, 1), 60)
    await group.calls.until("confirm", more=5)
    await asyncio.wait_for(log.until_member(), 60)
    await until(lambda: log.is_fresh(FRESH))
    assert log.is_fresh(FRESH._replace(partition=1)) == (silent != "ends")
    await log.close()


async def test_leaderless_partition_does_not_delay_commits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The query for its position times out; then the other offsets are committed, beyond transaction markers too."""
    monkeypatch.setattr(reader, "_ANSWER_S_MAX", 0.01)
    group = group_without("position")
    log = await group.open(options=AT_ONCE)
    await group.assign(0, 1)
    await log.commit({SILENT: 5})
    await until(lambda: {SILENT: 5} in group.commits)
    await until(lambda: {AT: 8} in group.commits)
    await log.close()


async def test_slow_listener_does_not_delay_a_rebalance() -> None:
    """Leases cannot be written while the inbox has no leader; the group would expire a member that waits for them."""

    class Busy(Listener):
        async def moving(self) -> None:
            await asyncio.get_running_loop().create_future()

    group = WorkerGroup()
    log = await group.open(Busy(), MemberOptions(revoke_sessions=0.001))
    await group.assign(0, 1)
    await asyncio.wait_for(group.revoke(0, 1), 60)
    await log.close()


async def test_position_from_before_a_rebalance_is_not_committed_after_it() -> None:
    """Commands before it are read again after the rebalance and must not be skipped."""
    group = group_without("position")
    log = await group.open(options=AT_ONCE)
    await group.assign(0, 1)
    await group.calls.until("position", more=2)
    await group.revoke(0, 1)
    group.committed_offsets[AT] = 5
    await group.assign(0, 1, generations=2)
    group.calls.allow("position")
    await group.calls.until("confirm", more=5)
    assert [offset for offsets in group.commits for offset in offsets.values() if offset > 5] == []
    await log.close()
