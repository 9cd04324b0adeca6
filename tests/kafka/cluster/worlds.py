"""Engines with virtual time on a real Kafka cluster, for the scenarios."""

import secrets
from pathlib import Path
from typing import Any

from stepstream import App
from stepstream.contract.text.names import workers_name
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.topics.layout import expected_topics
from stepstream.testing import VirtualEngine


def fresh_namespace() -> str:
    """Return a namespace that no other test has, also on a broker that several test runs share."""
    return f"test-{secrets.token_hex(6)}"


def topics_for(apps: tuple[App, ...], shards: int) -> dict[str, tuple[int, dict[str, str]]]:
    """Return the topics of the contract for some apps, without retention: virtual time may be far from the real one."""
    keep = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**62)}
    workers = [workers_name(app.name, queue) for app in apps for queue in ("", *app.queues)]
    return {name: (topic.partitions, topic.config | keep) for name, topic in expected_topics(workers, shards).items()}


class KafkaWorld(VirtualEngine):
    """A VirtualEngine whose log is Kafka and whose tables are on disk; it creates the topics that are missing."""

    def __init__(self, bootstrap: str, namespace: str, *apps: App, shards: int, data_dir: Path, **options: Any) -> None:
        self._cluster = Cluster(KafkaSettings(bootstrap, namespace))
        self._topics = topics_for(apps, shards)
        super().__init__(
            *apps,
            shards=shards,
            backbone=lambda clock: KafkaBackbone(self._cluster, clock, shards, data_dir, alone=True),
            **options,
        )

    async def __aenter__(self) -> "KafkaWorld":
        missing = self._topics.keys() - (await self._cluster.topics([*self._topics])).keys()
        await self._cluster.create({name: self._topics[name] for name in missing}, 1)
        await super().__aenter__()
        return self
