"""The backlog of workers is what their group has not committed and is still there, of topics that are there."""

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
from stepstream.runtime.kafka.fleet import ShardGroup, ShardGroupOptions
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.runtime.ports import LogError, Offsets

TOPIC = "commands.shop"
BEGINNINGS = {(TOPIC, 0): 0, (TOPIC, 1): 0, (TOPIC, 2): 4, (TOPIC, 3): 8}


class Place(NamedTuple):
    """A place, as the client of Kafka has it."""

    topic: str
    partition: int


class Brokers:
    """A cluster and a backbone: four partitions that end at 10, and a group of two."""

    settings = KafkaSettings(namespace="ns")

    def __init__(self) -> None:
        self.code = 0
        self.looked = 0

    async def topics(self) -> dict[str, int]:
        """Return the one topic of commands."""
        self.looked += 1
        return {TOPIC: 4, "events": 4}

    @asynccontextmanager
    async def admin(self) -> AsyncIterator["Brokers"]:
        """Lend itself."""
        yield self

    async def describe_consumer_groups(self, groups: list[str]) -> list[Any]:
        """Return two members."""
        assert groups == ["ns.worker-shop"]
        group = (self.code, groups[0], "Stable", "consumer", "sticky", ["one", "two"], -1)
        return [SimpleNamespace(groups=[group])]

    async def list_consumer_group_offsets(self, group: str) -> dict[Any, Any]:
        """Return what the group has committed: of one partition all, of one nothing, of one what is gone."""
        assert group == "ns.worker-shop"
        places = {0: 10, 1: 7, 3: 2}
        return {Place(f"ns.{TOPIC}", at): SimpleNamespace(offset=offset) for at, offset in places.items()}

    async def ends(self, places: Sequence[tuple[str, int]]) -> Offsets:
        """Return 10 for each."""
        return dict.fromkeys(places, 10)

    async def beginnings(self, places: Sequence[tuple[str, int]]) -> Offsets:
        """Return where those begin that have something to tell."""
        assert (TOPIC, 0) not in places
        return {at: BEGINNINGS[at] for at in places}


def asked(brokers: Brokers) -> Backlogs:
    """Return who asks them."""
    return Backlogs(brokers, brokers)  # type: ignore[arg-type]  # As far as it is used.


async def test_a_backlog_is_what_is_not_committed_and_still_there() -> None:
    """Where nothing was committed all waits that the topic still has; a topic that is not there is left out."""
    brokers = Brokers()
    found = await asked(brokers).read(["shop", "gone"])
    assert found == {"shop": Backlog({0: 0, 1: 3, 2: 6, 3: 2}, 2)}


async def test_workers_that_are_up_are_those_of_the_group() -> None:
    """Whoever looks at a run learns how many there are, or that no broker tells."""
    brokers = Brokers()
    assert await asked(brokers).members(["shop"]) == {"shop": 2}
    brokers.code = 14
    with pytest.raises(LogError, match="cannot be described"):
        await asked(brokers).members(["shop"])


async def test_a_group_that_is_not_known_now_has_no_figure() -> None:
    """Its offsets would look as if nothing was ever committed; the topics are looked for anew then, and only then."""
    brokers = Brokers()
    backlog = asked(brokers)
    for _ in range(2):
        assert await backlog.read(["shop"])
    assert brokers.looked == 1
    brokers.code = 14
    with pytest.raises(LogError, match=r"group ns.worker-shop cannot be described \(Kafka error 14"):
        await backlog.read(["shop"])
    brokers.code = 0
    assert await backlog.read(["shop"])
    assert brokers.looked == 2


async def test_the_topics_of_an_engine_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More apps and queues than are good for the metrics are not told; those that are first by name are."""
    monkeypatch.setattr(backlogs, "TOPICS_MAX", 1)
    assert list(await asked(Brokers()).read(["shop", "zoo"])) == ["shop"]
    assert not await asked(Brokers()).read(["shop", "apples"])


def test_each_topic_is_watched_by_one_engine(tmp_path: Any) -> None:
    """An app and its queues belong to the shards that their names lead to, and are those of the engine that serves."""
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
