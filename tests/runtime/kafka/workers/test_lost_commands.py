"""A worker whose position in its commands is not valid has the shards send again what may be lost."""

import pytest

from stepstream.contract.inbox import CommandsLost, decode_inbox
from stepstream.contract.topics import INBOX
from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.ports import LogRecord
from tests.fakes.waiting import until
from tests.runtime.kafka.workers.worker_group import AT, AT_ONCE, END, FIRST, TOPIC, Listener, WorkerGroup

LOST = CommandsLost("shop")


def requests(group: WorkerGroup) -> list[object]:
    """Return what the worker wrote to the inbox of its shard."""
    return [decode_inbox(value) for value in group.values(INBOX)]


@pytest.mark.parametrize(
    ("committed", "asks"), [(None, True), (FIRST - 1, True), (FIRST, False), (END, False), (END + 1, True)]
)
async def test_position_that_is_not_valid_loses_commands(committed: int | None, asks: bool) -> None:
    """The group has none, its commands were deleted by their retention, or it is beyond the end of a new topic."""
    group = WorkerGroup()
    group.committed_offsets = {} if committed is None else {AT: committed}
    log = await group.open(options=AT_ONCE)
    await group.assign(0)
    await until(lambda: group.calls.count["confirm"] > 2)
    assert requests(group) == [LOST] * asks
    assert group.commits == [{AT: FIRST}] * asks
    await log.close()


async def test_topic_that_was_created_again_loses_its_commands() -> None:
    """It is read from its beginning; commands are requested even if the old position exists in the new topic."""
    group = WorkerGroup()
    log = await group.open(options=AT_ONCE)
    log.check({TOPIC: Extent(1, 1, "first")})
    await group.assign(0)
    await until(lambda: group.calls.count["confirm"] > 2)
    assert requests(group) == []
    log.check({TOPIC: Extent(1, 1, "second")})
    await until(lambda: requests(group))
    assert requests(group) == [LOST]
    await log.close()


async def test_topic_that_returns_before_its_partitions_loses_commands() -> None:
    """While it was deleted nothing was assigned; the offset of the deleted topic may exist in the new one."""
    group, listener = WorkerGroup(), Listener()
    log = await group.open(listener, AT_ONCE)
    log.check({TOPIC: Extent(1, 1, "first")})
    await group.assign(0)
    await group.revoke(0)
    await group.assign()
    before = len(listener.moves)
    log.check({TOPIC: Extent(1, 1, "second")})
    await until(lambda: len(listener.moves) == before + 2)
    await group.assign(0)
    await until(lambda: group.commits)
    assert requests(group) == [LOST]
    await log.close()


async def test_no_position_is_committed_before_commands_are_requested() -> None:
    """Otherwise the next worker would find a valid position, and request no commands."""
    group = WorkerGroup()
    group.committed_offsets = {}
    group.calls.block("send")
    log = await group.open(options=AT_ONCE)
    await group.assign(0)
    records: list[LogRecord] = []
    while not records:
        records = await log.poll(1)
    await log.commit({AT: FIRST + 1})
    await until(lambda: group.calls.count["confirm"] > 2)
    await group.revoke(0)
    assert group.commits == []
    group.calls.allow("send")
    await group.assign(0)
    await until(lambda: group.commits)
    assert requests(group) == [LOST]
    await log.close()
