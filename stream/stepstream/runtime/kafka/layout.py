"""Compares the topics of a cluster with those of the contract, and creates those that are missing."""

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
_PARTITIONS_REMEDY = "another number of partitions would move keys; choose another --namespace, or recreate the topic"
# Keys whose value decides whether records are lost or refused.
_COMPARED = ("cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "delete.retention.ms")
# Two replicas acknowledge each write, so that the loss of any one broker loses no record and stops no writer.
_REPLICAS_FOR_A_QUORUM = 3
_IN_SYNC = "min.insync.replicas"


class LayoutError(StepstreamError):
    """The topics of the cluster do not match the contract."""

    code = "layout"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic of the contract, with its partitions and configuration."""

    partitions: int
    config: dict[str, str]

    def config_on(self, replicas: int) -> dict[str, str]:
        """Return the configuration with which it is created on this many replicas."""
        return self.config | ({_IN_SYNC: "2"} if replicas >= _REPLICAS_FOR_A_QUORUM else {})


def expected_topics(apps: Sequence[str], shards: int) -> dict[str, TopicSpec]:
    """Return the topics for apps (or APP.QUEUE), by name without the namespace; raise LayoutError for a bad name."""
    for app in apps:
        try:
            check_topic_part(app)
        except InvalidInput as error:
            raise LayoutError(f"--app {app!r}: {error}") from None
    found: dict[str, TopicSpec] = {}
    for topic in TOPICS:
        for name in [commands_topic(app) for app in apps] if "<app>" in topic.name else [topic.name]:
            found[name] = TopicSpec(shards if topic.sharded else 1, _config(topic))
    return found


def _config(topic: Topic) -> dict[str, str]:
    config = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(topic.retention_ms),
        # The default of a cluster may delete records before they are read.
        "retention.bytes": "-1",
        "max.message.bytes": str(topic.message_bytes_max),
    }
    if topic.compacted:
        # Tables that are older than half of this are discarded when they are opened (kafka.backbone.STALE_MS).
        config["delete.retention.ms"] = str(DAY_MS)
    return config


@dataclass(frozen=True, slots=True)
class ConfigDifference:
    """A configuration key of a topic that differs from the contract; `actual` is empty if it cannot be read."""

    topic: str
    key: str
    actual: str
    expected: str

    def __str__(self) -> str:
        actual = self.actual or "unreadable (the permission DescribeConfigs is missing)"
        return f"topic {self.topic!r}: {self.key} is {actual} instead of {self.expected}"


@dataclass(frozen=True, slots=True)
class Survey:
    """All differences between the topics of a cluster and those of the contract.

    `shards` is 0 if there is no inbox; `replicas` is the expected number. `missing` are names without the namespace,
    `repartitioned` sentences about wrong numbers of partitions, `underreplicated` about too few replicas.
    """

    shards: int
    replicas: int
    missing: list[str]
    repartitioned: list[str]
    underreplicated: list[str]
    configs: list[ConfigDifference]

    def __bool__(self) -> bool:
        return bool(self.missing or self.repartitioned or self.underreplicated or self.configs)


async def survey(
    cluster: Cluster, apps: Sequence[str], shards: int = 0, replicas: int = 0, *, configs: bool = True
) -> Survey:
    """Compare the topics for some apps; the default for `replicas` is the number that the inbox has.

    `shards` is the expected number if there is no inbox. Without `configs`, configurations are not read.
    """
    extents = await cluster.extents()
    inbox = extents.get(INBOX, Extent(0, 0))
    shards, replicas = inbox.partitions or shards, replicas or inbox.replicas
    expected = expected_topics(apps, shards)
    name = full_names(cluster.settings, expected)
    existing = {topic: (spec, extents[topic]) for topic, spec in expected.items() if topic in extents}
    compared = existing if configs else {}
    actual = await cluster.configs(list(compared), (*_COMPARED, _IN_SYNC)) if compared else {}
    return Survey(
        inbox.partitions,
        replicas,
        [topic for topic in expected if topic not in extents],
        [
            f"topic {name[topic]!r} has {extent.partitions} partitions instead of {spec.partitions}"
            for topic, (spec, extent) in existing.items()
            # Without an inbox, the expected number is unknown.
            if extent.partitions != spec.partitions and spec.partitions
        ],
        [
            f"topic {name[topic]!r}: each partition has {_replicas(extent.replicas)} instead of {replicas}"
            for topic, (_, extent) in existing.items()
            if extent.replicas < replicas
        ],
        [
            ConfigDifference(name[topic], key, have, value)
            for topic, (spec, extent) in compared.items()
            for key, value in spec.config_on(extent.replicas).items()
            if not _suffices(key, have := actual.get(topic, {}).get(key, ""), value, extent.replicas)
        ],
    )


def _replicas(number: int) -> str:
    return "1 replica" if number == 1 else f"{number} replicas"


def _suffices(key: str, actual: str, expected: str, replicas: int) -> bool:
    """Return whether a value is as good as the expected one."""
    if key == _IN_SYNC and actual.isdigit():
        # More are safer, as long as one broker may be unavailable.
        return int(expected) <= int(actual) < replicas
    return actual == expected


def full_names(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, str]:
    """Return the names with the namespace; raise LayoutError for a name that Kafka does not allow."""
    names = {topic: settings.name(topic) for topic in topics}
    for name in names.values():
        if len(name) > TOPIC_CHARACTERS_MAX:
            raise LayoutError(
                f"topic {name!r} has {len(name)} characters, and Kafka allows {TOPIC_CHARACTERS_MAX}: choose a shorter "
                "--namespace, or a shorter name for the app or its queue"
            )
    return names


def apply_command(settings: KafkaSettings, apps: Sequence[str], shards: int, replicas: int = 0) -> str:
    """Return the command that creates the topics."""
    return _topics_command("apply", settings, apps, shards or SHARDS_SUGGESTED, replicas)


def check_command(settings: KafkaSettings, apps: Sequence[str] = ()) -> str:
    """Return the command that compares the topics with what they should be."""
    return _topics_command("check", settings, apps)


def _topics_command(verb: str, settings: KafkaSettings, apps: Sequence[str], shards: int = 0, replicas: int = 0) -> str:
    words = ["stepstream", "topics", verb, "--kafka", settings.bootstrap]
    if settings.namespace:
        words += ["--namespace", settings.namespace]
    if shards:
        words += ["--shards", str(shards)]
    for app in apps:
        words += ["--app", app]
    if replicas > 1:
        words += ["--replicas", str(replicas)]
    return shlex.join(words)


async def config_differences(cluster: Cluster, apps: Sequence[str], shards: int) -> list[ConfigDifference]:
    """Return the differences in the configuration of the topics that exist."""
    return (await survey(cluster, apps, shards)).configs


async def shards_of(cluster: Cluster, apps: Sequence[str] = ()) -> int:
    """Return the number of shards; raise LayoutError, with the remedy, if the topics do not match the contract."""
    found = await survey(cluster, apps, configs=False)
    remedy = f"run `{apply_command(cluster.settings, apps, found.shards, found.replicas)}`"
    if not found.shards:
        missing = f"topic {cluster.settings.name(INBOX)!r} is missing"
        raise LayoutError(f"{missing}; {remedy}, with the number of shards, which cannot be changed later")
    if found.repartitioned:
        raise LayoutError(f"{'; '.join(found.repartitioned)}: {_PARTITIONS_REMEDY}")
    if found.missing:
        problems = [f"topic {cluster.settings.name(topic)!r} is missing" for topic in found.missing]
        raise LayoutError(f"{'; '.join(problems)}; {remedy}")
    return found.shards


async def apply_topics(
    cluster: Cluster,
    apps: Sequence[str],
    shards: int,
    replicas: int = 0,
    report: Callable[[Survey], None] = lambda _: None,
) -> list[str]:
    """Create missing topics and return their names; refuse a number of shards that would move keys.

    `report` receives all differences before anything is created. Raise TopicsRefused for topics that Kafka refuses.
    """
    found = await survey(cluster, apps, shards, replicas)
    report(found)
    if found.shards and shards not in (0, found.shards):
        raise LayoutError(
            f"the topics have {found.shards} shards, not {shards}: another number would move every key to another "
            "shard; keep it, or choose another --namespace"
        )
    if not found.shards and shards <= 0:
        raise LayoutError(
            "there are no topics yet: choose the number of shards, for example --shards 8; it cannot be changed later"
        )
    if found.repartitioned:
        raise LayoutError(f"{'; '.join(found.repartitioned)}: {_PARTITIONS_REMEDY}")
    expected, copies = expected_topics(apps, found.shards or shards), found.replicas or 1
    missing = {topic: (expected[topic].partitions, expected[topic].config_on(copies)) for topic in found.missing}
    if missing:
        await cluster.create(missing, copies)
    return sorted(missing)
