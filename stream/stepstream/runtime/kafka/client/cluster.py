"""A Kafka cluster: its clients, topics and consumer groups."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from stepstream.runtime.kafka.client.answers import (
    Extent,
    Member,
    TopicsRefused,
    configs_in,
    extents_in,
    members_in,
    refused_in,
)
from stepstream.runtime.kafka.client.errors import translate_kafka_errors
from stepstream.runtime.kafka.client.patches import describe_topics
from stepstream.runtime.kafka.client.producer import Producer
from stepstream.runtime.kafka.client.reader import Reader
from stepstream.runtime.kafka.client.settings import KafkaSettings

CLIENT = "stepstream"
_RETRY_BACKOFF_MS = 20


class Cluster:
    """The Kafka cluster of some settings."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self._options = settings.client_options() | {"retry_backoff_ms": _RETRY_BACKOFF_MS}

    def without_namespace(self) -> "Cluster":
        """Return the same cluster with full topic names, as other applications use it."""
        return Cluster(replace(self.settings, namespace=""))

    async def producer(self, transactional_id: str = "") -> Producer:
        """Return a connected producer."""
        producer = Producer(self.settings, self._options, transactional_id)
        try:
            await producer.start()
        except BaseException:
            await producer.close()
            raise
        return producer

    async def reader(
        self, *, group: str = "", instance: str = "", committed: bool = True, known: bool = False, client: str = CLIENT
    ) -> Reader:
        """Return a connected consumer without partitions; `committed` hides records of open transactions.

        With `known`, a read from an offset that does not exist fails, instead of continuing at the beginning. `client`
        is the client id, which brokers return in the description of a group.
        """
        options = self._options | {"client_id": client}
        reader = Reader(self.settings, options, group, instance, committed, known)
        try:
            await reader.start()
        except BaseException:
            await reader.close()
            raise
        return reader

    async def topics(self, names: Sequence[str] | None = None) -> dict[str, int]:
        """Return the number of partitions of these topics, or of all of the namespace, without those that do not exist.

        All of them is expensive on a cluster with thousands of topics, since Kafka lists also those of others.
        """
        return {name: extent.partitions for name, extent in (await self.extents(names)).items()}

    async def extents(self, topics: Sequence[str] | None = None) -> dict[str, Extent]:
        """Return the extents of these topics, or of all of the namespace; those that do not exist are missing."""
        async with self.admin() as admin:
            return await self.extents_by(admin, topics)

    async def extents_by(self, admin: AIOKafkaAdminClient, topics: Sequence[str] | None) -> dict[str, Extent]:
        """Return what `extents` returns, by a client that is connected."""
        names = None if topics is None else [self.settings.name(topic) for topic in topics]
        with translate_kafka_errors("describing topics"):
            return extents_in(await describe_topics(admin, names), self.settings)

    async def create(self, topics: Mapping[str, tuple[int, Mapping[str, str]]], replicas: int) -> None:
        """Create topics, name to (partitions, configuration); topics that exist are left unchanged.

        Raise TopicsRefused if Kafka refuses any; the others are created.
        """
        new = [
            NewTopic(self.settings.name(name), count, replicas, topic_configs=dict(config))
            for name, (count, config) in topics.items()
        ]
        async with self.admin() as admin:
            with translate_kafka_errors("creating topics"):
                answer = await admin.create_topics(new)
        # The client raises no error for a single topic; the answer has one for each.
        if refused := refused_in(answer.topic_errors, lambda code: for_code(code).message):
            raise TopicsRefused(refused)

    async def configs(self, topics: Sequence[str], keys: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the values of some configuration keys by topic; those that may not be read are missing."""
        names = {self.settings.name(topic): topic for topic in topics}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(keys)) for name in names]
        async with self.admin() as admin:
            with translate_kafka_errors("reading the configuration of topics"):
                answers = await admin.describe_configs(resources)
        return {names[name]: config for name, config in configs_in(answers).items()}

    async def members(self, *groups: str) -> list[str]:
        """Return the client ids of the members of consumer groups."""
        async with self.admin() as admin:
            return [member.client for group in groups for member in await self.members_by(admin, group)]

    async def members_by(self, admin: AIOKafkaAdminClient, group: str) -> list[Member]:
        """Return the members of a consumer group, by a client that is connected."""
        with translate_kafka_errors("describing a group"):
            # The client misreads an answer with more than one group.
            answers = await admin.describe_consumer_groups([self.settings.name(group)])
            for code, name, *_ in (described for answer in answers for described in answer.groups):
                if code:
                    raise for_code(code)(f"group {name} cannot be described")
        return members_in(answers)

    async def delete(self, topics: Sequence[str]) -> None:
        """Delete topics with all their records."""
        async with self.admin() as admin:
            with translate_kafka_errors("deleting topics"):
                await admin.delete_topics([self.settings.name(name) for name in topics])

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """Provide an administration client on a new connection; raise LogError if no broker answers."""
        client = AIOKafkaAdminClient(**self._options)
        with translate_kafka_errors("reaching the cluster"):
            await client.start()
        try:
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def reading(cluster: Cluster) -> AsyncIterator[Reader]:
    """Connect a consumer of a cluster for a block."""
    reader = await cluster.reader()
    try:
        yield reader
    finally:
        await reader.close()
