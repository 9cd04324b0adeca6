"""Faust hosts the process: it supervises the parts that serve, and its agents turn records of topics into events.

No workflow state lives in Faust: whatever its agents repeat has the same result. It opens no port, keeps no table and
creates no topic.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import faust
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from mode import Service

from stepstream.contract.errors import StepstreamError
from stepstream.host.sources.mapping import events_of
from stepstream.host.sources.watching import GroupWatch, describe_failure
from stepstream.runtime.dead_letters import (
    DeadLetterKind,
    DeadLetterObserver,
    FailedSources,
    dead_letter_record,
    kind_of,
    unreadable_kind,
)
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.errors import translate_kafka_errors
from stepstream.runtime.kafka.parsing import unreadable_of
from stepstream.runtime.kafka.patches import patch_faust
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.runtime.ports import LogError, LogRecord, NewRecord
from stepstream.runtime.supervision import keep_serving
from stepstream.sdk.errors import error_info
from stepstream.sdk.source import Source

logger = logging.getLogger(__name__)
# How often Faust looks for topics that were created since.
_REFRESH_MS = 10_000
Append = Callable[[Sequence[NewRecord]], Awaitable[Any]]
_IN_FLIGHT_MAX = 1_000
_RETRY_S = 0.5
_SOURCES_RETRY_S = 10.0


patch_faust(faust.App, Consumer, AIOKafkaConsumerThread)


class Part(Service):
    """A part of the process that Faust starts and stops; a part that fails is restarted after a moment."""

    logger = logging.getLogger("mode.part")

    def __init__(self, name: str, serve: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._name = name
        self._serve = serve
        self._serving: asyncio.Task[None] | None = None

    @property
    def label(self) -> str:
        """The name of the part in the log."""
        return self._name

    async def on_start(self) -> None:
        """Start serving, until the part is stopped."""
        self._serving = asyncio.ensure_future(keep_serving(self._name, self._serve))

    async def on_stop(self) -> None:
        """Stop serving, and wait until that is done."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)


def make_faust(cluster: Cluster, name: str) -> faust.App:
    """Return a Faust app that opens no port and has no tables or topics; `name` is its consumer group."""
    settings = cluster.settings
    logging.getLogger("faust").setLevel(logging.WARNING)
    logging.getLogger("mode").setLevel(logging.WARNING)
    return faust.App(
        settings.name(name),
        broker=[f"aiokafka://{place.strip()}" for place in settings.bootstrap.split(",")],
        broker_credentials=_credentials(settings),
        broker_session_timeout=settings.session_s,
        broker_heartbeat_interval=settings.session_s / 5,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=_REFRESH_MS,
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
    )


async def warn_of_missing(cluster: Cluster, sources: Sequence[Source]) -> None:
    """Log a warning for each topic of a source that does not exist."""
    existing = await cluster.without_namespace().topics() if sources else {}
    for topic in sorted({source.topic for source in sources} - existing.keys()):
        words = (
            "topic %s of a source does not exist, or the right DESCRIBE on it is missing; "
            "it is read within %d seconds of its creation"
        )
        logger.warning(words, topic, _REFRESH_MS // 1_000)


def _credentials(settings: KafkaSettings) -> Any:
    context = settings.client_options().get("ssl_context")
    if settings.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=settings.sasl_username,
            password=settings.sasl_password,
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


class Writing(NamedTuple):
    """What is written for a record of a source, and the kinds of the dead letters among it."""

    records: list[NewRecord]
    dead_letters: list[DeadLetterKind]


class SourceAgent:
    """Turns the records of one topic into events, by all sources of that topic.

    The agent acknowledges each record once its events are durable, because Faust's take() acknowledges a whole batch
    even if the code that processes it is stopped half-way. `written` counts durable events, `in_flight` counts
    the records by partition whose events are not durable yet.
    """

    def __init__(
        self, topic: str, sources: Sequence[Source], append: Append, observer: DeadLetterObserver, group: str
    ) -> None:
        self.topic = topic
        self._group = group
        self.written = 0
        self.in_flight: Counter[int] = Counter()
        self._sources = sources
        self._append = append
        self._observer = observer
        self._room = asyncio.Semaphore(_IN_FLIGHT_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        observer.reads(topic)

    async def read(self, stream: Any) -> None:
        """Read a Faust stream until cancelled, with many records on their way to the log at once."""
        try:
            async for event in stream.noack().events():
                await self._room.acquire()
                task = asyncio.ensure_future(self._write(event, self.writing_of(event.message)))
                self._tasks.add(task)
                task.add_done_callback(self._ended)
        finally:
            for task in self._tasks:
                task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _write(self, event: Any, writing: Writing) -> None:
        partition = event.message.partition
        self.in_flight[partition] += 1
        try:
            await self._append_with_retries(writing.records)
            event.ack()
        finally:
            self.in_flight[partition] -= 1
        self.written += len(writing.records) - len(writing.dead_letters)
        for kind in writing.dead_letters:
            self._observer.dead_letter(self.topic, kind)

    async def _append_with_retries(self, records: Sequence[NewRecord]) -> None:
        while records:
            try:
                await self._append(records)
            except LogError as error:
                logger.warning("events of topic %s cannot be written yet and will be retried: %s", self.topic, error)
                await asyncio.sleep(_RETRY_S)
            else:
                return

    def writing_of(self, message: Any) -> Writing:
        """Return what to write for a message: the event of each source, and a dead letter naming those that failed."""
        nulls = tuple(name for name in ("key", "value") if getattr(message, name) is None)
        headers, timestamp = tuple(message.headers or ()), round(message.timestamp * 1_000)
        place, unreadable = (self.topic, message.partition, message.offset), unreadable_of(headers)
        record = LogRecord(*place, message.key or b"", message.value or b"", headers, timestamp, nulls, unreadable)
        found = Writing([], [])
        if unreadable:
            logger.warning("unreadable batch of topic %s moved to dead-letters: %s", self.topic, unreadable.reason)
            every = FailedSources(self._group, tuple(source.name for source in self._sources))
            found.records.append(dead_letter_record(record, unreadable.reason, every))
            found.dead_letters.append(unreadable_kind(unreadable))
            return found
        failed: dict[str, Exception] = {}
        for source in self._sources:
            try:
                found.records.extend(events_of(source, record))
            except Exception as error:  # noqa: BLE001 - any error makes a dead letter, and other records continue
                failed[source.name] = error
        if failed:
            why = {name: error_info(error).message for name, error in failed.items()}
            reason = "; ".join(f"{name}: {each}" if len(self._sources) > 1 else each for name, each in why.items())
            logger.warning("a record of topic %s moved to dead-letters: %s", self.topic, reason)
            found.records.append(dead_letter_record(record, reason, FailedSources(self._group, tuple(failed))))
            first = next(iter(failed.values()))
            found.dead_letters.append(kind_of(first) if isinstance(first, StepstreamError) else "not-applicable")
        return found


class SourceSensor(faust.Sensor):
    """Observes which records Faust passes to the agents, and how often the group assigns partitions.

    `taken` has, by partition, the offset after the last record that an agent received. The counts continue those of the
    sensor `before`.
    """

    logger = logging.getLogger("mode.sensor")

    def __init__(self, before: "SourceSensor | None" = None) -> None:
        super().__init__()
        self.records: Counter[str] = before.records if before else Counter()
        self.taken: dict[tuple[str, int], int] = {}
        self.assignments: int = before.assignments if before else 0

    def on_stream_event_in(self, tp: Any, offset: int, _stream: Any, _event: Any) -> None:
        """Count a record that an agent receives."""
        self.records[tp.topic] += 1
        self.taken[tp] = offset + 1

    def on_rebalance_return(self, _app: Any, _state: Any) -> None:
        """Count an assignment of partitions to this process."""
        self.assignments += 1


class SourceReaders:
    """The sources of a process: an agent for each topic, and their positions.

    They run in a separate Faust app, which is recreated when it fails, so the failure of a foreign topic does not
    affect the shards or runs of the process.
    """

    def __init__(
        self, make: Callable[[], faust.App], sources: Sequence[Source], append: Append, observer: DeadLetterObserver
    ) -> None:
        self._make = make
        host = make()
        self.agents: dict[str, SourceAgent] = {}
        for name in dict.fromkeys(source.topic for source in sources):
            own = [source for source in sources if source.topic == name]
            self.agents[name] = SourceAgent(name, own, append, observer, host.conf.id)
        self.sensor = SourceSensor()
        self._host = self._equipped(host)

    def _equipped(self, host: faust.App) -> faust.App:
        host.sensors.add(self.sensor)
        for name, agent in self.agents.items():
            topic = host.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
            host.agent(topic, name=f"source-{name}")(agent.read)
        return host

    async def serve(self) -> None:
        """Read the sources until cancelled."""
        if self.agents:
            await keep_serving("reading of the sources", self._read, _SOURCES_RETRY_S)
        await asyncio.get_running_loop().create_future()

    async def _read(self) -> None:
        """Read until Faust ends by itself, then raise LogError with the reason."""
        host, group = self._host, self._host.conf.id
        await host.add_runtime_dependency(Part("watch of the sources", GroupWatch(host, group, self.agents).serve))
        try:
            await host.start()
            await host.wait_until_stopped()
            raise LogError(describe_failure(self.agents, group, host.crash_reason)) from host.crash_reason
        finally:
            await host.stop()
            self.sensor = SourceSensor(self.sensor)
            self._host = self._equipped(self._make())

    def places(self) -> list[tuple[str, int]]:
        """Return the (topic, partition) pairs that the group has assigned to this process."""
        try:
            assigned = self._host.consumer.assignment() if self.agents else ()
        except ConsumerNotStarted:
            assigned = ()
        return sorted(at for at in assigned if at[0] in self.agents)

    async def lag(self, at: tuple[str, int], end: int) -> int:
        """Return how many records of a partition that ends at `end` are not acknowledged; raise LogError."""
        topic, partition = at
        in_flight, taken = self.agents[topic].in_flight[partition], self.sensor.taken.get(at)
        if taken is not None and (in_flight or taken >= end):
            return max(end - taken, 0) + in_flight
        # Nothing was read since the assignment, or only the markers of transactions are left, which are not records.
        with translate_kafka_errors("reading the position of a source"):
            position = await self._host.consumer.position(at)  # type: ignore[arg-type]  # Faust's TP is such a pair.
        return max(end - (position or 0), 0)


@asynccontextmanager
async def hosted(host: faust.App, **parts: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run the parts in Faust while the block runs; if Faust itself crashes, the block ends with LogError."""
    # This app has no agents and only supervises.
    host.producer_only = True
    for name, serve in parts.items():
        await host.add_runtime_dependency(Part(name.replace("_", " "), serve))
    ended: list[BaseException] = []
    watching = asyncio.ensure_future(_watch(host, ended, asyncio.current_task()))
    try:
        yield
    except asyncio.CancelledError:
        if ended:
            raise LogError(f"Faust ended: {ended[0]}") from ended[0]
        raise
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await host.stop()


async def _watch(host: faust.App, ended: list[BaseException], block: "asyncio.Task[Any] | None") -> None:
    """Run Faust; if it fails or ends by itself, cancel the block."""
    try:
        await host.start()
        await host.wait_until_stopped()
        ended.append(host.crash_reason or RuntimeError("it stopped by itself"))
    except Exception as error:  # noqa: BLE001 - the block raises it
        ended.append(error)
    if block is not None:
        block.cancel()
