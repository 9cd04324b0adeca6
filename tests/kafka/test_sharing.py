"""How a group shares its partitions out when a member comes: who stays keeps what it can."""

import asyncio
from collections.abc import Sequence

import pytest

from stepstream.contract.topics import INBOX
from stepstream.runtime import kafka
from stepstream.runtime.kafka import Cluster, KafkaSettings, Membership, Reader
from tests.kafka.broker import running_broker

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
PARTITIONS = 8
SHARE_S_MAX = 30.0


class Member:
    """A member of a group, and which partitions it has."""

    def __init__(self) -> None:
        self.has = frozenset[int]()
        self._changed = asyncio.Event()
        self._reader: Reader | None = None

    async def join(self, cluster: Cluster, changed: asyncio.Event) -> "Member":
        """Join the group; `changed` is set whenever partitions come or go."""
        self._changed = changed
        self._reader = await cluster.reader(group="engine")
        self._reader.join(INBOX, Membership(self._assigned, self._revoked))
        return self

    async def _assigned(self, partitions: list[int]) -> None:
        self.has = frozenset(partitions)
        self._changed.set()

    async def _revoked(self, _: list[int]) -> None:
        self.has = frozenset()

    async def leave(self) -> None:
        """Leave the group."""
        if self._reader is not None:
            await self._reader.close()


async def until_shared(members: Sequence[Member], changed: asyncio.Event) -> list[frozenset[int]]:
    """Return what each member has once each has some and together they have all, no partition twice."""
    async with asyncio.timeout(SHARE_S_MAX):
        while sorted(at for member in members for at in member.has) != list(range(PARTITIONS)) or not all(
            member.has for member in members
        ):
            await changed.wait()
            changed.clear()
    return [member.has for member in members]


async def join_one_by_one(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> list[list[frozenset[int]]]:
    """Have three members join; return what each has after each came."""
    cluster = Cluster(KafkaSettings(bootstrap, "sharing"))
    await cluster.create({INBOX: (PARTITIONS, {})}, 1)
    members: list[Member] = []
    changed = asyncio.Event()
    found: list[list[frozenset[int]]] = []
    assignor = vars(kafka)["StickyPartitionAssignor"]
    try:
        for number in range(3):
            # It keeps what it knows in its class, as if there were one member a process: each has a class of its own.
            monkeypatch.setattr(kafka, "StickyPartitionAssignor", type(f"Of{number}", (assignor,), {}))
            members.append(await Member().join(cluster, changed))
            found.append(await until_shared(members, changed))
    finally:
        await asyncio.gather(*(member.leave() for member in members))
    return found


def test_who_stays_keeps_its_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition moves only to the one who comes: between those who stay it would be a recovery for nothing."""
    with running_broker() as bootstrap:
        _, (first, second), (first_after, second_after, third) = asyncio.run(join_one_by_one(bootstrap, monkeypatch))
    assert {len(first), len(second)} == {PARTITIONS // 2}
    assert not (first_after - first) | (second_after - second)
    assert third == (first | second) - first_after - second_after
    assert sorted(map(len, (first_after, second_after, third))) == [2, 3, 3]
