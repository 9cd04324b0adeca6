"""Reads the sources of a process in their own Faust app, and measures how far they are."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import faust
from faust.exceptions import ConsumerNotStarted

from stepstream.host.sources.agent import Append, SourceAgent
from stepstream.host.sources.faust_app import REFRESH_MS, Part
from stepstream.host.sources.watching import GroupWatch, describe_failure
from stepstream.runtime.dead_letters import DeadLetterObserver
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.errors import translate_kafka_errors
from stepstream.runtime.ports import LogError
from stepstream.runtime.supervision import keep_serving
from stepstream.sdk.source import Source

logger = logging.getLogger(__name__)
_RETRY_S = 10.0


async def warn_of_missing(cluster: Cluster, sources: Sequence[Source]) -> None:
    """Log a warning for each topic of a source that does not exist."""
    topics = {source.topic for source in sources}
    existing = await cluster.without_namespace().topics([*topics]) if topics else {}
    for topic in sorted(topics - existing.keys()):
        words = (
            "topic %s of a source does not exist, or the right DESCRIBE on it is missing; "
            "it is read within %d seconds of its creation"
        )
        logger.warning(words, topic, REFRESH_MS // 1_000)


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
            await keep_serving("reading of the sources", self._read, _RETRY_S)
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
