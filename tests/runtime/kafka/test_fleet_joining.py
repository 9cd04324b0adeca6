"""An engine that joins copies the tables of its shards before it gets them, and is not ready until then."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepstream.contract.codec import encode
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka import fleet
from stepstream.runtime.kafka.fleet import ShardGroup, ShardGroupOptions
from stepstream.runtime.kafka.shards.placement import Placement, decode_claim
from tests.fakes.cluster import FakeCluster
from tests.fakes.waiting import iterate, until

SHARDS = 4


class FakeCopy:
    """A copy of a shard that is warm when the test says so."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.position: int | None = 10
        self.unready = "is copied first, 7 rows left"
        self._on_warm: Callable[[], None] = lambda: None

    async def serve(self, on_warm: Callable[[], None]) -> None:
        """Copy until cancelled."""
        self._on_warm = on_warm
        await asyncio.get_running_loop().create_future()

    def warm_up(self) -> None:
        """Reach the end of the changelog."""
        self.unready = ""
        self._on_warm()


class Joining:
    """An engine in its group, with copies that the test makes warm."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, standby: bool = False) -> None:
        self.cluster = FakeCluster()
        self.copies: dict[int, FakeCopy] = {}
        self.group = ShardGroup(self.cluster, SystemClock(), ShardGroupOptions(SHARDS, folder, standby=standby))
        monkeypatch.setattr(fleet, "Standby", self._copy)
        monkeypatch.setattr(self.group, "_tables", lambda _: None)
        monkeypatch.setattr(self.group, "_serve", lambda _: asyncio.get_running_loop().create_future())
        self.serving = asyncio.ensure_future(self.group.serve())

    def _copy(self, _cluster: Any, _tables: Any, _clock: Any, shard: int, *_: int) -> FakeCopy:
        self.copies[shard] = FakeCopy(shard)
        return self.copies[shard]

    async def __aenter__(self) -> "Joining":
        await until(lambda: self.cluster.membership)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)

    async def place(self, serves: list[int], copies: list[int]) -> None:
        """Decide as the leader of the group."""
        self.group.placed(encode(Placement(serves, copies)))
        await self.cluster.assign(*serves)
        await until(lambda: self.copies.keys() >= {*copies})


async def test_shards_are_copied_before_they_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once all copies are warm the engine joins again, and claims them."""
    async with Joining(tmp_path, monkeypatch) as joining:
        await joining.place([], [1, 3])
        assert joining.group.unready == "shard 1 is copied first, 7 rows left; shard 3 is copied first, 7 rows left"
        joining.copies[1].warm_up()
        assert joining.group.unready == "shard 3 is copied first, 7 rows left"
        assert joining.cluster.joined_again == 0
        joining.copies[3].warm_up()
        assert (joining.cluster.joined_again, joining.group.unready) == (1, "")
        claim = decode_claim(joining.group.claim())
        assert (claim.serving, sorted(claim.copied), claim.copying) == ({}, [1, 3], ())
        await joining.place([1, 3], [])
        assert joining.group.assigned == [1, 3]
        claim = decode_claim(joining.group.claim())
        assert (claim.starting, claim.copied) == ({1: -1, 3: -1}, ())


async def test_copy_that_ends_during_a_rebalance_moves_its_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader did not know of the copy, and the group ignores the request to join again: it is made once more."""
    async with Joining(tmp_path, monkeypatch) as joining:
        await joining.place([], [1, 2])
        joining.copies[2].position = None
        joining.copies[1].warm_up()
        joining.copies[2].position = 10
        joining.copies[2].warm_up()
        before = joining.cluster.joined_again
        await joining.place([1], [2])
        await until(lambda: joining.cluster.joined_again == before + 1)
        await joining.place([1, 2], [])
        await iterate(10)
        assert joining.cluster.joined_again == before + 1


async def test_copy_that_fails_does_not_delay_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its shard stays where it is, and the engine stays ready for the others."""
    async with Joining(tmp_path, monkeypatch) as joining:
        await joining.place([], [1, 2])
        joining.copies[2].position = None
        joining.copies[1].warm_up()
        assert joining.cluster.joined_again == 1
        await joining.place([1], [2])
        assert joining.group.assigned == [1]
        assert "shard 2" not in joining.group.unready


async def test_standby_copies_first_what_it_will_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it copies all others, whose copies start no rebalance, and keeps them when it must copy another shard."""
    async with Joining(tmp_path, monkeypatch, standby=True) as joining:
        await joining.place([0], [1])
        await iterate(10)
        assert joining.copies.keys() == {1}
        joining.copies[1].warm_up()
        await joining.place([0, 1], [])
        await until(lambda: joining.copies.keys() == {1, 2, 3})
        joining.copies[2].warm_up()
        joining.copies[3].warm_up()
        assert joining.cluster.joined_again == 1
        kept = joining.copies.copy()
        await joining.place([0], [1])
        await until(lambda: joining.copies[1] is not kept[1])
        assert [joining.copies[shard] is kept[shard] for shard in (2, 3)] == [True, True]
        assert sorted(decode_claim(joining.group.claim()).copied) == [2, 3]
