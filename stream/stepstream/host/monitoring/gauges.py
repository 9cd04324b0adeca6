"""What processes tell of themselves when their metrics are read: readiness, shards, lags, how full workers are."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping

from stepstream.contract.topics import CHANGELOG, FUNCTIONS, HISTORY
from stepstream.host.monitoring.contact import Contact
from stepstream.host.sources.service import SourceReaders
from stepstream.runtime.embedded.log import EmbeddedBackbone
from stepstream.runtime.embedded.process import EmbeddedEngine
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.backlogs import Backlog, Backlogs
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.fleet import ShardGroup
from stepstream.runtime.kafka.reader import Reader
from stepstream.runtime.kafka.worker_log import KafkaWorkerLog
from stepstream.runtime.metrics import Reading
from stepstream.runtime.ports import LogError
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.worker.attempts import Load
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.worker import Worker

# A worker that the group has given up for so long does not come back by itself.
LOST_S_MAX = 300.0
MEASURE_S = 3.0
AGAIN_S = 1.0
# Together they are less than contact.LOST_S: brokers of which one does not answer are not taken for none.
PING_S_MAX = 3.0
ANSWER_S_MAX = 3.5
# It takes three requests for each topic of commands, and Prometheus does not look more often.
BACKLOG_S = 10.0
BACKLOG_S_MAX = 10.0


class _Lags:
    """Asks the brokers now and then whether they are there and where topics end: whoever is stuck hears nothing.

    `ping` asks any of them for a word; without it, it is somebody else who tells whether they are there.
    """

    def __init__(self, ping: Callable[[], Awaitable[None]] | None = None) -> None:
        self._ask = ping
        self._contact = Contact()
        self.readings: list[Reading] = []

    async def measure(self) -> None:
        """Measure for ever."""
        while True:
            try:
                async with asyncio.timeout(ANSWER_S_MAX):
                    self.readings = await self._read()
            except (LogError, TimeoutError):
                # What is not known is left out; an old figure would look like a good one.
                self.readings = []
                await self._ping()
                await asyncio.sleep(AGAIN_S)
            else:
                self._contact.answered()
                await asyncio.sleep(MEASURE_S)

    async def _ping(self) -> None:
        """Find out whether it is all brokers that do not answer, or only those that had to be asked."""
        if self._ask is None:
            return
        try:
            async with asyncio.timeout(PING_S_MAX):
                await self._ask()
        except (LogError, TimeoutError) as error:
            self._contact.missed(error)
        else:
            self._contact.answered()

    async def _read(self) -> list[Reading]:
        raise NotImplementedError


class EngineGauges(_Lags):
    """The gauges of `stepstream engine`."""

    def __init__(self, group: ShardGroup, backbone: KafkaBackbone, shards: int) -> None:
        super().__init__(backbone.ping)
        self._backbone = backbone
        self._group = group
        self._history = [(HISTORY, partition) for partition in range(shards)]
        self.copies: list[Reading] = []

    @property
    def unready(self) -> str:
        """Why the engine is not ready; empty when brokers answer, it is in the group and each shard of it serves."""
        return self._contact.unready or self._group.unready

    async def _read(self) -> list[Reading]:
        inputs = self._group.inputs()
        copies = {(CHANGELOG, shard): position for shard, position in self._group.copies().items()}
        ends = await self._backbone.ends([*inputs, *self._history, *copies])
        found = [
            Reading("input_lag_records", (str(shard), at[0]), await self._group.lag(shard, at, ends[at]))
            for at, shards in inputs.items()
            for shard in shards
        ]
        for at in self._history:
            lag = await self._backbone.history_lag(at, ends[at])
            found.append(Reading("input_lag_records", (str(at[1]), HISTORY), lag))
        self.copies = [
            Reading("standby_lag_rows", (str(at[1]),), max(ends[at] - position, 0)) for at, position in copies.items()
        ]
        return found

    def read(self) -> Iterator[Reading]:
        """Return the gauges now."""
        yield Reading("ready", (), not self.unready)
        yield Reading("rebalances", ("engine",), self._group.assignments)
        serving = set[str]()
        for state in self._group.states():
            label = (str(state.shard),)
            yield Reading("shard_serving", label, state.serving)
            yield Reading("recovery_read_rows", label, state.rows_read)
            yield Reading("recovery_left_rows", label, state.offsets_left)
            serving |= set(label) if state.serving else set()
        yield from (each for each in self.readings if each.labels[0] in serving or each.labels[1] == HISTORY)
        yield from self.copies if self.readings else ()


class SourceGauges(_Lags):
    """The gauges of the sources that a process reads, whose topics are in no namespace."""

    def __init__(self, readers: SourceReaders, cluster: Cluster) -> None:
        super().__init__()
        self._readers = readers
        self._cluster = cluster.without_namespace()
        self._measuring: Reader | None = None

    async def measure(self) -> None:
        """Measure for ever."""
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
        """Return the gauges now; there are none in a process that reads no source."""
        sensor, agents = self._readers.sensor, self._readers.agents
        if agents:
            yield Reading("rebalances", ("sources",), sensor.assignments)
        given = Counter(topic for topic, _ in self._readers.places())
        for topic, agent in agents.items():
            yield Reading("source_partitions", (topic,), given[topic])
            yield Reading("source_records", (topic,), sensor.records[topic])
            yield Reading("source_events", (topic,), agent.written)
        yield from self.readings


class BacklogGauges:
    """What waits for workers that may not be there: of each topic of commands one engine tells it."""

    def __init__(self, group: ShardGroup, backlogs: Backlogs) -> None:
        self._group = group
        self._backlogs = backlogs
        self._readings: list[Reading] = []

    async def measure(self) -> None:
        """Measure for ever."""
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
        """Return the gauges as they were measured last."""
        yield from self._readings


def _load(app: str, load: Load) -> Iterator[Reading]:
    yield Reading("worker_slots", (app,), load.slots)
    yield Reading("worker_slots_in_use", (app,), load.in_use)
    yield Reading("worker_queue_runs", (app,), load.queued)
    yield Reading("worker_cached_runs", (app,), load.cached)


def index_readings(index: RunIndex) -> Iterator[Reading]:
    """Return what the read model tells now."""
    yield Reading("history_skipped", (), index.skipped)


class WorkerSlot(_Lags):
    """The place of a worker in its process: the worker changes when it begins again, its gauges and probes do not."""

    def __init__(self, app: str, backbone: KafkaBackbone) -> None:
        super().__init__(backbone.ping)
        self._backbone = backbone
        self._app = app
        self._held: tuple[Worker | PoolWorker, KafkaWorkerLog] | None = None
        self._assignments = 0
        self._confirmed_at = time.monotonic()
        self._draining = False

    def take(self, worker: Worker | PoolWorker, log: KafkaWorkerLog) -> None:
        """Put a worker and its log in the place of those before."""
        if self._held is not None:
            self._assignments += self._held[1].assignments
            self._confirmed_at = self._last_confirmed()
        self._held = worker, log

    def _last_confirmed(self) -> float:
        return max(self._confirmed_at, self._held[1].confirmed_at) if self._held else self._confirmed_at

    @property
    def draining(self) -> bool:
        """Tell whether the process ends, so that a worker which fails does not begin again."""
        return self._draining

    @property
    def unready(self) -> str:
        """Why the worker is not ready; empty when it polls and the group has given it its partitions, be it none."""
        if self._draining:
            return "it drains: it takes nothing more, and what is at work ends"
        return self._contact.unready or self._unready()

    def _unready(self) -> str:
        if self._held is None or not self._held[0].serving:
            return "it begins, and does not read its commands yet"
        log = self._held[1]
        if not log.assignments:
            return "the group has not given it its partitions yet"
        silent_s = time.monotonic() - log.confirmed_at
        return "" if log.member else f"the group has not confirmed for {silent_s:.0f} s that it is a member"

    @property
    def alive(self) -> bool:
        """Tell whether the group has known the worker of late."""
        return self._draining or time.monotonic() - self._last_confirmed() < LOST_S_MAX

    async def drain(self, seconds: float) -> None:
        """Let the bodies at work end, for so many seconds; the worker is alive, and no longer ready."""
        self._draining = True
        if self._held is not None:
            async with asyncio.timeout(seconds):
                await self._held[0].drain(int(seconds * 1_000))

    async def _read(self) -> list[Reading]:
        if self.unready or self._held is None or not self._held[1].partitions:
            # Somebody is to answer all the same.
            await self._backbone.ends([(FUNCTIONS, 0)])
            return []
        log = self._held[1]
        ends = await self._backbone.ends(log.partitions)
        return [
            Reading("worker_lag_records", (self._app, str(at[1])), await log.lag(at, end)) for at, end in ends.items()
        ]

    def read(self) -> Iterator[Reading]:
        """Return the gauges now."""
        yield Reading("ready", (), not self.unready)
        if self._held is not None:
            yield Reading("rebalances", ("worker",), self._assignments + self._held[1].assignments)
            yield from _load(self._app, self._held[0].load)
        yield from self.readings


def embedded_readings(engine: EmbeddedEngine, backbone: EmbeddedBackbone) -> Iterator[Reading]:
    """Return the gauges of `stepstream dev` now."""
    yield Reading("ready", (), not engine.unready)
    for shard, serving in engine.shards_serving().items():
        label = (str(shard),)
        yield Reading("shard_serving", label, serving)
        # Its tables are those of the journal: there is no changelog to read.
        yield Reading("recovery_read_rows", label, 0)
        yield Reading("recovery_left_rows", label, 0)
    for (topic, shard), lag in backbone.input_lags().items():
        yield Reading("input_lag_records", (str(shard), topic), lag)
    for app, partition, lag in backbone.command_lags():
        yield Reading("worker_lag_records", (app, str(partition)), lag)
        yield Reading("commands_lag_records", (app, str(partition)), lag)
        yield Reading("workers", (app,), 1)
    for app, load in engine.loads().items():
        yield from _load(app, load)
