"""A process that leaves its group: whatever the group says meanwhile, no shard is served by who is no member."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.fleet import ShardGroup
from stepstream.runtime.kafka import Membership
from stepstream.runtime.ports import LogRecord


class Group:
    """A cluster and the one reader of it, which leaves only when the rebalance under way has ended."""

    def __init__(self) -> None:
        self.membership: Membership | None = None
        self.rebalance: asyncio.Task[None] | None = None
        self.left = False

    async def reader(self, **_: object) -> "Group":
        """Return the reader."""
        return self

    def join(self, _topic: str, membership: Membership) -> None:
        """Take note of who joins."""
        self.membership = membership

    def pause(self) -> None:
        """Read nothing."""

    async def read(self, _limit: int, _wait_ms: int) -> list[LogRecord]:
        """Wait for ever."""
        await asyncio.get_running_loop().create_future()
        return []

    async def close(self) -> None:
        """Leave, as aiokafka does: what its coordinator has begun is ended first."""
        if self.rebalance is not None:
            await self.rebalance
        self.left = True


async def until(holds: Callable[[], object]) -> None:
    """Return when something holds."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - nobody tells when it does
            await asyncio.sleep(0)


async def test_shards_that_come_while_the_process_leaves_are_not_served(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody would ever end them: their owner is no member, and fences whoever gets them, over and over."""
    serving: set[int] = set()

    async def serve(shard: int) -> None:
        serving.add(shard)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            serving.discard(shard)

    cluster = Group()
    group = ShardGroup(cluster, SystemClock(), 2, tmp_path)  # type: ignore[arg-type]  # As far as it is used.
    monkeypatch.setattr(group, "_serve", serve)
    member = asyncio.ensure_future(group.serve())
    await until(lambda: cluster.membership)
    assert cluster.membership is not None
    await cluster.membership.assigned([0])
    await until(lambda: serving == {0})
    member.cancel()
    await asyncio.sleep(0)
    cluster.rebalance = asyncio.ensure_future(cluster.membership.assigned([0, 1]))
    await asyncio.gather(member, return_exceptions=True)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (cluster.left, serving, group.assigned) == (True, set(), [])
