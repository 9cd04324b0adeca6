"""A partition whose leader is away: the others of its worker go on, and the group hears of it as ever."""

import asyncio
from collections.abc import Collection

import pytest

from stepstream.contract.topics import commands_topic
from stepstream.runtime.kafka import worker_log
from stepstream.runtime.ports import LogRecord, Offsets
from tests.runtime.test_assignment import Group, Guest, opened, tell_at_once, until

TOPIC = commands_topic("shop")
FRESH = LogRecord(TOPIC, 0, 9, b"k", b"v", (), 0)


class Partly(Group):
    """A cluster in which nobody answers for partition 1 before the test does; it was read up to 8."""

    def __init__(self, silent: str) -> None:
        super().__init__()
        self._silent = silent
        self.asked = False
        self.at = 8
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ends(self, places: Collection[tuple[str, int]]) -> Offsets:
        """Return the ends, when all are known."""
        if self._silent == "ends" and (TOPIC, 1) in places:
            await asyncio.shield(self.answer)
        return dict.fromkeys(places, 8)

    async def position(self, at: tuple[str, int]) -> int:
        """Return how far it was read, when that is known."""
        if self._silent == "position" and at == (TOPIC, 1):
            self.asked = True
            await asyncio.shield(self.answer)
        return self.at


@pytest.mark.parametrize("silent", ["ends", "position"])
async def test_a_partition_without_a_leader_keeps_no_other_waiting(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group confirms the worker all the time, bodies begin, and what is new in other partitions is known so."""
    tell_at_once(monkeypatch)
    group = Partly(silent)
    log, membership = await opened(group)
    await asyncio.wait_for(membership.assigned([0, 1]), 5)
    await until(lambda: group.confirmed > 5)
    await asyncio.wait_for(log.hold(), 5)
    await until(lambda: log.is_fresh(FRESH))
    assert log.is_fresh(FRESH._replace(partition=1)) == (silent != "ends")
    await log.close()


async def test_a_partition_without_a_leader_does_not_keep_the_group_from_being_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is asked for a moment, then what was dealt with in the others is told, and where only marks are."""
    tell_at_once(monkeypatch)
    monkeypatch.setattr(worker_log, "_ANSWER_S_MAX", 0.01)
    group = Partly("position")
    log, membership = await opened(group)
    await membership.assigned([0, 1])
    await log.commit({(TOPIC, 1): 5})
    await until(lambda: {(TOPIC, 1): 5} in group.commits)
    await until(lambda: {(TOPIC, 0): 8} in group.commits)
    await log.close()


async def test_what_cannot_be_written_does_not_keep_the_group_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition of the inbox has no leader as partitions go: the group would give up who waits for it."""
    monkeypatch.setattr(worker_log, "_REVOKE_S_MAX", 0.01)

    class Busy(Guest):
        async def moving(self) -> None:
            await asyncio.get_running_loop().create_future()

    log, membership = await opened(Partly(""), Busy())
    await membership.assigned([0, 1])
    await asyncio.wait_for(membership.revoked([0, 1]), 5)
    await log.close()


async def test_no_position_of_before_an_assignment_is_told_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked for while the group moved: commands that are read again from before it are not passed over."""
    tell_at_once(monkeypatch)
    group = Partly("position")
    log, membership = await opened(group)
    await membership.assigned([0, 1])
    await until(lambda: group.asked)
    await membership.revoked([0, 1])
    group.membership = ("member-1", 3)
    group.at = 5
    await membership.assigned([0, 1])
    confirmed = group.confirmed
    group.answer.set_result(None)
    await until(lambda: group.confirmed > confirmed + 5)
    assert [offset for offsets in group.commits for offset in offsets.values() if offset > 5] == []
    await log.close()
