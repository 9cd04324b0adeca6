"""The differences that a survey of the topics finds."""

from collections.abc import Sequence

import pytest

from stepstream.runtime.kafka.answers import Extent
from stepstream.runtime.kafka.layout import config_warnings, expected_topics, shards_of, survey
from stepstream.runtime.kafka.settings import KafkaSettings
from tests.fakes.cluster import FakeCluster


class Described(FakeCluster):
    """A cluster with all topics; each has `replicas`, but one may have only 1, and its `min.insync.replicas`."""

    def __init__(self, replicas: int, in_sync: str, underreplicated: str = "") -> None:
        super().__init__()
        # Keys of topics that an operator changed, and topics whose configuration may not be read.
        self.changed: dict[str, dict[str, str]] = {}
        self.hidden: set[str] = set()
        self.settings = KafkaSettings(namespace="n")
        self._topics = expected_topics(["shop"], 4)
        self._replicas = {name: 1 if name == underreplicated else replicas for name in self._topics}
        self._in_sync = in_sync
        self.configs_read = False

    async def extents(self, topics: Sequence[str] | None = None) -> dict[str, Extent]:
        """Return the extent of each topic."""
        assert topics is None
        return {name: Extent(spec.partitions, self._replicas[name]) for name, spec in self._topics.items()}

    async def configs(self, topics: Sequence[str], keys: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the configuration of each topic."""
        self.configs_read = True
        assert "min.insync.replicas" in keys
        return {
            name: self._topics[name].config | {"min.insync.replicas": self._in_sync} | self.changed.get(name, {})
            for name in topics
            if name not in self.hidden
        }


@pytest.mark.parametrize(
    ("replicas", "in_sync", "differs"),
    [(1, "1", False), (2, "1", False), (3, "2", False), (3, "1", True), (3, "3", True), (5, "3", False)],
)
async def test_topics_with_three_replicas_need_two_in_sync(replicas: int, in_sync: str, differs: bool) -> None:
    """Two or more must acknowledge a write, but not all: one broker may be unavailable."""
    found = await survey(Described(replicas, in_sync), ["shop"])
    assert bool(found) == differs
    difference = f"topic 'n.inbox': min.insync.replicas is {in_sync} instead of 2"
    assert (difference in map(str, found.configs)) == differs
    assert found.replicas == replicas


async def test_topic_with_fewer_replicas_than_the_inbox_is_reported() -> None:
    """The number that the inbox has is the default."""
    found = await survey(Described(3, "2", underreplicated="events"), ["shop"])
    assert found.underreplicated == ["topic 'n.events': each partition has 1 replica instead of 3"]
    assert not found.missing + found.repartitioned
    assert not found.configs


async def test_each_topic_that_differs_has_a_line_with_the_command() -> None:
    """A process that starts logs the lines of the topics that it uses; the command corrects all keys of a topic."""
    cluster = Described(1, "1")
    cluster.changed = {"events": {"retention.ms": "1", "max.message.bytes": "2"}, "history": {"retention.ms": "3"}}
    cluster.hidden = {"replies", "functions"}
    events, unreadable = await config_warnings(cluster, ["shop"], 4, ["history"])
    expected = expected_topics(["shop"], 4)["events"].config
    kept, most = expected["retention.ms"], expected["max.message.bytes"]
    assert events == (
        f"topic 'n.events': retention.ms is 1 instead of {kept}, max.message.bytes is 2 instead of {most}; run "
        "`kafka-configs.sh --bootstrap-server 127.0.0.1:9092 --alter --topic n.events "
        f"--add-config retention.ms={kept},max.message.bytes={most}`"
    )
    assert sorted(unreadable.partition(" cannot be read; grant DescribeConfigs")[0].split()) == sorted(
        ["the", "configuration", "of", "topics", "n.functions,", "n.replies"]
    )


async def test_starting_process_reads_no_configuration() -> None:
    """The number of shards needs no permission DescribeConfigs, which a worker need not have."""
    cluster = Described(3, "1")
    assert await shards_of(cluster, ["shop"]) == 4
    assert not cluster.configs_read
