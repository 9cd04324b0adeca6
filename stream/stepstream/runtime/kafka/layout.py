"""The topics of a cluster against those of the contract: what is missing, what differs, what cannot be changed."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stepstream.contract.errors import InvalidInput, StepstreamError
from stepstream.contract.limits import DAY_MS, TOPIC_CHARACTERS_MAX
from stepstream.contract.names import check_topic_part
from stepstream.contract.topics import INBOX, TOPICS, Topic, commands_topic
from stepstream.runtime.kafka.answers import Extent
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.settings import KafkaSettings

SHARDS_SUGGESTED = 8
_MOVED_REMEDY = "another number of partitions would move keys; choose another --namespace, or make the topic anew"
# What the broker may be told otherwise by hand, at the cost of records that are lost or refused.
_COMPARED = ("cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "delete.retention.ms")
# A write is acknowledged by two replicas, so that the loss of any one broker loses nothing and stops nothing.
_REPLICAS_FOR_A_QUORUM = 3
_IN_SYNC = "min.insync.replicas"


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
        return self.config | ({_IN_SYNC: "2"} if replicas >= _REPLICAS_FOR_A_QUORUM else {})


def wanted_topics(apps: Sequence[str], shards: int) -> dict[str, Wanted]:
    """Return the topics for some apps (or APP.QUEUE), by name without the namespace; raise LayoutError for no name."""
    for app in apps:
        try:
            check_topic_part(app)
        except InvalidInput as error:
            raise LayoutError(f"--app {app!r}: {error}") from None
    found: dict[str, Wanted] = {}
    for topic in TOPICS:
        for name in [commands_topic(app) for app in apps] if "<app>" in topic.name else [topic.name]:
            found[name] = Wanted(shards if topic.sharded else 1, _config(topic))
    return found


def _config(topic: Topic) -> dict[str, str]:
    config = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(topic.retention_ms),
        # A cluster may have another default, by which records would go before they are read.
        "retention.bytes": "-1",
        "max.message.bytes": str(topic.message_bytes_max),
    }
    if topic.compacted:
        # Tables that are older than half of it are thrown away when they come up (kafka.backbone.STALE_MS).
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


@dataclass(frozen=True, slots=True)
class Survey:
    """The topics of a cluster against those of the contract, all that differs at once.

    `shards` is 0 where there is no inbox, `replicas` what the topics should have. `missing` and `created` are names
    without the namespace; `moved` are sentences on other numbers of partitions, `thin` on too few replicas.
    """

    shards: int
    replicas: int
    missing: list[str]
    moved: list[str]
    thin: list[str]
    configs: list[ConfigDifference]

    def __bool__(self) -> bool:
        return bool(self.missing or self.moved or self.thin or self.configs)


async def survey(
    cluster: Cluster, apps: Sequence[str], shards: int = 0, replicas: int = 0, *, configs: bool = True
) -> Survey:
    """Compare the topics for some apps; without `replicas` they should have as many as the inbox.

    `shards` are those that there should be where there is no inbox. Without `configs` nobody is asked for these.
    """
    extents = await cluster.extents()
    inbox = extents.get(INBOX, Extent(0, 0))
    shards, replicas = inbox.partitions or shards, replicas or inbox.replicas
    wanted = wanted_topics(apps, shards)
    name = full_names(cluster.settings, wanted)
    there = {topic: (want, extents[topic]) for topic, want in wanted.items() if topic in extents}
    asked = there if configs else {}
    actual = await cluster.configs(list(asked), (*_COMPARED, _IN_SYNC)) if asked else {}
    return Survey(
        inbox.partitions,
        replicas,
        [topic for topic in wanted if topic not in extents],
        [
            f"topic {name[topic]!r} has {extent.partitions} partitions instead of {want.partitions}"
            for topic, (want, extent) in there.items()
            # Without an inbox nobody knows how many there should be.
            if extent.partitions != want.partitions and want.partitions
        ],
        [
            f"topic {name[topic]!r}: each partition has {_replicas(extent.replicas)} instead of {replicas}"
            for topic, (_, extent) in there.items()
            if extent.replicas < replicas
        ],
        [
            ConfigDifference(name[topic], key, have, value)
            for topic, (want, extent) in asked.items()
            for key, value in want.config_on(extent.replicas).items()
            if not _serves(key, have := actual.get(topic, {}).get(key, ""), value, extent.replicas)
        ],
    )


def _replicas(number: int) -> str:
    return "1 replica" if number == 1 else f"{number} replicas"


def _serves(key: str, actual: str, wanted: str, replicas: int) -> bool:
    """Tell whether a value is as good as the one that is wanted."""
    if key == _IN_SYNC and actual.isdigit():
        # More are safer, as long as one broker may be away.
        return int(wanted) <= int(actual) < replicas
    return actual == wanted


def full_names(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, str]:
    """Return the names with the namespace; raise LayoutError for one that Kafka does not allow."""
    names = {topic: settings.name(topic) for topic in topics}
    for name in names.values():
        if len(name) > TOPIC_CHARACTERS_MAX:
            raise LayoutError(
                f"topic {name!r} has {len(name)} characters, and Kafka allows {TOPIC_CHARACTERS_MAX}: choose a shorter "
                "--namespace, or a shorter name of the app or its queue"
            )
    return names


def apply_command(settings: KafkaSettings, apps: Sequence[str], shards: int, replicas: int = 0) -> str:
    """Return the command that makes the topics, as far as it is known what they should be."""
    words = ["stepstream", "topics", "apply", "--kafka", settings.bootstrap]
    if settings.namespace:
        words += ["--namespace", settings.namespace]
    words += ["--shards", str(shards or SHARDS_SUGGESTED)]
    for app in apps:
        words += ["--app", app]
    if replicas > 1:
        words += ["--replicas", str(replicas)]
    return shlex.join(words)


async def config_differences(cluster: Cluster, apps: Sequence[str], shards: int) -> list[ConfigDifference]:
    """Return what differs in the configuration of the topics that are there."""
    return (await survey(cluster, apps, shards)).configs


async def shards_of(cluster: Cluster, apps: Sequence[str] = ()) -> int:
    """Return the number of shards; raise LayoutError with the remedy when the topics are not as they must be."""
    found = await survey(cluster, apps, configs=False)
    remedy = f"run `{apply_command(cluster.settings, apps, found.shards, found.replicas)}`"
    if not found.shards:
        there_is = f"there is no topic {cluster.settings.name(INBOX)!r}"
        raise LayoutError(f"{there_is}; {remedy}, with the number of shards that there shall be for ever")
    if found.moved:
        raise LayoutError(f"{'; '.join(found.moved)}: {_MOVED_REMEDY}")
    if found.missing:
        problems = [f"topic {cluster.settings.name(topic)!r} is missing" for topic in found.missing]
        raise LayoutError(f"{'; '.join(problems)}; {remedy}")
    return found.shards


async def apply_topics(
    cluster: Cluster,
    apps: Sequence[str],
    shards: int,
    replicas: int = 0,
    tell: Callable[[Survey], None] = lambda _: None,
) -> list[str]:
    """Create what is missing and return its names; refuse a number of shards that would move keys.

    `tell` is given all that differs before anything is made. Raise TopicsRefused for what Kafka does not make.
    """
    found = await survey(cluster, apps, shards, replicas)
    tell(found)
    if found.shards and shards not in (0, found.shards):
        raise LayoutError(
            f"the topics have {found.shards} shards, not {shards}: another number would move every key to another "
            "shard; keep it, or choose another --namespace"
        )
    if not found.shards and shards <= 0:
        raise LayoutError("there are no topics yet: say how many shards there shall be for ever, as --shards 8")
    if found.moved:
        raise LayoutError(f"{'; '.join(found.moved)}: {_MOVED_REMEDY}")
    wanted, copies = wanted_topics(apps, found.shards or shards), found.replicas or 1
    missing = {topic: (wanted[topic].partitions, wanted[topic].config_on(copies)) for topic in found.missing}
    if missing:
        await cluster.create(missing, copies)
    return sorted(missing)
