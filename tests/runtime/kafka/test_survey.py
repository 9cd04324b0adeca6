"""What a survey of topics finds, over a cluster that answers as it is told."""

from collections.abc import Sequence
from typing import cast

import pytest

from stepstream.runtime.kafka.answers import Extent
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.layout import expected_topics, shards_of, survey
from stepstream.runtime.kafka.settings import KafkaSettings


class Described:
    """A cluster whose topics are as they should be on some replicas, but for `in_sync` and a topic with fewer."""

    settings = KafkaSettings(namespace="n")

    def __init__(self, replicas: int, in_sync: str, thin: str = "") -> None:
        self._wanted = expected_topics(["shop"], 4)
        self._replicas = {name: 1 if name == thin else replicas for name in self._wanted}
        self._in_sync = in_sync
        self.asked = False

    async def extents(self) -> dict[str, Extent]:
        """Return how large each topic is."""
        return {name: Extent(want.partitions, self._replicas[name]) for name, want in self._wanted.items()}

    async def configs(self, topics: Sequence[str], keys: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the configuration of each topic."""
        self.asked = True
        assert "min.insync.replicas" in keys
        return {name: self._wanted[name].config | {"min.insync.replicas": self._in_sync} for name in topics}


@pytest.mark.parametrize(
    ("replicas", "in_sync", "differs"),
    [(1, "1", False), (2, "1", False), (3, "2", False), (3, "1", True), (3, "3", True), (5, "3", False)],
)
async def test_a_write_waits_for_two_replicas_of_three(replicas: int, in_sync: str, differs: bool) -> None:
    """With three replicas or more a write waits for two or more, and one broker may be away; else it is told."""
    found = await survey(cast("Cluster", Described(replicas, in_sync)), ["shop"])
    assert bool(found) == differs
    told = f"topic 'n.inbox': min.insync.replicas is {in_sync} instead of 2"
    assert (told in map(str, found.configs)) == differs
    assert found.replicas == replicas


async def test_fewer_replicas_than_the_inbox_are_told() -> None:
    """Without a number the topics should have as many replicas as the inbox."""
    found = await survey(cast("Cluster", Described(3, "2", thin="events")), ["shop"])
    assert found.underreplicated == ["topic 'n.events': each partition has 1 replica instead of 3"]
    assert not found.missing + found.repartitioned
    assert not found.configs


async def test_a_process_that_comes_up_asks_for_no_configuration() -> None:
    """The number of shards takes no right DescribeConfigs, which a worker need not have."""
    cluster = Described(3, "1")
    assert await shards_of(cast("Cluster", cluster), ["shop"]) == 4
    assert not cluster.asked
