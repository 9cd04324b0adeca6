"""A process that leaves its group, or has left it without noticing, serves no shard."""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka import fleet
from stepstream.runtime.kafka.fleet import ShardGroup, ShardGroupOptions
from stepstream.runtime.ports import LogError
from stepstream.runtime.supervision import keep_serving
from tests.fakes.cluster import FakeCluster
from tests.fakes.waiting import until


@asynccontextmanager
async def joined(cluster: FakeCluster, group: ShardGroup) -> AsyncIterator["asyncio.Task[None]"]:
    """Have an engine join its group; yield its task."""
    member = asyncio.ensure_future(group.serve())
    await until(lambda: cluster.membership)
    try:
        yield member
    finally:
        member.cancel()
        await asyncio.gather(member, return_exceptions=True)


async def test_shard_assigned_while_leaving_is_not_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing would stop it, and it would fence the next owner of the shard, over and over."""
    serving: set[int] = set()

    async def serve(shard: int) -> None:
        serving.add(shard)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            serving.discard(shard)

    cluster = FakeCluster()
    group = ShardGroup(cluster, SystemClock(), ShardGroupOptions(2, tmp_path))
    monkeypatch.setattr(group, "_serve", serve)
    async with joined(cluster, group) as member:
        await cluster.assign(0)
        await until(lambda: serving == {0})
        member.cancel()
        await asyncio.sleep(0)
        rebalance = asyncio.ensure_future(cluster.assign(0, 1))
        await asyncio.gather(member, return_exceptions=True)
        for _ in range(5):
            await asyncio.sleep(0)
        assert (rebalance.done(), cluster.readers[0].closed) == (True, True)
        assert (serving, group.assigned) == (set(), [])


async def test_expired_member_opens_no_shard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that missed the rebalance would fence the current owner, which would restart and be fenced again."""
    monkeypatch.setattr(fleet, "keep_serving", functools.partial(keep_serving, restart_s=0.0))
    opened: list[int] = []

    def open_log(_cluster: object, _clock: object, shard: int, _shards: int) -> None:
        opened.append(shard)
        raise LogError("fenced by a newer owner")

    monkeypatch.setattr(fleet, "KafkaLog", open_log)
    cluster = FakeCluster()
    group = ShardGroup(cluster, SystemClock(), ShardGroupOptions(1, tmp_path))
    async with joined(cluster, group):
        await cluster.assign(0)
        await until(lambda: len(opened) > 2)
        cluster.calls.fail("confirm", LogError("the group does not know this member"))
        count = len(opened)
        await cluster.calls.until("confirm", more=3)
        assert len(opened) <= count + 1


async def test_engine_is_ready_once_it_has_an_assignment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The assignment may have no shards; a later rebalance changes nothing, because shards are served during it."""

    async def serve(_shard: int) -> None:
        await asyncio.get_running_loop().create_future()

    cluster = FakeCluster()
    group = ShardGroup(cluster, SystemClock(), ShardGroupOptions(2, tmp_path))
    monkeypatch.setattr(group, "_serve", serve)
    async with joined(cluster, group):
        assert group.unready == "the group has not assigned shards yet"
        await cluster.assign()
        assert group.unready == ""
        await cluster.revoke()
        assert group.unready == ""
