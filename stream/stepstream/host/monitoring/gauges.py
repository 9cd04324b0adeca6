"""The gauges that processes export when their metrics are read: readiness, shards, lags, and how full workers are."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Protocol

from stepstream.contract.topics import CHANGELOG, FUNCTIONS, HISTORY
from stepstream.host.broker_contact import LOST_S, BrokerContact
from stepstream.host.monitoring.arrivals import Arrivals
from stepstream.host.sources.readers import SourceReaders
from stepstream.host.worker_slot import WorkerSlot
from stepstream.runtime.embedded.log import EmbeddedBackbone
from stepstream.runtime.embedded.process import EmbeddedEngine
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.backlogs import Backlog, Backlogs
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.reader import Reader
from stepstream.runtime.kafka.fleet import ShardGroup
from stepstream.runtime.metrics import Reading
from stepstream.runtime.ports import LogError
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.worker.memory import MemoryBudget
from stepstream.runtime.worker.observer import Load
from stepstream.runtime.worker.publisher import LivePublisher

MEASURE_S = 3.0
AGAIN_S = 1.0
# Together they are shorter than broker_contact.LOST_S: one silent broker must not look like a lost cluster.
PING_S_MAX = 3.0
ANSWER_S_MAX = 3.5
# Measuring takes three requests for each topic of commands, and Prometheus does not scrape more often.
BACKLOG_S = 10.0
BACKLOG_S_MAX = 10.0


class Measured(Protocol):
    """Gauges that are measured in the background, and read when metrics are read."""

    async def measure(self) -> None:
        """Measure until cancelled."""

    def read(self) -> Iterator[Reading]:
        """Return the current gauges."""


class _Lags:
    """Asks the brokers periodically where topics end, which also shows whether brokers answer at all.

    When they do not, `ping` asks any broker for an answer; without `ping` another part of the process watches contact.
    """

    def __init__(self, ping: Callable[[], Awaitable[None]] | None = None, contact: BrokerContact | None = None) -> None:
        self._ask_any = ping
        self._contact = contact or BrokerContact()
        self.readings: list[Reading] = []

    async def measure(self) -> None:
        """Measure until cancelled; while no broker answers, only ping."""
        reachable = True
        while True:
            if reachable and await self._measured():
                self._contact.answered()
                await asyncio.sleep(MEASURE_S)
            else:
                reachable = await self._ping()
                await asyncio.sleep(AGAIN_S)

    async def _measured(self) -> bool:
        """Return whether the brokers that had to be asked answered."""
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                self.readings = await self._read()
        except (LogError, TimeoutError):
            # An unknown figure is left out, because an old one would look like a good one.
            self.readings = []
            return False
        return True

    async def _ping(self) -> bool:
        """Return whether any broker answers: the failed measurement may have needed one that does not."""
        if self._ask_any is None:
            return True
        # A ping ends when the loss of contact is due, so that the loss is noticed then.
        due_s = LOST_S - self._contact.silent_s
        try:
            async with asyncio.timeout(due_s if 0 < due_s < PING_S_MAX + AGAIN_S else PING_S_MAX):
                await self._ask_any()
        except (LogError, TimeoutError) as error:
            self._contact.missed(error)
            return False
        self._contact.answered()
        return True

    async def _read(self) -> list[Reading]:
        raise NotImplementedError


class EngineGauges(_Lags):
    """The gauges of `stepstream engine`; `topics` says why its topics cannot be used, and is empty if they can."""

    def __init__(
        self, group: ShardGroup, backbone: KafkaBackbone, shards: int, topics: Callable[[], str] = lambda: ""
    ) -> None:
        super().__init__(backbone.ping)
        self._topics = topics
        self._backbone = backbone
        self._group = group
        self._history = [(HISTORY, partition) for partition in range(shards)]
        self.copies: list[Reading] = []
        self._arrivals = Arrivals()

    @property
    def unready(self) -> str:
        """Why the engine is not ready; empty when brokers answer, it is in its group and each of its shards serves."""
        return self._contact.unready or self._topics() or self._group.unready

    async def _read(self) -> list[Reading]:
        inputs = self._group.inputs()
        copies = {(CHANGELOG, shard): position for shard, position in self._group.copies().items()}
        ends = await self._backbone.ends([*inputs, *self._history, *copies])
        lags: dict[tuple[int, str], tuple[int, int]] = {}
        for at, shards in inputs.items():
            for shard in shards:
                # A shard may read several partitions of a topic.
                end, lag = lags.get((shard, at[0]), (0, 0))
                lags[shard, at[0]] = end + ends[at], lag + await self._group.lag(shard, at, ends[at])
        found = list(_inputs(lags, self._arrivals))
        for at in self._history:
            lag = await self._backbone.history_lag(at, ends[at])
            found.append(Reading("input_lag_records", (str(at[1]), HISTORY), lag))
        self.copies = [
            Reading("standby_lag_rows", (str(at[1]),), max(ends[at] - position, 0)) for at, position in copies.items()
        ]
        return found

    def read(self) -> Iterator[Reading]:
        """Return the current gauges."""
        yield Reading("ready", (), not self.unready)
        yield Reading("rebalances", ("engine",), self._group.assignments)
        serving = set[str]()
        for state in self._group.states():
            label = (str(state.shard),)
            yield Reading("shard_serving", label, state.serving)
            yield Reading("recovery_read_rows", label, state.rows_read)
            yield Reading("recovery_left_rows", label, state.offsets_left)
            serving |= set(label) if state.serving else set()
        for shard in sorted({int(label) for label in serving} | self._group.takeovers.keys()):
            yield Reading("shard_takeovers", (str(shard),), self._group.takeovers[shard])
        yield from _oldest_waits(self._group.oldest_waits())
        yield from (each for each in self.readings if each.labels[0] in serving or each.labels[-1] == HISTORY)
        yield from self.copies if self.readings else ()


def _inputs(lags: Mapping[tuple[int, str], tuple[int, int]], arrivals: Arrivals) -> Iterator[Reading]:
    """Yield the lag of each input, and the age of the oldest record of each shard; `lags` has the end and the lag."""
    ages = dict[int, float]()
    for input, age in arrivals.measured(lags).items():
        ages[input[0]] = max(ages.get(input[0], 0.0), age)
    for (shard, topic), (_, lag) in lags.items():
        yield Reading("input_lag_records", (str(shard), topic), lag)
    for shard, age in ages.items():
        yield Reading("input_oldest_seconds", (str(shard),), age)


class SourceGauges(_Lags):
    """The gauges of the sources that a process reads; their topics are outside any namespace."""

    def __init__(self, readers: SourceReaders, cluster: Cluster) -> None:
        super().__init__()
        self._readers = readers
        self._cluster = cluster.without_namespace()
        self._measuring: Reader | None = None

    async def measure(self) -> None:
        """Measure until cancelled."""
        try:
            await super().measure()
        finally:
            if self._measuring is not None:
                measuring, self._measuring = self._measuring, None
                await measuring.close()

    async def _read(self) -> list[Reading]:
        places = self._readers.places()
        if places and self._measuring is None:
            self._measuring = await self._cluster.reader()
        ends = await self._measuring.ends(places) if places and self._measuring else {}
        return [
            Reading("source_lag_records", (at[0], str(at[1])), await self._readers.lag(at, end))
            for at, end in ends.items()
        ]

    def read(self) -> Iterator[Reading]:
        """Return the current gauges; a process that reads no source has none."""
        sensor, agents = self._readers.sensor, self._readers.agents
        if agents:
            yield Reading("rebalances", ("sources",), sensor.assignments)
        assigned = Counter(topic for topic, _ in self._readers.places())
        for topic, agent in agents.items():
            yield Reading("source_partitions", (topic,), assigned[topic])
            yield Reading("source_records", (topic,), sensor.records[topic])
            yield Reading("source_events", (topic,), agent.written)
        yield from self.readings


class BacklogGauges:
    """The commands that wait for workers, which may all be down: one engine reports those of each topic."""

    def __init__(self, group: ShardGroup, backlogs: Backlogs) -> None:
        self._group = group
        self._backlogs = backlogs
        self._readings: list[Reading] = []

    async def measure(self) -> None:
        """Measure until cancelled."""
        while True:
            try:
                async with asyncio.timeout(BACKLOG_S_MAX):
                    self._readings = list(self._read(await self._backlogs.read(self._group.workers())))
            except (LogError, TimeoutError):
                self._readings = []
            await asyncio.sleep(BACKLOG_S if self._readings else MEASURE_S)

    def _read(self, backlogs: Mapping[str, Backlog]) -> Iterator[Reading]:
        for app, backlog in backlogs.items():
            yield Reading("workers", (app,), backlog.members)
            for partition, lag in backlog.lags.items():
                yield Reading("commands_lag_records", (app, str(partition)), lag)

    def read(self) -> Iterator[Reading]:
        """Return the gauges as last measured."""
        yield from self._readings


class WorkerGauges(_Lags):
    """The gauges of `stepstream worker`."""

    def __init__(self, slot: WorkerSlot, backbone: KafkaBackbone) -> None:
        super().__init__(backbone.ping, slot.contact)
        self._slot = slot
        self._backbone = backbone

    async def _read(self) -> list[Reading]:
        log = self._slot.log
        if self._slot.unready or log is None or not log.partitions:
            # No lag can be measured, but the answer shows that a broker is reachable.
            await self._backbone.ends([(FUNCTIONS, 0)])
            return []
        ends = await self._backbone.ends(log.partitions)
        return [
            Reading("worker_lag_records", (self._slot.name, str(at[1])), await log.lag(at, end))
            for at, end in ends.items()
        ]

    def read(self) -> Iterator[Reading]:
        """Return the current gauges."""
        yield Reading("ready", (), not self._slot.unready)
        if (load := self._slot.load) is not None:
            yield Reading("rebalances", ("worker",), self._slot.assignments)
            yield from _load(self._slot.name, load)
        yield from self.readings


def _oldest_waits(ages: Mapping[str, float]) -> Iterator[Reading]:
    for gate, age in ages.items():
        yield Reading("gate_oldest_wait_seconds", (gate,), age)


def _load(app: str, load: Load) -> Iterator[Reading]:
    yield Reading("worker_slots", (app,), load.slots)
    yield Reading("worker_slots_in_use", (app,), load.in_use)
    yield Reading("worker_queue_runs", (app,), load.queued)
    yield Reading("worker_cached_runs", (app,), load.cached)
    yield Reading("worker_body_threads", (app,), load.threads)
    yield Reading("worker_body_threads_in_use", (app,), load.threads_in_use)


def memory_readings(memory: MemoryBudget) -> Iterator[Reading]:
    """Return the current gauges of the memory budget of a process."""
    yield Reading("worker_memory_bytes", (), memory.used)
    yield Reading("worker_memory_limit_bytes", (), memory.bytes_max)


def publisher_readings(publisher: LivePublisher) -> Iterator[Reading]:
    """Return the current counts of live messages."""
    yield Reading("live_messages_published", (), publisher.published)
    yield Reading("live_messages_failed", (), publisher.failed)


def index_readings(index: RunIndex) -> Iterator[Reading]:
    """Return the current gauges of the read model."""
    yield Reading("history_skipped", (), index.skipped)


class EmbeddedGauges:
    """The gauges of `stepstream dev`."""

    def __init__(self, engine: EmbeddedEngine, backbone: EmbeddedBackbone) -> None:
        self._engine = engine
        self._backbone = backbone
        self._arrivals = Arrivals()

    def read(self) -> Iterator[Reading]:
        """Return the current gauges."""
        yield Reading("ready", (), not self._engine.unready)
        for shard, serving in self._engine.shards_serving().items():
            label = (str(shard),)
            yield Reading("shard_serving", label, serving)
            yield Reading("shard_takeovers", label, 0)
            # The tables are read from the journal: there is no changelog to recover from.
            yield Reading("recovery_read_rows", label, 0)
            yield Reading("recovery_left_rows", label, 0)
        lags = self._backbone.input_lags()
        inputs = {
            (shard, topic): (self._backbone.journal.end(topic, shard), lag)
            for (topic, shard), lag in lags.items()
            if topic != HISTORY
        }
        yield from _inputs(inputs, self._arrivals)
        yield from _oldest_waits(self._engine.oldest_waits())
        for (topic, shard), lag in lags.items():
            if topic == HISTORY:
                yield Reading("input_lag_records", (str(shard), topic), lag)
        for app, partition, lag in self._backbone.command_lags():
            yield Reading("worker_lag_records", (app, str(partition)), lag)
            yield Reading("commands_lag_records", (app, str(partition)), lag)
            yield Reading("workers", (app,), 1)
        for app, load in self._engine.loads().items():
            yield from _load(app, load)
