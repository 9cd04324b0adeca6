"""Engines with virtual time on a real Kafka cluster, for the scenarios."""

import itertools
from pathlib import Path
from typing import Any

from stepstream import App
from stepstream.contract.names import workers_name
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.layout import expected_topics
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.testing import VirtualEngine

_numbers = itertools.count()


def fresh_namespace() -> str:
    """Return a namespace that no other test of this process has."""
    return f"test-{next(_numbers)}"


def topics_for(apps: tuple[App, ...], shards: int) -> dict[str, tuple[int, dict[str, str]]]:
    """Return the topics of the contract for some apps, but without retention: virtual time may be long ago, or far."""
    keep = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**62)}
    posts = [workers_name(app.name, queue) for app in apps for queue in ("", *app.queues)]
    return {name: (want.partitions, want.config | keep) for name, want in expected_topics(posts, shards).items()}


class KafkaWorld(VirtualEngine):
    """A VirtualEngine whose log is Kafka and whose tables are on disk; topics are made when they are missing."""

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
        missing = self._topics.keys() - (await self._cluster.topics()).keys()
        await self._cluster.create({name: self._topics[name] for name in missing}, 1)
        await super().__aenter__()
        return self
