"""A partition whose leader is away: the others of its worker go on, and the group hears of it as ever."""

import asyncio
from collections.abc import Collection

import pytest

from stepstream.contract.topics import commands_topic
from stepstream.runtime.kafka import worker_log
from stepstream.runtime.ports import LogRecord, Offsets
from tests.runtime.test_assignment import Group, opened, tell_at_once, until

TOPIC = commands_topic("shop")
FRESH = LogRecord(TOPIC, 0, 9, b"k", b"v", (), 0)


class Partly(Group):
    """A cluster in which nobody answers for partition 1, as long as it is asked."""

    def __init__(self, silent: str) -> None:
        super().__init__()
        self._silent = silent
        self._never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ends(self, places: Collection[tuple[str, int]]) -> Offsets:
        """Return the ends, when all are known."""
        if self._silent == "ends" and (TOPIC, 1) in places:
            await asyncio.shield(self._never)
        return dict.fromkeys(places, 8)

    async def position(self, at: tuple[str, int]) -> int:
        """Return how far it was read, when that is known."""
        if self._silent == "position" and at == (TOPIC, 1):
            await asyncio.shield(self._never)
        return 8


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
