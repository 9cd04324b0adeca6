"""The topics of a cluster against those of the contract: what is missing, what differs, what cannot be changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from stepstream.contract.errors import StepstreamError
from stepstream.contract.limits import DAY_MS
from stepstream.contract.topics import INBOX, TOPICS, Topic, commands_topic
from stepstream.runtime.kafka import Cluster

_REMEDY = "stepstream topics apply"
# What the broker may be told otherwise by hand, at the cost of records that are lost or refused.
_COMPARED = ("cleanup.policy", "retention.ms", "max.message.bytes", "delete.retention.ms")
# A write is acknowledged by two replicas, so that the loss of any one broker loses nothing and stops nothing.
_REPLICAS_FOR_A_QUORUM = 3
_IN_SYNC = {"min.insync.replicas": "2"}


class LayoutError(StepstreamError):
    """The cluster's topics are not those of the contract."""

    code = "layout"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic as it should be."""

    partitions: int
    config: dict[str, str]

    def config_on(self, replicas: int) -> dict[str, str]:
        """Return the configuration with which it is created on so many replicas."""
        return self.config | (_IN_SYNC if replicas >= _REPLICAS_FOR_A_QUORUM else {})


def wanted_topics(apps: Sequence[str], shards: int) -> dict[str, Wanted]:
    """Return the topics for some apps, by name without the namespace."""
    found: dict[str, Wanted] = {}
    for topic in TOPICS:
        for name in [commands_topic(app) for app in apps] if "<app>" in topic.name else [topic.name]:
            found[name] = Wanted(shards if topic.sharded else 1, _config(topic))
    return found


def _config(topic: Topic) -> dict[str, str]:
    config = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(topic.retention_ms),
        "max.message.bytes": str(topic.message_bytes_max),
    }
    if topic.compacted:
        # Tables that are older than half of it are thrown away when they come up (kafka_backbone.STALE_MS).
        config["delete.retention.ms"] = str(DAY_MS)
    return config


@dataclass(frozen=True, slots=True)
class ConfigDifference:
    """A key of a topic's configuration that is not as the contract has it; `actual` is empty when it cannot be read."""

    topic: str
    key: str
    actual: str
    wanted: str

    def __str__(self) -> str:
        actual = self.actual or "not to be read (it takes the right DescribeConfigs)"
        return f"topic {self.topic!r}: {self.key} is {actual} instead of {self.wanted}"


async def config_differences(cluster: Cluster, apps: Sequence[str], shards: int) -> list[ConfigDifference]:
    """Return what differs in the configuration of the topics that are there."""
    topics = await cluster.topics()
    wanted = {name: want for name, want in wanted_topics(apps, shards).items() if name in topics}
    actual = await cluster.configs(list(wanted), _COMPARED)
    return [
        ConfigDifference(cluster.settings.name(name), key, have, value)
        for name, want in wanted.items()
        for key, value in want.config.items()
        if (have := actual.get(name, {}).get(key, "")) != value
    ]


async def shards_of(cluster: Cluster, apps: Sequence[str] = ()) -> int:
    """Return the number of shards; raise LayoutError with the remedy when the topics are not as they must be."""
    topics = await cluster.topics()
    shards = topics.get(INBOX)
    if shards is None:
        raise LayoutError(f"there is no topic {cluster.settings.name(INBOX)!r}; run `{_REMEDY}`")
    problems = differences(topics, wanted_topics(apps, shards))
    if problems:
        remedy = _REMEDY + "".join(f" --app {app}" for app in apps)
        raise LayoutError(f"{'; '.join(problems)}; run `{remedy}`")
    return shards


def differences(topics: dict[str, int], wanted: dict[str, Wanted]) -> list[str]:
    """Return what is missing, and which partition counts differ."""
    found = [f"topic {name!r} is missing" for name in wanted if name not in topics]
    found += [
        f"topic {name!r} has {topics[name]} partitions instead of {want.partitions}"
        for name, want in wanted.items()
        if name in topics and topics[name] != want.partitions
    ]
    return found


async def apply_topics(cluster: Cluster, apps: Sequence[str], shards: int, replicas: int) -> list[str]:
    """Create what is missing and return its names; refuse a number of shards that would move keys."""
    topics = await cluster.topics()
    there = topics.get(INBOX)
    if there is not None and shards not in (0, there):
        raise LayoutError(
            f"the topics have {there} shards, not {shards}: another number would move every key to another shard; "
            "keep it, or choose another --namespace"
        )
    if there is None and shards <= 0:
        raise LayoutError("there are no topics yet: say how many shards there shall be for ever, as --shards 8")
    wanted = wanted_topics(apps, there or shards)
    moved = [problem for problem in differences(topics, wanted) if "instead" in problem]
    if moved:
        raise LayoutError(f"{'; '.join(moved)}: another number of partitions would move keys")
    missing = {name: (want.partitions, want.config_on(replicas)) for name, want in wanted.items() if name not in topics}
    if missing:
        await cluster.create(missing, replicas)
    return sorted(missing)
