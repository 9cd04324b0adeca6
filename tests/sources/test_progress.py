"""The metrics of sources: records, durable events and dead letters, rebalances and lags."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from stepstream.host.monitoring.gauges import SourceGauges
from stepstream.host.sources import agent
from stepstream.host.sources.faust_app import make_faust
from stepstream.host.sources.readers import SourceReaders, SourceSensor
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.ports import LogError, NewRecord
from stepstream.sdk.source import Source
from tests.fakes.waiting import until
from tests.runtime.exposition import Scrape

ORDERS = (TP("orders", 0), TP("orders", 1))


class Log:
    """A log whose appends wait until `let` is set, and may fail first."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.refusals = 0
        self.records: list[NewRecord] = []

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append the records, or raise LogError."""
        await self.let.wait()
        if self.refusals:
            self.refusals -= 1
            raise LogError("no broker answers")
        self.records += records


class Stream:
    """A Faust stream whose events the test gives."""

    def __init__(self, sensor: SourceSensor) -> None:
        self._sensor = sensor
        self._given: asyncio.Queue[Any] = asyncio.Queue()
        self.acked: list[int] = []

    def give(self, partition: int, offset: int, value: bytes) -> None:
        """Deliver a record."""
        message = SimpleNamespace(
            tp=TP("orders", partition), key=None, value=value, timestamp=1.0, headers=None, partition=partition
        )
        message.offset = offset
        self._given.put_nowait(SimpleNamespace(message=message, ack=lambda: self.acked.append(offset)))

    def noack(self) -> "Stream":
        """Leave the acknowledgement to the agent."""
        return self

    async def events(self) -> Any:
        """Yield the records that the test gives; sensors see them first, as in Faust."""
        while True:
            event = await self._given.get()
            self._sensor.on_stream_event_in(event.message.tp, event.message.offset, self, event)
            yield event


class Read:
    """A process that reads the topic `orders`, with the positions of its Faust consumer."""

    def __init__(self) -> None:
        self.log, self.metrics = Log(), Metrics("sources")
        cluster = Cluster(KafkaSettings("localhost:9"))
        host = make_faust(cluster, "sources")
        self.positions: dict[tuple[str, int], int] = dict.fromkeys(ORDERS, 0)
        host.consumer = SimpleNamespace(assignment=lambda: set(self.positions), position=self.position)  # type: ignore[assignment]
        source = Source("orders", name="shop/order", if_="value.n >= 0")
        self.readers = SourceReaders(lambda: host, [source], self.log.append, self.metrics)
        self.gauges = SourceGauges(self.readers, cluster)
        self.ends: dict[tuple[str, int], int] = {}
        self.gauges._measuring = self  # type: ignore[assignment]  # Only what is used.
        self.metrics.ask(self.gauges.read)
        self.stream = Stream(self.readers.sensor)

    async def position(self, at: tuple[str, int]) -> int:
        """Return the position of the consumer."""
        return self.positions[at]

    async def ends_of(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the end offsets of partitions."""
        return {at: self.ends[at] for at in places}

    async def __aenter__(self) -> "Read":
        self._reading = asyncio.ensure_future(self.readers.agents["orders"].read(self.stream))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of a metric, `name` without its prefix."""
        return Scrape(self.metrics.text().decode()).sum(f"stepstream_{name}", **labels)

    async def lags(self, *ends: int) -> list[int]:
        """Return the lag of each partition for these end offsets."""
        return [await self.readers.lag(at, end) for at, end in zip(ORDERS, ends, strict=True)]


async def test_events_are_counted_when_they_are_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record counts when it is read; its event or dead letter when it is written, once, after any failures."""
    monkeypatch.setattr(agent, "_RETRY_S", 0)
    async with Read() as at:
        assert at.sum("dead_letters_total", topic="orders") == at.sum("source_records_total", topic="orders") == 0
        at.log.refusals = 2
        too_large = b'{"n": 1, "text": "' + b"x" * 600_000 + b'"}'
        for offset, value in enumerate((b'{"n": 1}', b"\xff", b'{"n": -1}', b"[1]", too_large)):
            at.stream.give(0, offset, value)
        await until(lambda: at.sum("source_records_total", topic="orders") == 5)
        assert at.sum("source_events_total") == at.sum("dead_letters_total") == 0
        at.log.let.set()
        await until(lambda: len(at.stream.acked) == 5)
        assert at.sum("source_events_total", topic="orders") == 1
        assert at.sum("dead_letters_total", topic="orders", reason="invalid") == 2
        assert at.sum("dead_letters_total", topic="orders", reason="too-large") == 1
        assert at.sum("dead_letters_total") == 3 == len(at.log.records) - 1


async def test_the_lag_counts_records_without_a_durable_event() -> None:
    """Unread records and those whose events are being written count; markers of transactions do not."""
    async with Read() as at:
        assert await at.lags(3, 0) == [3, 0]
        for offset in range(2):
            at.stream.give(0, offset, b'{"n": 1}')
        await until(lambda: at.readers.agents["orders"].in_flight[0] == 2)
        at.positions[ORDERS[0]] = 3  # Records that the client has prefetched are not processed yet.
        assert await at.lags(3, 0) == [3, 0]
        at.log.let.set()
        await until(lambda: len(at.stream.acked) == 2)
        at.positions[ORDERS[0]] = 2
        assert await at.lags(2, 0) == [0, 0]
        assert await at.lags(3, 0) == [1, 0]
        at.positions[ORDERS[0]] = 3
        assert await at.lags(3, 0) == [0, 0]
        # Another process had the partition meanwhile and read further.
        at.positions[ORDERS[0]] = 90
        assert await at.lags(100, 0) == [10, 0]


async def test_gauges_show_lag_by_topic_and_partition() -> None:
    """They cover the partitions of this process; each rebalance of the group counts."""
    async with Read() as at:
        at.ends = {ORDERS[0]: 4, ORDERS[1]: 7}
        at.gauges._measuring = SimpleNamespace(ends=at.ends_of)  # type: ignore[assignment]
        at.gauges.readings = await at.gauges._read()
        at.readers.sensor.on_rebalance_return(None, {})
        assert at.sum("source_lag_records", topic="orders", partition="0") == 4
        assert at.sum("source_lag_records", topic="orders", partition="1") == 7
        assert at.sum("rebalances_total", group="sources") == 1
        assert at.sum("source_partitions", topic="orders") == 2
        at.positions.clear()
        assert await at.gauges._read() == []
        assert at.sum("source_partitions", topic="orders") == 0


async def test_a_process_without_sources_has_no_source_metrics() -> None:
    """It has no consumer whose positions could be read."""
    host = make_faust(Cluster(KafkaSettings("localhost:9")), "sources")
    readers = SourceReaders(lambda: host, [], Log().append, Metrics("sources"))
    gauges = SourceGauges(readers, Cluster(KafkaSettings("localhost:9")))
    assert not readers.places()
    assert not [*await gauges._read(), *gauges.read()]


def test_faust_opens_no_port_and_creates_no_topic() -> None:
    """Its settings are as docs/architecture.md describes them, and its name is that of the group."""
    conf = make_faust(Cluster(KafkaSettings("localhost:9", "shop")), "sources-app").conf
    assert conf.web_enabled is False
    assert conf.topic_disable_leader is True
    assert conf.topic_allow_declare is False
    assert str(conf.store) == "memory:"
    assert conf.id == "shop.sources-app"
