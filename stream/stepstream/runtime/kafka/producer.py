"""What writes to Kafka: in transactions for a shard, else once each."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from zlib import crc32

from aiokafka import AIOKafkaProducer

from stepstream.contract.limits import MIB
from stepstream.runtime.kafka.errors import STOP_S_MAX, stop, translate_kafka_errors
from stepstream.runtime.kafka.patches import connections_of
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.runtime.ports import LogError, NewRecord

REQUEST_BYTES_MAX = 50 * MIB
TRANSACTION_MS_MAX = 10_000
COMMIT_S_MAX = 10.0
# The broker refuses records of the next transaction in the same moment, with NOT_ENOUGH_REPLICAS.
_TRANSACTION_BACKOFF_MS = 4


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
        with translate_kafka_errors("starting a producer"):
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
        with translate_kafka_errors("writing"):
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
        with translate_kafka_errors("opening a transaction"):
            await self._client.begin_transaction()
            self._open = True

    async def commit(self) -> None:
        """Commit; LogError means that the outcome is unknown."""
        with translate_kafka_errors("committing"):
            # The client's own commit waits without end.
            async with asyncio.timeout(COMMIT_S_MAX):
                await self._client.commit_transaction()
            self._open = False

    async def close(self) -> None:
        """Abort what is open and disconnect, as far as the cluster lets us; its time-out does the rest."""
        # One that has failed for good asserts that it can be aborted no more.
        with suppress(LogError, AssertionError), translate_kafka_errors("aborting"):
            async with asyncio.timeout(STOP_S_MAX):
                if self._open:
                    await self._client.abort_transaction()
        await stop(self._client, connections_of(self._client))
