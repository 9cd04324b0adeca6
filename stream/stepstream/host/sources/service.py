"""Faust as the host of a process: it supervises what serves, and its agents turn the records of topics into events.

Workflow state is nowhere in it: what its agents do may be done twice and is the same. It opens no port, keeps no table
and makes no topic.
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
from stepstream.host.sources.watching import GroupWatch, not_read
from stepstream.runtime.dead_letters import (
    DeadLetterKind,
    DeadLetterObserver,
    FailedSources,
    dead_letter_record,
    kind_of,
)
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.errors import translate_kafka_errors
from stepstream.runtime.kafka.patches import patch_faust
from stepstream.runtime.kafka.reader import SESSION_MS
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.runtime.ports import LogError, LogRecord, NewRecord
from stepstream.runtime.supervision import keep_serving
from stepstream.sdk.errors import error_info
from stepstream.sdk.source import Source

logger = logging.getLogger(__name__)
# How often Faust looks for topics that were made meanwhile.
_LOOK_MS = 10_000
Append = Callable[[Sequence[NewRecord]], Awaitable[Any]]
_IN_FLIGHT_MAX = 1_000
_AGAIN_S = 0.5
_SOURCES_AGAIN_S = 10.0


patch_faust(faust.App, Consumer, AIOKafkaConsumerThread)


class Part(Service):
    """A part of the process that Faust starts and stops; what fails begins again after a moment."""

    logger = logging.getLogger("mode.part")

    def __init__(self, name: str, serve: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._name = name
        self._serve = serve
        self._serving: asyncio.Task[None] | None = None

    @property
    def label(self) -> str:
        """What the part is called in the log."""
        return self._name

    async def on_start(self) -> None:
        """Begin to serve; it goes on until the part is stopped."""
        self._serving = asyncio.ensure_future(keep_serving(self._name, self._serve))

    async def on_stop(self) -> None:
        """Stop serving, and return when that is done."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)


def make_faust(cluster: Cluster, name: str) -> faust.App:
    """Return a Faust app without a port, tables or topics of its own; `name` is its consumer group."""
    settings = cluster.settings
    logging.getLogger("faust").setLevel(logging.WARNING)
    logging.getLogger("mode").setLevel(logging.WARNING)
    return faust.App(
        settings.name(name),
        broker=[f"aiokafka://{place.strip()}" for place in settings.bootstrap.split(",")],
        broker_credentials=_credentials(settings),
        broker_session_timeout=SESSION_MS / 1_000,
        broker_heartbeat_interval=SESSION_MS / 5_000,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=_LOOK_MS,
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
    )


async def tell_of_missing(cluster: Cluster, sources: Sequence[Source]) -> None:
    """Warn of topics that sources are to read and that are not there."""
    there = await cluster.without_namespace().topics() if sources else {}
    for topic in sorted({source.topic for source in sources} - there.keys()):
        words = (
            "topic %s, which a source reads, is not there, or the right DESCRIBE on it is missing; "
            "once it is found it is read within %d seconds"
        )
        logger.warning(words, topic, _LOOK_MS // 1_000)


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
    """What is to be written for a record of a source, and of which kinds the letters among it are."""

    records: list[NewRecord]
    letters: list[DeadLetterKind]


class SourceAgent:
    """Turns the records of one topic into events, by all sources that read it; each record is dealt with once durable.

    Faust's own take() says that a record is dealt with when the code that has it is stopped in its middle, so records
    are acknowledged one by one, here. `written` counts the events that are durable, `at_work` has the records whose
    events are not, by partition.
    """

    def __init__(
        self, topic: str, sources: Sequence[Source], append: Append, observer: DeadLetterObserver, group: str
    ) -> None:
        self.topic = topic
        self._group = group
        self.written = 0
        self.at_work: Counter[int] = Counter()
        self._sources = sources
        self._append = append
        self._observer = observer
        self._room = asyncio.Semaphore(_IN_FLIGHT_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        observer.reads(topic)

    async def read(self, stream: Any) -> None:
        """Take the events of a Faust stream, for ever; many are on their way to the log at once."""
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
        self.at_work[partition] += 1
        try:
            await self._append_in_the_end(writing.records)
            event.ack()
        finally:
            self.at_work[partition] -= 1
        self.written += len(writing.records) - len(writing.letters)
        for kind in writing.letters:
            self._observer.dead_letter(self.topic, kind)

    async def _append_in_the_end(self, records: Sequence[NewRecord]) -> None:
        while records:
            try:
                await self._append(records)
            except LogError as error:
                logger.warning("events of topic %s cannot be written, and are tried again: %s", self.topic, error)
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    def writing_of(self, message: Any) -> Writing:
        """Return what is to be written for a message: an event for each source, and a letter that says which failed."""
        nulls = tuple(name for name in ("key", "value") if getattr(message, name) is None)
        headers, timestamp = tuple(message.headers or ()), round(message.timestamp * 1_000)
        place = (self.topic, message.partition, message.offset)
        record = LogRecord(*place, message.key or b"", message.value or b"", headers, timestamp, nulls)
        found = Writing([], [])
        failed: dict[str, Exception] = {}
        for source in self._sources:
            try:
                found.records.extend(events_of(source, record))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a record, it is put aside and others go on
                failed[source.name] = error
        if failed:
            why = {name: error_info(error).message for name, error in failed.items()}
            reason = "; ".join(f"{name}: {each}" if len(self._sources) > 1 else each for name, each in why.items())
            logger.warning("a record of topic %s is put aside: %s", self.topic, reason)
            found.records.append(dead_letter_record(record, reason, FailedSources(self._group, tuple(failed))))
            first = next(iter(failed.values()))
            found.letters.append(kind_of(first) if isinstance(first, StepstreamError) else "not-applicable")
        return found


class SourceSensor(faust.Sensor):
    """Sees what Faust hands to the agents, and how often the group shares the partitions out.

    `taken` has the offset after the last record of each partition that an agent was handed. What is counted goes on
    where the sensor `before` has ended.
    """

    logger = logging.getLogger("mode.sensor")

    def __init__(self, before: "SourceSensor | None" = None) -> None:
        super().__init__()
        self.records: Counter[str] = before.records if before else Counter()
        self.taken: dict[tuple[str, int], int] = {}
        self.assignments: int = before.assignments if before else 0

    def on_stream_event_in(self, tp: Any, offset: int, _stream: Any, _event: Any) -> None:
        """A record is handed to an agent."""
        self.records[tp.topic] += 1
        self.taken[tp] = offset + 1

    def on_rebalance_return(self, _app: Any, _state: Any) -> None:
        """The group has given this process its partitions."""
        self.assignments += 1


class SourceReaders:
    """The sources of a process: an agent for each topic, and how far they are.

    They are in a Faust app of their own, which is made anew when it fails: what is wrong with a topic of others is
    nothing to the shards or runs of the process.
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
        """Read the sources, for ever; without any there is nothing to do."""
        if self.agents:
            await keep_serving("reading of the sources", self._read, _SOURCES_AGAIN_S)
        await asyncio.get_running_loop().create_future()

    async def _read(self) -> None:
        """Read until Faust ends by itself, and raise LogError with the reason."""
        host, group = self._host, self._host.conf.id
        await host.add_runtime_dependency(Part("watch of the sources", GroupWatch(host, group, self.agents).serve))
        try:
            await host.start()
            await host.wait_until_stopped()
            raise LogError(not_read(self.agents, group, host.crash_reason)) from host.crash_reason
        finally:
            await host.stop()
            self.sensor = SourceSensor(self.sensor)
            self._host = self._equipped(self._make())

    def places(self) -> list[tuple[str, int]]:
        """Return the (topic, partition) that the group has given this process."""
        try:
            given = self._host.consumer.assignment() if self.agents else ()
        except ConsumerNotStarted:
            given = ()
        return sorted(at for at in given if at[0] in self.agents)

    async def lag(self, at: tuple[str, int], end: int) -> int:
        """Return how many records of a partition that ends at `end` are not dealt with; raise LogError."""
        topic, partition = at
        at_work, taken = self.agents[topic].at_work[partition], self.sensor.taken.get(at)
        if taken is not None and (at_work or taken >= end):
            return max(end - taken, 0) + at_work
        # Nothing was read since it was given to us, or what is left is no record but marks the end of a transaction.
        with translate_kafka_errors("asking how far a source is read"):
            position = await self._host.consumer.position(at)  # type: ignore[arg-type]  # Faust's TP is such a pair.
        return max(end - (position or 0), 0)


@asynccontextmanager
async def hosted(host: faust.App, **parts: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Have Faust run parts while the block runs, the reading of sources among them; its own crash ends the block."""
    # Without agents it has nothing to consume, and is a supervisor alone.
    host.producer_only = True
    for name, serve in parts.items():
        await host.add_runtime_dependency(Part(name.replace("_", " "), serve))
    ended: list[BaseException] = []
    watching = asyncio.ensure_future(_watch(host, ended, asyncio.current_task()))
    try:
        yield
    except asyncio.CancelledError:
        if ended:
            raise LogError(f"Faust has ended: {ended[0]}") from ended[0]
        raise
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await host.stop()


async def _watch(host: faust.App, ended: list[BaseException], block: "asyncio.Task[Any] | None") -> None:
    """Start Faust; when it fails or ends by itself, stop what runs under it."""
    try:
        await host.start()
        await host.wait_until_stopped()
        ended.append(host.crash_reason or RuntimeError("it was stopped"))
    except Exception as error:  # noqa: BLE001 - it is raised where the block runs
        ended.append(error)
    if block is not None:
        block.cancel()
