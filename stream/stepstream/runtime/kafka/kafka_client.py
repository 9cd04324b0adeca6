"""Sends events straight to Kafka, from any program that may write to the topic `events`."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack, overload

from stepstream.client.sent import records_of
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import DEFAULT_LIMITS
from stepstream.runtime.callers import Callers
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.producer import Producer
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import LogError, NewRecord
from stepstream.sdk.event import Event


class KafkaSecurity(TypedDict, total=False):
    """How to connect to a cluster that is secured; the names are those of the settings `STEPSTREAM_KAFKA_…`."""

    security_protocol: str
    sasl_mechanism: str
    sasl_username: str
    sasl_password: str
    ca_file: str
    cert_file: str
    key_file: str


class KafkaClient:
    """Sends events by writing them to the topic `events`, without an engine.

    Args:
        bootstrap: The addresses of brokers, `HOST:PORT`, several separated by commas.
        namespace: The namespace of the topics, as of the engines.
        security: `security_protocol`, `sasl_mechanism`, `sasl_username`, `sasl_password`, `ca_file`, `cert_file` and
            `key_file`, as in the [settings](settings.md).

    Use it in `async with`, or call `open` and `close`. It needs the right to write to `events`, and no other. Signals,
    results and lists of runs need `Client`: their answers come from an engine.

    Example:
        ```python
        async with KafkaClient("broker:9092") as client:
            await client.send("shop/order.created", {"order_id": 7, "total": 12}, id="order-7")
        ```
    """

    def __init__(
        self, bootstrap: str = "127.0.0.1:9092", *, namespace: str = "", **security: Unpack[KafkaSecurity]
    ) -> None:
        self._cluster = Cluster(KafkaSettings(bootstrap, namespace, **security))
        self._callers = Callers(self._append, 1, DEFAULT_LIMITS)
        self._clock = SystemClock()
        self._lock = asyncio.Lock()
        self._producer: Producer | None = None
        self._is_open = False

    async def __aenter__(self) -> Self:
        """Open the client."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def open(self) -> None:
        """Open the client where `async with` cannot be used; it connects when it sends."""
        self._is_open = True

    async def close(self) -> None:
        """Close the connections, once what is being sent is acknowledged."""
        async with self._lock:
            self._is_open = False
            await self._leave(self._producer)

    @overload
    async def send(
        self, name: str, /, data: Any = None, *, id: str = "", ts: int | datetime = 0, user: Any = None, v: str = ""
    ) -> str: ...
    @overload
    async def send(self, /, *events: Event) -> list[str]: ...
    async def send(self, /, *events: Any, **fields: Any) -> str | list[str]:
        """Send one event by its name, or several `Event`s; return the ids once all of them are durable.

        An event without an id gets one here. Events with the same id go to the same partition. If brokers do not
        acknowledge them, raises a `StepstreamError` with the code `unavailable`: some may have been written, and it is
        safe to send all of them again with the same ids.
        """
        ids = await self._callers.send(records_of(events, fields))
        return ids[0] if isinstance(events[0], str) else ids

    async def _append(self, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        producer = await self._connected()
        try:
            return await producer.send(records, self._clock.now_ms())
        except LogError:
            # After a refused batch, the broker refuses all that follow as out of sequence: use a new producer.
            async with self._lock:
                await self._leave(producer)
            raise

    async def _connected(self) -> Producer:
        async with self._lock:
            if not self._is_open:
                raise InvalidInput("the client is not open; use it in `async with`", "client")
            if self._producer is None:
                self._producer = await self._cluster.producer()
            return self._producer

    async def _leave(self, producer: Producer | None) -> None:
        """Close a producer, unless another task did so before."""
        if producer is not None and self._producer is producer:
            self._producer = None
            await producer.close()
