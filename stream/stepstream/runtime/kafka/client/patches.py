"""All patches of aiokafka and Faust, and all reads of their private attributes.

Importing this module patches aiokafka. The module that imports Faust passes its classes to `patch_faust`, since nothing
below the hosts may import Faust. Before anything is replaced, `require` compares what is installed with what the patch
was written for, and raises ImportError when they differ. pyproject.toml bounds both libraries to versions that were
read.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import client as kafka_client
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    IllegalGenerationError,
    KafkaError,
    NoError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.producer import sender, transaction_manager
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.fetch import FetchResponse_v4
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.record import default_records, memory_records

from stepstream.runtime.kafka.client.description import DescribeTopics
from stepstream.runtime.kafka.client.parsing import batches_of, parse_fetched
from stepstream.runtime.patching import changed_error, require

_TRANSACTION_BACKOFF_S = 0.001
# The connections that create no topics, and whether the request that is being made may create some.
_CREATE_NO_TOPICS = WeakSet[AIOKafkaClient]()
_may_create = ContextVar("may_create", default=True)


def _check_aiokafka() -> None:
    library = "aiokafka"
    require(library, sender.AddPartitionsToTxnHandler, "handle_response", "self", "resp", uses=["BACKOFF_OVERRIDE"])
    if getattr(sender, "BACKOFF_OVERRIDE", None) != 0.02:
        raise changed_error(library, "producer.sender.BACKOFF_OVERRIDE")
    require(library, GroupCoordinator, "_send_req", "self", "request", uses=["coordinator_id", "send"])
    require(library, GroupCoordinator, "_do_commit_offsets", "self", "assignment", "offsets", uses=["_send_req"])
    require(library, GroupCoordinator, "_do_heartbeat", "self", uses=["generation", "member_id", "_send_req"])
    require(library, GroupCoordinator, "reset_generation", "self", uses=["generation", "member_id", "request_rejoin"])
    require(library, GroupCoordinator, "request_rejoin", "self", uses=["_rejoin_needed_fut"])
    require(library, GroupCoordinator, "check_errors", "self", uses=["_coordination_task"])
    require(library, AIOKafkaConsumer, "__init__", "self", uses=["_client", "_coordinator", "_isolation_level"])
    if getattr(fetcher, "MemoryRecords", None) is not memory_records.MemoryRecords:
        raise changed_error(library, "consumer.fetcher.MemoryRecords")
    require(library, AIOKafkaProducer, "__init__", "self", uses=["_txn_manager"])
    require(library, transaction_manager.TransactionManager, "set_pid_and_epoch", "self", uses=["_pid_and_epoch"])
    require(library, AIOKafkaClient, "send", "self", "node_id", "request")
    update = ["MetadataRequest", "list", "update_metadata"]
    require(library, AIOKafkaClient, "_metadata_update", "self", "cluster_metadata", "topics", uses=update)
    if getattr(kafka_client, "MetadataRequest", None) is not MetadataRequest:
        raise changed_error(library, "client.MetadataRequest")
    require(library, MetadataRequest, "__init__", "self", "topics", "allow_auto_topic_creation")
    require(library, default_records._DefaultRecordBatchPy, "_read_msg", "self", uses=["_buffer", "decode"])
    unpack = ["has_next", "next_batch", "validate_crc", "is_control_batch", "base_offset", "next_offset"]
    require(library, fetcher.PartitionRecords, "_unpack_records", "self", uses=unpack)
    require(library, fetcher.Fetcher, "_proc_fetch_request", "self", uses=["send", "topics", "MemoryRecords"])
    require(library, AIOKafkaAdminClient, "_send_request", "self", "request", uses=["get_random_node", "send"])


def _raising(send: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return a `GroupCoordinator._send_req` that raises the error code of an answer as a whole.

    aiokafka ignores that code when it fetches committed offsets, so a coordinator that is still loading looks like a
    group that has committed nothing, and the group reads everything again.
    """

    async def send_req(coordinator: Any, request: Any) -> Any:
        answer = await send(coordinator, request)
        if isinstance(request, OffsetFetchRequest) and (code := getattr(answer, "error_code", 0)):
            coordinator.coordinator_dead()
            raise for_code(code)(f"the coordinator of group {coordinator.group_id} cannot return committed offsets")
        return answer

    return send_req


def _ending_with_topic(commit: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return a `GroupCoordinator._do_commit_offsets` whose error for a topic that does not exist is not retried.

    aiokafka retries it without end. Once a deleted topic was created again, the offsets of the deleted one would be
    committed for the new one, and the records before them would never be read.
    """

    async def commit_offsets(coordinator: Any, assignment: Any, offsets: Any) -> None:
        try:
            await commit(coordinator, assignment, offsets)
        except UnknownTopicOrPartitionError as error:
            raise KafkaError("offsets were not committed: the topic does not exist") from error

    return commit_offsets


def _parsing(send: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return an `AIOKafkaClient.send` that parses and inflates fetched batches in a thread."""

    async def send_and_parse(client: Any, node_id: Any, request: Any, **options: Any) -> Any:
        answer = await send(client, node_id, request, **options)
        if getattr(answer, "API_KEY", None) == FetchResponse_v4.API_KEY:
            await parse_fetched(answer)
        return answer

    return send_and_parse


class _NoTopics:
    """True, unlike an empty list, which aiokafka replaces by all topics of the cluster."""

    def __iter__(self) -> Iterator[str]:
        return iter(())


def _bounded(update: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
    """Return an `AIOKafkaClient._metadata_update` that asks for no topics while the client uses none.

    aiokafka asks for all topics of the cluster then, as often as a coordinator is not available yet: for each of the
    thousands of topics of others, it decodes their partitions on the event loop. See also `create_no_topics`.
    """

    async def update_used(client: Any, cluster: Any, topics: Any) -> bool:
        before = _may_create.set(client not in _CREATE_NO_TOPICS)
        try:
            return await update(client, cluster, topics or (_NoTopics() if cluster is client.cluster else None))
        finally:
            _may_create.reset(before)

    return update_used


def _metadata_request(topics: list[str] | None = None) -> Any:
    """Return a request for topics that creates those that are missing only if the client may."""
    return MetadataRequest(topics, _may_create.get())


def create_no_topics(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Have a consumer or producer create no topic.

    By default brokers create a topic that a client of aiokafka asks for, with their own number of partitions and their
    own retention. A deleted topic would so return at once, and nothing would say that its records are gone.
    """
    _CREATE_NO_TOPICS.add(connections_of(client))


def _patch_aiokafka() -> None:
    _check_aiokafka()
    # A transaction that begins before the markers of the last one are written is refused, and retried after this time.
    # That is the common case; with aiokafka's 20 ms the wait is most of a transaction (median 35 ms, see benchmarks).
    sender.BACKOFF_OVERRIDE = _TRANSACTION_BACKOFF_S
    GroupCoordinator._send_req = _raising(GroupCoordinator._send_req)
    GroupCoordinator._do_commit_offsets = _ending_with_topic(GroupCoordinator._do_commit_offsets)
    # aiokafka inflates batches on the event loop, without a cap, and refuses header names that are not UTF-8.
    AIOKafkaClient.send = _parsing(AIOKafkaClient.send)
    AIOKafkaClient._metadata_update = _bounded(AIOKafkaClient._metadata_update)
    kafka_client.MetadataRequest = _metadata_request
    fetcher.MemoryRecords = batches_of


_patch_aiokafka()


def membership_of(consumer: Any) -> tuple[str, int]:
    """Return the name by which the group knows a consumer of aiokafka, and the generation of the group."""
    return consumer._coordinator.member_id, consumer._coordinator.generation


def join_again(consumer: Any) -> None:
    """Have a consumer of aiokafka join its group again, which starts a rebalance."""
    consumer._coordinator.request_rejoin()


async def heartbeat(consumer: Any) -> bool:
    """Send a heartbeat to the group at once; return whether the group confirmed the membership.

    aiokafka's own heartbeat takes the answer for one about the membership that it has now. If the consumer has joined
    again meanwhile, that would end the new membership, and on a busy machine the one after it.
    """
    coordinator = consumer._coordinator
    member, generation = membership_of(consumer)
    if not member or generation < 0:
        return False
    answer = await coordinator._send_req(HeartbeatRequest(coordinator.group_id, generation, member))
    error = for_code(answer.error_code)
    if (member, generation) != membership_of(consumer):
        return False
    if error is RebalanceInProgressError:
        coordinator.request_rejoin()
    elif error in (IllegalGenerationError, UnknownMemberIdError):
        coordinator.reset_generation()
    return error in (NoError, RebalanceInProgressError)


def epoch_of(producer: Any) -> int:
    """Return the epoch of a transactional producer of aiokafka, -1 before it has started."""
    epoch: int = producer._txn_manager.producer_epoch
    return epoch


async def describe_topics(admin: Any, topics: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return the descriptions of some topics or of all, with their ids, by an administration client of aiokafka."""
    answer = await admin._send_request(DescribeTopics(topics))
    described: list[dict[str, Any]] = answer.to_object()["topics"]
    return described


def connections_of(client: Any) -> Any:
    """Return the connections of a consumer or producer of aiokafka, which can be closed when the client cannot stop."""
    return getattr(client, "_client", None) or client.client


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """The state of a consumer in its group: an error that nothing has read yet, whether it joined, its partitions."""

    error: Exception | None
    joined: bool
    partitions: int


class ConsumerEndedError(Exception):
    """The consumer has stopped reading for good."""


async def read_consumer_state(consumer: Any) -> ConsumerState:
    """Return the state of the consumer of a Faust app; raise ConsumerEndedError when it has stopped.

    Reading the error clears it: until then aiokafka waits, and Faust never reads it. Without this, a consumer without
    permission to read its group would never report it, nor start to read once the permission is granted.
    """
    thread = consumer._thread

    async def read() -> ConsumerState:
        # In the thread of the client, to which its futures belong.
        client = thread._consumer
        if client is None or client._coordinator is None:
            return ConsumerState(None, joined=False, partitions=0)
        coordinator = client._coordinator
        ended = coordinator._coordination_task.done()
        error = None
        try:
            coordinator.check_errors()
        except Exception as found:  # noqa: BLE001 - it is reported, and the client continues
            error = found
        if ended:
            raise ConsumerEndedError(str(error or "it has stopped")) from error
        return ConsumerState(error, joined=coordinator.generation > 0, partitions=len(client.assignment()))

    state: ConsumerState = await thread.call_thread(read)
    return state


def patch_faust(app: Any, consumer: Any, consumer_thread: Any) -> None:
    """Patch Faust, given its classes App, Consumer and AIOKafkaConsumerThread.

    Its consumers read only what is committed: without Faust's own transactions, they would read records of aborted
    transactions. Its apps create no directories: stepstream has no Faust tables, and a worker may have no disk.
    """
    library = "faust-streaming"
    require(library, consumer_thread, "_create_worker_consumer", "self", "transport", uses=["AIOKafkaConsumer"])
    require(library, consumer_thread, "call_thread", "self", "fun")
    require(library, consumer_thread, "on_start", "self", uses=["_consumer", "_create_consumer"])
    require(library, consumer, "__init__", "self", uses=["_thread"])
    require(library, app, "_create_directories", "self", uses=["datadir", "tabledir"])
    make = consumer_thread._create_worker_consumer

    def make_committed(thread: Any, transport: Any) -> Any:
        client = make(thread, transport)
        create_no_topics(client)
        client._isolation_level = "read_committed"
        return client

    consumer_thread._create_worker_consumer = make_committed
    app._create_directories = lambda _: None
