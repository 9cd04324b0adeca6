"""What an operator does to the topics of a cluster: recreates them, adds partitions, changes settings."""

from collections.abc import Mapping

from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.errors import translate_kafka_errors
from stepstream.runtime.kafka.topics.layout import TopicSpec
from tests.polling import until_async


async def recreate_topic(cluster: Cluster, topic: str, spec: TopicSpec, replicas: int = 1) -> None:
    """Delete a topic and create it again at once, as the contract says."""
    await cluster.delete([topic])
    while topic not in await cluster.topics([topic]):
        await cluster.create({topic: (spec.partitions, spec.config_on(replicas))}, replicas)


async def grow_topic(cluster: Cluster, topic: str, partitions: int) -> None:
    """Give a topic more partitions, as `kafka-topics.sh --alter` does."""
    async with cluster.admin() as admin:
        with translate_kafka_errors("adding partitions"):
            await admin.create_partitions({cluster.settings.name(topic): NewPartitions(total_count=partitions)})


async def configure_topic(cluster: Cluster, topic: str, config: Mapping[str, str]) -> None:
    """Replace all settings of a topic; those that are not given get the default of the broker."""
    resource = ConfigResource(ConfigResourceType.TOPIC, cluster.settings.name(topic), dict(config))
    async with cluster.admin() as admin:
        with translate_kafka_errors("changing the configuration of a topic"):
            answers = await admin.alter_configs([resource])
    refused = [resource for answer in answers for resource in answer.resources if resource[0]]
    assert not refused, refused


async def until_gone(cluster: Cluster, topic: str) -> None:
    """Return when a topic that was deleted is no longer listed."""

    async def is_gone() -> bool:
        return topic not in await cluster.topics([topic])

    await until_async(is_gone)
