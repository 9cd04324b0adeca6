"""A process that leaves its group: whatever the group says meanwhile, no shard is served by who is no member."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka import fleet
from stepstream.runtime.kafka.fleet import ShardGroup
from stepstream.runtime.kafka.reader import Membership
from stepstream.runtime.ports import LogError, LogRecord
from stepstream.runtime.supervision import keep_serving


class Group:
    """A cluster and the one reader of it, which leaves only when the rebalance under way has ended."""

    def __init__(self) -> None:
        self.membership: Membership | None = None
        self.rebalance: asyncio.Task[None] | None = None
        self.left = False
        self.known = True
        self.asked = 0

    async def confirm(self) -> None:
        """Say whether the reader is a member."""
        self.asked += 1
        if not self.known:
            raise LogError("the group does not know us")

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


@asynccontextmanager
async def joined(cluster: Group, group: ShardGroup) -> AsyncIterator[tuple[Membership, "asyncio.Task[None]"]]:
    """Have an engine join; yield by what the group tells it of shards, and its task."""
    member = asyncio.ensure_future(group.serve())
    await until(lambda: cluster.membership)
    assert cluster.membership is not None
    try:
        yield cluster.membership, member
    finally:
        member.cancel()
        await asyncio.gather(member, return_exceptions=True)


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
    async with joined(cluster, group) as (membership, member):
        await membership.assigned([0])
        await until(lambda: serving == {0})
        member.cancel()
        await asyncio.sleep(0)
        cluster.rebalance = asyncio.ensure_future(membership.assigned([0, 1]))
        await asyncio.gather(member, return_exceptions=True)
        for _ in range(5):
            await asyncio.sleep(0)
        assert (cluster.left, serving, group.assigned) == (True, set(), [])


async def test_who_was_given_up_and_does_not_hear_of_it_opens_no_shard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It would fence the shard's owner, which would come back and be fenced again, for as long as that lasts."""
    monkeypatch.setattr(fleet, "keep_serving", functools.partial(keep_serving, again_s=0.0))
    opened: list[int] = []

    def open_log(_cluster: object, _clock: object, shard: int) -> None:
        opened.append(shard)
        raise LogError("a newer owner is there")

    monkeypatch.setattr(fleet, "KafkaLog", open_log)
    cluster = Group()
    group = ShardGroup(cluster, SystemClock(), 1, tmp_path)  # type: ignore[arg-type]  # As far as it is used.
    async with joined(cluster, group) as (membership, _):
        await membership.assigned([0])
        await until(lambda: len(opened) > 2)
        cluster.known = False
        asked, count = cluster.asked, len(opened)
        await until(lambda: cluster.asked > asked + 2)
        assert len(opened) <= count + 1


async def test_an_engine_between_two_generations_is_not_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All its shards go whenever the group changes, and nobody serves them until it has new ones, be it none."""

    async def serve(_shard: int) -> None:
        await asyncio.get_running_loop().create_future()

    cluster = Group()
    group = ShardGroup(cluster, SystemClock(), 2, tmp_path)  # type: ignore[arg-type]  # As far as it is used.
    monkeypatch.setattr(group, "_serve", serve)
    async with joined(cluster, group) as (membership, _):
        await membership.assigned([])
        assert group.unready == ""
        await membership.revoked([])
        assert group.unready == "the group has not given it its shards yet"
        await membership.assigned([])
        assert group.unready == ""
