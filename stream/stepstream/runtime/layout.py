"""The topics of a cluster against those of the contract: what is missing, what differs, what cannot be changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from stepstream.contract.errors import StepstreamError
from stepstream.contract.limits import DAY_MS
from stepstream.contract.topics import INBOX, TOPICS, Topic, commands_topic
from stepstream.runtime.kafka import Cluster

_REMEDY = "run `stepstream topics apply`"


class LayoutError(StepstreamError):
    """The cluster's topics are not those of the contract."""

    code = "layout"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic as it should be."""

    partitions: int
    config: dict[str, str]


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


async def shards_of(cluster: Cluster, apps: Sequence[str] = ()) -> int:
    """Return the number of shards; raise LayoutError with the remedy when the topics are not as they must be."""
    topics = await cluster.topics()
    shards = topics.get(INBOX)
    if shards is None:
        raise LayoutError(f"there is no topic {cluster.settings.name(INBOX)!r}; {_REMEDY}")
    problems = differences(topics, wanted_topics(apps, shards))
    if problems:
        remedy = _REMEDY + "".join(f" --app {app}" for app in apps)
        raise LayoutError(f"{'; '.join(problems)}; {remedy}")
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
    missing = {name: (want.partitions, want.config) for name, want in wanted.items() if name not in topics}
    if missing:
        await cluster.create(missing, replicas)
    return sorted(missing)
