"""The differences that a survey of the topics finds."""

from collections.abc import Sequence

import pytest

from stepstream.contract.limits import DAY_MS
from stepstream.contract.topics import CHANGELOG, ENGINES
from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.topics.layout import config_warnings, expected_topics, layout_of, survey
from stepstream.runtime.ports import LogRecord
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

    async def extents(self, topics: Sequence[str] | None = None) -> dict[str, Extent]:
        """Return the extent of each topic."""
        assert topics is None
        return {name: Extent(spec.partitions, self._replicas[name]) for name, spec in self._topics.items()}

    async def configs(self, topics: Sequence[str], keys: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the configuration of each topic."""
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
    found = await survey(cluster, ["shop"])
    events, unreadable = config_warnings(cluster.settings, found.configs, ["history"])
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


@pytest.mark.parametrize(("kept", "differs"), [("1", ["retention.ms"]), (str(400 * DAY_MS), []), ("-1", [])])
async def test_records_may_be_kept_for_longer(kept: str, differs: list[str]) -> None:
    """A longer retention loses nothing, and is the choice of an operator."""
    cluster = Described(3, "2")
    cluster.changed = {"events": {"retention.ms": kept}}
    assert [each.key for each in (await survey(cluster, ["shop"])).configs] == differs


async def test_large_segments_of_heartbeats_are_reported() -> None:
    """With the defaults, a broker would store a week of them, or 1 GiB, though they are useless after seconds."""
    cluster = Described(1, "1")
    cluster.changed = {ENGINES: {"segment.ms": "604800000", "segment.bytes": "1073741824"}}
    assert list(map(str, (await survey(cluster, ["shop"])).configs)) == [
        "topic 'n.engines': segment.ms is 604800000 instead of 600000",
        "topic 'n.engines': segment.bytes is 1073741824 instead of 16777216",
    ]


async def test_worker_that_may_not_read_configurations_starts() -> None:
    """The number of shards needs no permission DescribeConfigs, which a worker need not have."""
    cluster = Described(3, "1")
    cluster.hidden = set(expected_topics(["shop"], 4))
    assert (await layout_of(cluster, ["shop"], engine=False)).shards == 4


async def test_starting_engine_reads_the_origin_once() -> None:
    """It has the number of shards, and identifies the topics of the read model."""
    cluster = Described(3, "1")
    cluster.add([LogRecord(CHANGELOG, 0, 0, b"\x00origin-1", b'{"shards":4}', (), 0)])
    found = await layout_of(cluster, ["shop"], engine=True)
    assert (found.shards, found.origin) == (4, b"\x00origin-1")
    assert len(cluster.readers) == 1
    assert "topic 'n.inbox': min.insync.replicas is 1 instead of 2" in map(str, found.configs)
