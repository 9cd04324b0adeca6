"""The clients of Kafka, made as stepstream needs them: the one place that knows aiokafka."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaConnectionError, KafkaError, ProducerFenced, for_code
from aiokafka.producer import sender
from aiokafka.protocol.commit import OffsetFetchRequest

from stepstream.contract.limits import MIB
from stepstream.runtime.kafka_answers import Extent as Extent
from stepstream.runtime.kafka_answers import TopicsRefused, clients_in, configs_in, extents_in, records_in, refused_in
from stepstream.runtime.kafka_settings import KafkaSettings
from stepstream.runtime.ports import Fenced, LogError, LogRecord, NewRecord, Offsets

CLIENT = "stepstream"
REQUEST_BYTES_MAX = 50 * MIB
TRANSACTION_MS_MAX = 10_000
COMMIT_S_MAX = 10.0
CONFIRM_S_MAX = 5.0
SESSION_MS = 10_000
_STOP_S_MAX = 5.0
_RETRY_BACKOFF_MS = 20
# How long the client sleeps when a transaction begins before the marks of the last one are written, which is nearly
# always the case; its own 20 ms would be the most of a transaction's time (median 35 ms with it, see the benchmark).
sender.BACKOFF_OVERRIDE = 0.001
# The broker refuses records of the next transaction in the same moment, with NOT_ENOUGH_REPLICAS.
_TRANSACTION_BACKOFF_MS = 4
_FETCH_WAIT_MS = 500
_POLL_INTERVAL_MS_MAX = 2**31 - 1


_send_to_coordinator = GroupCoordinator._send_req


async def _send_and_look(coordinator: Any, request: Any) -> Any:
    """Send, and raise the error of the whole answer, which aiokafka overlooks when it asks for committed offsets.

    Such an answer has no offsets: to aiokafka that is a group that never committed, and all would be read once more.
    """
    answer = await _send_to_coordinator(coordinator, request)
    if isinstance(request, OffsetFetchRequest) and (code := getattr(answer, "error_code", 0)):
        coordinator.coordinator_dead()
        raise for_code(code)(f"the coordinator of group {coordinator.group_id} cannot tell what is committed")
    return answer


GroupCoordinator._send_req = _send_and_look


@contextmanager
def doubt(what: str) -> Iterator[None]:
    """Turn what a client raises into LogError: the outcome is unknown; Fenced when a newer owner is there."""
    try:
        yield
    except asyncio.CancelledError as error:
        # A client that ends cancels what it has in its hands; only what cancels the task is ours.
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        raise LogError(f"{what}: the client gave it up") from error
    except ProducerFenced as error:
        raise Fenced(f"{what}: a newer owner is there") from error
    except KafkaConnectionError as error:
        raise LogError(f"{what}: no broker answers") from error
    except (KafkaError, TimeoutError, OSError) as error:
        raise LogError(f"{what}: {type(error).__name__}: {error}") from error


async def _stop(client: Any, connections: Any) -> None:
    """Stop a client; one that cannot, as when it waits to fetch again, at least goes off the wire."""
    try:
        with doubt("closing"):
            async with asyncio.timeout(_STOP_S_MAX):
                await client.stop()
    except LogError:
        with suppress(LogError), doubt("closing connections"):
            await connections.close()


@dataclass(frozen=True, slots=True)
class Membership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka's classes have no types.
    """What a member of a consumer group does when partitions come and go; both end before the group goes on."""

    assigned: Callable[[list[int]], Awaitable[None]]
    revoked: Callable[[list[int]], Awaitable[None]]

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Hand on what goes, in order."""
        await self.revoked(sorted(tp.partition for tp in revoked))

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Hand on what comes, in order."""
        await self.assigned(sorted(tp.partition for tp in assigned))


class Producer:
    """A producer: transactional for a shard, else idempotent."""

    def __init__(self, settings: KafkaSettings, options: Mapping[str, object], transactional_id: str = "") -> None:
        self._settings = settings
        self._transactional = bool(transactional_id)
        own = {
            "transactional_id": settings.name(transactional_id),
            "transaction_timeout_ms": TRANSACTION_MS_MAX,
            "retry_backoff_ms": _TRANSACTION_BACKOFF_MS,
        }
        self._client = AIOKafkaProducer(
            **{**options, **(own if transactional_id else {"enable_idempotence": True})},
            acks="all",
            max_request_size=REQUEST_BYTES_MAX,
            max_batch_size=256 * 1024,
        )
        self._partitions: dict[str, int] = {}
        self._open = False
        self._turn = 0

    async def start(self) -> None:
        """Connect; a transactional one fences its predecessor and ends that one's open transaction."""
        with doubt("starting a producer"):
            await self._client.start()

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""
        if topic not in self._partitions:
            self._partitions[topic] = len(await self._client.partitions_for(self._settings.name(topic)))
        return self._partitions[topic]

    async def send(self, records: Sequence[NewRecord], timestamp: int | None = None) -> list[tuple[int, int]]:
        """Write records; return (partition, offset) of each once every one is acknowledged.

        `timestamp` is the log's time for them (Unix ms, None: now).
        """
        sent: list[asyncio.Future[object]] = []
        with doubt("writing"):
            try:
                # After so long the broker aborts a transaction; other writes have the client's own deadline.
                async with asyncio.timeout(COMMIT_S_MAX if self._transactional else None):
                    for record in records:
                        sent.append(await self._send(record, timestamp))
                    return [(done.partition, done.offset) for done in await asyncio.gather(*sent)]  # type: ignore[attr-defined]  # RecordMetadata has no types.
            finally:
                for future in sent:
                    if future.done() and not future.cancelled():
                        future.exception()  # One error is enough; the others need not be reported as unread.
                    future.cancel()

    async def _send(self, record: NewRecord, timestamp: int | None) -> "asyncio.Future[object]":
        partition = record.partition
        if partition < 0:
            count = await self.partitions(record.topic)
            # What has no key may go anywhere: it goes round.
            self._turn += not record.key
            partition = (crc32(record.key) if record.key else self._turn) % count
        future: asyncio.Future[object] = await self._client.send(
            self._settings.name(record.topic),
            record.value or (None if "value" in record.nulls else b""),
            key=record.key or (None if "key" in record.nulls else b""),
            partition=partition,
            timestamp_ms=timestamp,
            headers=list(record.headers),
        )
        return future

    async def begin(self) -> None:
        """Open a transaction."""
        with doubt("opening a transaction"):
            await self._client.begin_transaction()
            self._open = True

    async def commit(self) -> None:
        """Commit; LogError means that the outcome is unknown."""
        with doubt("committing"):
            # The client's own commit waits without end.
            async with asyncio.timeout(COMMIT_S_MAX):
                await self._client.commit_transaction()
            self._open = False

    async def close(self) -> None:
        """Abort what is open and disconnect, as far as the cluster lets us; its time-out does the rest."""
        # One that has failed for good asserts that it can be aborted no more.
        with suppress(LogError, AssertionError), doubt("aborting"):
            async with asyncio.timeout(_STOP_S_MAX):
                if self._open:
                    await self._client.abort_transaction()
        await _stop(self._client, self._client.client)


class Reader:
    """A consumer: of chosen partitions, or, with a membership, of those that its group gives it."""

    def __init__(
        self, settings: KafkaSettings, options: dict[str, Any], group: str, instance: str, committed: bool, known: bool
    ) -> None:
        self._settings = settings
        self._client = AIOKafkaConsumer(
            **options,
            group_id=settings.name(group) if group else None,
            group_instance_id=instance or None,
            enable_auto_commit=False,
            auto_offset_reset="none" if known else "earliest",
            isolation_level="read_committed" if committed else "read_uncommitted",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=4 * MIB,
            # Liveness is told by heartbeats; a worker that is full does not poll, and is alive.
            max_poll_interval_ms=_POLL_INTERVAL_MS_MAX,
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=3 * SESSION_MS,
            heartbeat_interval_ms=SESSION_MS // 5,
            partition_assignment_strategy=(StickyPartitionAssignor,),
        )

    async def start(self) -> None:
        """Connect."""
        with doubt("starting a consumer"):
            await self._client.start()

    def assign(self, places: Sequence[tuple[str, int]]) -> None:
        """Read these (topic, partition)."""
        self._client.assign([self._place(at) for at in places])

    def join(self, topic: str, membership: Membership) -> None:
        """Read the partitions of a topic that the group gives."""
        self._client.subscribe([self._settings.name(topic)], listener=membership)

    def _place(self, at: tuple[str, int]) -> TopicPartition:
        return TopicPartition(self._settings.name(at[0]), at[1])

    @property
    def membership(self) -> tuple[str, int]:
        """By which name, and in which of its generations, the group knows us; each time it moves is one."""
        coordinator = self._client._coordinator
        return coordinator.member_id, coordinator.generation

    async def confirm(self) -> None:
        """Have the group say that we are a member still; LogError when it does not."""
        with doubt("asking whether we are in the group"):
            async with asyncio.timeout(CONFIRM_S_MAX):
                if not await self._client._coordinator._do_heartbeat():
                    raise LogError("the group does not say that we are a member of it")

    def seek(self, positions: Offsets) -> None:
        """Go on from these offsets."""
        for at, offset in positions.items():
            self._client.seek(self._place(at), offset)

    def pause(self) -> None:
        """Read nothing of what is assigned now."""
        self._client.pause(*self._client.assignment())

    async def committed(self, places: Sequence[tuple[str, int]]) -> Offsets:
        """Return the committed offsets of the group, 0 where there is none."""
        with doubt("reading committed offsets"):
            return {at: await self._client.committed(self._place(at)) or 0 for at in places}

    async def commit(self, offsets: Offsets) -> None:
        """Commit offsets of partitions that are still ours; the broker refuses a member that it has given up."""
        mine = self._client.assignment()
        places = {self._place(at): offset for at, offset in offsets.items() if self._place(at) in mine}
        if places:
            with doubt("committing positions"):
                await self._client.commit(places)

    async def ends(self, places: Sequence[tuple[str, int]]) -> Offsets:
        """Return the offset after the last committed record of each."""
        with doubt("asking for ends"):
            found = await self._client.end_offsets([self._place(at) for at in places])
        return {at: found[self._place(at)] for at in places}

    async def beginnings(self, places: Sequence[tuple[str, int]]) -> Offsets:
        """Return the offset of the first record that is still there."""
        with doubt("asking for beginnings"):
            found = await self._client.beginning_offsets([self._place(at) for at in places])
        return {at: found[self._place(at)] for at in places}

    async def position(self, at: tuple[str, int]) -> int:
        """Return the offset from which the next read goes on; it is beyond what marks the ends of transactions."""
        with doubt("asking for a position"):
            offset: int = await self._client.position(self._place(at))
        return offset

    async def read(self, limit: int, wait_ms: int) -> list[LogRecord]:
        """Return up to `limit` records, waiting for the first no longer than `wait_ms`."""
        with doubt("reading"):
            found = await self._client.getmany(timeout_ms=wait_ms, max_records=limit)
        return records_in(found, self._settings)

    async def close(self) -> None:
        """Disconnect, and leave the group."""
        await _stop(self._client, self._client._client)


class Cluster:
    """A Kafka cluster, as settings describe it."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self._options = settings.client_options() | {"retry_backoff_ms": _RETRY_BACKOFF_MS}

    def without_namespace(self) -> "Cluster":
        """Return the same cluster as others see it, who know nothing of the namespace."""
        return Cluster(replace(self.settings, namespace=""))

    async def producer(self, transactional_id: str = "") -> Producer:
        """Return a producer that is connected."""
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
        """Return a consumer that is connected and reads nothing yet; `committed` hides what is in open transactions.

        One that reads from `known` places fails where there is nothing, instead of beginning anew. `client` is what the
        brokers call it, as in what they tell of a group.
        """
        options = self._options | {"client_id": client}
        reader = Reader(self.settings, options, group, instance, committed, known)
        try:
            await reader.start()
        except BaseException:
            await reader.close()
            raise
        return reader

    async def topics(self) -> dict[str, int]:
        """Return the topics of the namespace and how many partitions each has."""
        return {name: extent.partitions for name, extent in (await self.extents()).items()}

    async def extents(self) -> dict[str, Extent]:
        """Return the topics of the namespace and how large each is."""
        async with self.admin() as admin:
            with doubt("describing topics"):
                described = await admin.describe_topics()
        return extents_in(described, self.settings)

    async def create(self, topics: Mapping[str, tuple[int, Mapping[str, str]]], replicas: int) -> None:
        """Create topics, name to (partitions, configuration); those that are there stay as they are.

        Raise TopicsRefused when Kafka does not make one of them; the others are made.
        """
        new = [
            NewTopic(self.settings.name(name), count, replicas, topic_configs=dict(config))
            for name, (count, config) in topics.items()
        ]
        async with self.admin() as admin:
            with doubt("creating topics"):
                answer = await admin.create_topics(new)
        # Nothing is raised for a single topic; what became of each stands in the answer.
        if refused := refused_in(answer.topic_errors, lambda code: for_code(code).message):
            raise TopicsRefused(refused)

    async def configs(self, topics: Sequence[str], keys: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the values of some keys of the configuration, by topic; what may not be read is absent."""
        names = {self.settings.name(topic): topic for topic in topics}
        asked = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(keys)) for name in names]
        async with self.admin() as admin:
            with doubt("reading the configuration of topics"):
                answers = await admin.describe_configs(asked)
        return {names[name]: config for name, config in configs_in(answers).items()}

    async def members(self, group: str) -> list[str]:
        """Return what the members of a consumer group call themselves as clients, one for each."""
        async with self.admin() as admin:
            with doubt("describing a group"):
                answers = await admin.describe_consumer_groups([self.settings.name(group)])
                for code, name, *_ in (described for answer in answers for described in answer.groups):
                    if code:
                        raise for_code(code)(f"group {name} cannot be described")
        return clients_in(answers)

    async def delete(self, topics: Sequence[str]) -> None:
        """Delete topics with all that is in them."""
        async with self.admin() as admin:
            with doubt("deleting topics"):
                await admin.delete_topics([self.settings.name(name) for name in topics])

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """Lend a client for administration, by a new connection; LogError when no broker answers."""
        client = AIOKafkaAdminClient(**self._options)
        with doubt("reaching the cluster"):
            await client.start()
        try:
            yield client
        finally:
            await client.close()
