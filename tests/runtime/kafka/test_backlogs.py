"""The backlog of workers: the retained offsets that their group has not committed."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.ids import shard_of
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka import backlogs
from stepstream.runtime.kafka.backlogs import Backlog, Backlogs
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.fleet import ShardGroup, ShardGroupOptions
from stepstream.runtime.overview import RunningWorker
from stepstream.runtime.ports import LogError, Offsets, TopicPartition

TOPIC = "commands.shop"
BEGINNINGS = {(TOPIC, 0): 0, (TOPIC, 1): 0, (TOPIC, 2): 4, (TOPIC, 3): 8}


_MEMBERS = [("1", "stepstream-r1", "/10.0.0.7", b"", b""), ("2", "two", "/10.0.0.8", b"", b"")]


class ClientPartition(NamedTuple):
    """A partition, as in aiokafka."""

    topic: str
    partition: int


class Brokers(Cluster):
    """A cluster and a backbone: four partitions that end at 10, and a group with two members."""

    def __init__(self) -> None:
        super().__init__(KafkaSettings(namespace="ns"))
        self.code = 0
        self.queries = 0

    async def topics(self, _names: Sequence[str] | None = None) -> dict[str, int]:
        """Return the one topic of commands."""
        self.queries += 1
        return {TOPIC: 4, "events": 4}

    @asynccontextmanager
    async def admin(self) -> AsyncIterator["Brokers"]:
        """Provide itself."""
        yield self

    async def describe_consumer_groups(self, groups: list[str]) -> list[Any]:
        """Return two members."""
        assert groups == ["ns.worker-shop"]
        group = (self.code, groups[0], "Stable", "consumer", "sticky", _MEMBERS, -1)
        return [SimpleNamespace(groups=[group])]

    async def list_consumer_group_offsets(self, group: str) -> dict[Any, Any]:
        """Return the committed offsets: one at the end, one missing, and one before the first retained record."""
        assert group == "ns.worker-shop"
        committed = {0: 10, 1: 7, 3: 2}
        return {ClientPartition(f"ns.{TOPIC}", at): SimpleNamespace(offset=offset) for at, offset in committed.items()}

    async def ends(self, partitions: Sequence[TopicPartition]) -> Offsets:
        """Return 10 for each."""
        return dict.fromkeys(partitions, 10)

    async def beginnings(self, partitions: Sequence[TopicPartition]) -> Offsets:
        """Return the first retained offsets; a partition without a backlog is not queried."""
        assert (TOPIC, 0) not in partitions
        return {at: BEGINNINGS[at] for at in partitions}


def backlogs_of(brokers: Brokers) -> Backlogs:
    """Return what reads the backlogs."""
    return Backlogs(brokers, brokers)  # type: ignore[arg-type]  # The backbone as far as it is used.


async def test_backlog_counts_uncommitted_retained_offsets() -> None:
    """Without a commit, all retained offsets count; a topic that does not exist is missing."""
    brokers = Brokers()
    found = await backlogs_of(brokers).read(["shop", "gone"])
    assert found == {"shop": Backlog({0: 0, 1: 3, 2: 6, 3: 2}, 2)}


async def test_running_workers_are_the_members_of_the_group() -> None:
    """Each with its host, and what its client id has. It is an error if the group cannot be described."""
    brokers = Brokers()
    first = RunningWorker("r1", client="stepstream-r1", host="10.0.0.7")
    assert await backlogs_of(brokers).members(["shop"]) == {
        "shop": [first, RunningWorker("", "", "", "two", "10.0.0.8")]
    }
    brokers.code = 14
    with pytest.raises(LogError, match="cannot be described"):
        await backlogs_of(brokers).members(["shop"])


async def test_group_that_cannot_be_described_is_an_error() -> None:
    """Its backlog would count all offsets as uncommitted. Topics are listed again only after such an error."""
    brokers = Brokers()
    backlog = backlogs_of(brokers)
    for _ in range(2):
        assert await backlog.read(["shop"])
    assert brokers.queries == 1
    brokers.code = 14
    with pytest.raises(LogError, match=r"GroupLoadInProgressError: .*group ns.worker-shop cannot be described"):
        await backlog.read(["shop"])
    brokers.code = 0
    assert await backlog.read(["shop"])
    assert brokers.queries == 2


async def test_topics_of_one_engine_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many apps and queues for the metrics, those with the first names count."""
    monkeypatch.setattr(backlogs, "TOPICS_MAX", 1)
    assert list(await backlogs_of(Brokers()).read(["shop", "zoo"])) == ["shop"]
    assert not await backlogs_of(Brokers()).read(["shop", "apples"])


def test_each_backlog_is_exported_by_one_engine(tmp_path: Any) -> None:
    """The names of apps and queues are hashed to shards; the engine that serves the shard exports the backlog."""
    known = [FunctionRegistered("work", "shop", queues=("gpu", "cpu")), FunctionRegistered("old", "zoo", retired=True)]
    names = {"shop", "shop.gpu", "shop.cpu", "zoo"}
    found: dict[int, list[str]] = {}
    for shard in range(4):
        group = ShardGroup(None, VirtualClock(0), ShardGroupOptions(4, tmp_path))  # type: ignore[arg-type]  # It is not served.
        served: Any = SimpleNamespace(serving=True, rows_read=0, functions=lambda: known)
        group._tasks[shard] = group._served[shard] = served
        group._logs[shard] = SimpleNamespace(changelog_left=0)  # type: ignore[assignment]
        found[shard] = group.workers()
        served.serving = False
        assert not group.workers()
    assert sorted(name for own in found.values() for name in own) == sorted(names)
    assert all(shard_of(name, 4) == shard for shard, own in found.items() for name in own)
