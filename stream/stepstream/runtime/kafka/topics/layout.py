"""Compares the topics of a cluster with those of the contract, and creates those that are missing."""

import logging
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from stepstream.contract.errors import InvalidInput, StepstreamError
from stepstream.contract.limits import DAY_MS, TOPIC_CHARACTERS_MAX
from stepstream.contract.text.names import check_topic_part
from stepstream.contract.topics import CHANGELOG, COMMANDS, EVENTS, INBOX, TOPICS, Topic, commands_topic
from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.topics.origin import origin_of, recorded_origin
from stepstream.runtime.ports import Origin

logger = logging.getLogger(__name__)
SHARDS_SUGGESTED = 8
_PARTITIONS_REMEDY = "another number of partitions would move keys; choose another --namespace, or recreate the topic"
# Keys whose value decides whether records are lost or refused, or how long the broker stores useless ones.
_COMPARED = (
    "cleanup.policy",
    "retention.ms",
    "retention.bytes",
    "max.message.bytes",
    "delete.retention.ms",
    "segment.ms",
    "segment.bytes",
)
# Two replicas acknowledge each write, so that the loss of any one broker loses no record and stops no writer.
_REPLICAS_FOR_A_QUORUM = 3
_IN_SYNC = "min.insync.replicas"
_FOREVER = "-1"


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
        "retention.bytes": _FOREVER,
        "max.message.bytes": str(topic.message_bytes_max),
    }
    if topic.compacted:
        # Tables that are older than half of this are discarded when they are opened (kafka.backbone.STALE_MS).
        config["delete.retention.ms"] = str(DAY_MS)
    if topic.segment_ms:
        config |= {"segment.ms": str(topic.segment_ms), "segment.bytes": str(topic.segment_bytes)}
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

    `shards` is 0 if there are no topics; `origin` is that of the changelog of shard 0. `replicas` is the expected
    number. `missing` are names without the namespace, `repartitioned` sentences about wrong numbers of partitions,
    `underreplicated` about too few replicas. `grown` are sentences about topics with further partitions, which do no
    harm: they are not differences, since Kafka cannot remove a partition.
    """

    shards: int
    origin: Origin
    replicas: int
    missing: list[str]
    repartitioned: list[str]
    underreplicated: list[str]
    grown: list[str]
    configs: list[ConfigDifference]

    @property
    def recorded(self) -> bool:
        """Whether the changelog records the number of shards."""
        return self.origin.shards > 0

    def __bool__(self) -> bool:
        return bool(self.missing or self.repartitioned or self.underreplicated or self.configs)


async def survey(cluster: Cluster, apps: Sequence[str], shards: int = 0, replicas: int = 0) -> Survey:
    """Compare the topics for some apps; the default for `replicas` is the number that the inbox has.

    `shards` is the expected number if there are no topics.
    """
    extents = await cluster.extents()
    origin = await recorded_origin(cluster) if CHANGELOG in extents else Origin(b"", 0)
    recorded = origin.shards
    found_shards = recorded or _most_common_partitions(extents)
    shards, replicas = found_shards or shards, replicas or extents.get(INBOX, Extent(0, 0)).replicas
    expected = expected_topics(apps, shards)
    name = full_names(cluster.settings, expected)
    existing = {topic: (spec, extents[topic]) for topic, spec in expected.items() if topic in extents}
    actual = await cluster.configs(list(existing), (*_COMPARED, _IN_SYNC)) if existing else {}
    return Survey(
        found_shards,
        origin,
        replicas,
        [topic for topic in expected if topic not in extents],
        [
            _other_partitions(name[topic], extent.partitions, spec.partitions)
            for topic, (spec, extent) in existing.items()
            if extent.partitions < spec.partitions or (extent.partitions > spec.partitions > 0 and not recorded)
        ],
        [
            f"topic {name[topic]!r}: each partition has {_replicas(extent.replicas)} instead of {replicas}"
            for topic, (_, extent) in existing.items()
            if extent.replicas < replicas
        ],
        [
            f"{_other_partitions(name[topic], extent.partitions, spec.partitions)}: {growth_effect(topic)}"
            for topic, (spec, extent) in existing.items()
            if extent.partitions > spec.partitions and recorded
        ],
        [
            ConfigDifference(name[topic], key, have, value)
            for topic, (spec, extent) in existing.items()
            for key, value in spec.config_on(extent.replicas).items()
            if not _suffices(key, have := actual.get(topic, {}).get(key, ""), value, extent.replicas)
        ],
    )


def _most_common_partitions(extents: Mapping[str, Extent]) -> int:
    """Return how many partitions most sharded topics have, 0 if there are none."""
    # A topic to which an operator added partitions says nothing about the others.
    sharded = [INBOX, *(topic.name for topic in TOPICS if topic.sharded)]
    counts = Counter(extents[topic].partitions for topic in sharded if topic in extents)
    return max(counts, key=counts.__getitem__, default=0)


def _other_partitions(name: str, actual: int, expected: int) -> str:
    return f"topic {name!r} has {actual} partitions instead of {expected}"


def growth_effect(topic: str) -> str:
    """Return what happens to partitions beyond the number of shards."""
    return "events in the further ones are read too" if topic == EVENTS else "the further ones are not used"


def topic_problems(
    settings: KafkaSettings, extents: Mapping[str, Extent], topics: Sequence[str], shards: int, apps: Sequence[str] = ()
) -> str:
    """Return why some topics cannot be used, with the remedy; empty if they all exist with enough partitions."""
    sharded = {topic.name for topic in TOPICS if topic.sharded}
    problems = _missing(settings, [topic for topic in topics if topic not in extents])
    remedy = f"run `{apply_command(settings, apps, shards)}`"
    if not problems:
        problems = [
            _other_partitions(settings.name(topic), extents[topic].partitions, shards)
            for topic in topics
            if (topic in sharded or topic.startswith(f"{COMMANDS}.")) and extents[topic].partitions < shards
        ]
        remedy = _PARTITIONS_REMEDY
    return f"{'; '.join(problems)}; {remedy}" if problems else ""


def _missing(settings: KafkaSettings, topics: Iterable[str]) -> list[str]:
    return [f"topic {settings.name(topic)!r} is missing" for topic in topics]


def _replicas(number: int) -> str:
    return "1 replica" if number == 1 else f"{number} replicas"


def _suffices(key: str, actual: str, expected: str, replicas: int) -> bool:
    """Return whether a value is as good as the expected one."""
    if key == _IN_SYNC and actual.isdigit():
        # More are safer, as long as one broker may be unavailable.
        return int(expected) <= int(actual) < replicas
    if key == "retention.ms" and actual and expected != _FOREVER:
        # An operator may keep records for longer.
        return actual == _FOREVER or int(actual) >= int(expected)
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
    words = ["stepstream", "topics", "apply", "--kafka", settings.bootstrap]
    if settings.namespace:
        words += ["--namespace", settings.namespace]
    words += ["--shards", str(shards or SHARDS_SUGGESTED)]
    for app in apps:
        words += ["--app", app]
    if replicas > 1:
        words += ["--replicas", str(replicas)]
    return shlex.join(words)


def alter_command(settings: KafkaSettings, topic: str, differences: Iterable[ConfigDifference]) -> str:
    """Return the command of Kafka's tools that corrects the configuration of a topic."""
    words = ["kafka-configs.sh", "--bootstrap-server", settings.bootstrap, "--alter", "--topic", topic]
    config = ",".join(f"{each.key}={each.expected}" for each in differences)
    return shlex.join([*words, "--add-config", config])


def config_warnings(
    settings: KafkaSettings, differences: Sequence[ConfigDifference], unused: Collection[str] = ()
) -> list[str]:
    """Return a line for each topic whose configuration differs, with the command that corrects it.

    Topics whose configuration may not be read share a line. `unused` are topics that the process does not use.
    """
    left_out = {settings.name(topic) for topic in unused}
    found = [each for each in differences if each.topic not in left_out]
    lines, unreadable = [], dict.fromkeys(each.topic for each in found if not each.actual)
    for topic in dict.fromkeys(each.topic for each in found if each.actual):
        own = [each for each in found if each.topic == topic and each.actual]
        differs = ", ".join(f"{each.key} is {each.actual} instead of {each.expected}" for each in own)
        lines.append(f"topic {topic!r}: {differs}; run `{alter_command(settings, topic, own)}`")
    if unreadable:
        remedy = "grant DescribeConfigs, as in the output of `stepstream topics acls`"
        lines.append(f"the configuration of topics {', '.join(unreadable)} cannot be read; {remedy}")
    return lines


@dataclass(frozen=True, slots=True)
class Layout:
    """What a process knows of its topics: the number of shards, the key of shard 0's origin, and other settings."""

    shards: int
    origin: bytes
    configs: list[ConfigDifference]


async def layout_of(cluster: Cluster, apps: Sequence[str] = (), *, engine: bool) -> Layout:
    """Return the layout; log a warning for each topic with further partitions.

    An engine records the number of shards if that was not done yet; only engines may write to the changelog. Raise
    LayoutError, with the remedy, if the topics do not match the contract.
    """
    found = await survey(cluster, apps)
    remedy = f"run `{apply_command(cluster.settings, apps, found.shards, found.replicas)}`"
    if not found.shards:
        (missing,) = _missing(cluster.settings, [INBOX])
        raise LayoutError(f"{missing}; {remedy}, with the number of shards, which cannot be changed later")
    if found.repartitioned:
        raise LayoutError(f"{'; '.join(found.repartitioned)}: {_PARTITIONS_REMEDY}")
    if found.missing:
        raise LayoutError(f"{'; '.join(_missing(cluster.settings, found.missing))}; {remedy}")
    for each in found.grown:
        logger.warning("%s; Kafka cannot remove them", each)
    origin = found.origin
    if engine and not found.recorded:
        # Another process may record it at the same time: the first record counts.
        origin = await origin_of(cluster, 0, found.shards)
    return Layout(origin.shards or found.shards, origin.key, found.configs)


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
