"""The producer: transactional for a shard, otherwise idempotent."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from zlib import crc32

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation

from stepstream.contract.limits import MIB
from stepstream.runtime.kafka.client.errors import STOP_S_MAX, stop, translate_kafka_errors
from stepstream.runtime.kafka.client.patches import connections_of, create_no_topics, epoch_of
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import LogError, NewRecord

REQUEST_BYTES_MAX = 50 * MIB
# A transaction that begins before the markers of the last one are written is also refused with NOT_ENOUGH_REPLICAS.
_TRANSACTION_BACKOFF_MS = 4


class Producer:
    """A producer: transactional if it has a transactional id, otherwise idempotent."""

    def __init__(self, settings: KafkaSettings, options: Mapping[str, object], transactional_id: str = "") -> None:
        self._settings = settings
        self._transactional = bool(transactional_id)
        own = {
            "transactional_id": settings.name(transactional_id),
            "transaction_timeout_ms": round(settings.transaction_s * 1_000),
            "retry_backoff_ms": _TRANSACTION_BACKOFF_MS,
        }
        self._client = AIOKafkaProducer(
            **{**options, **(own if transactional_id else {"enable_idempotence": True})},
            acks="all",
            max_request_size=REQUEST_BYTES_MAX,
            max_batch_size=256 * 1024,
        )
        create_no_topics(self._client)
        self._partitions: dict[str, int] = {}
        self._open = False
        self._round_robin = 0

    async def start(self) -> None:
        """Connect; a transactional producer fences its predecessor, whose open transaction is aborted."""
        with translate_kafka_errors("starting a producer"):
            await self._client.start()

    @property
    def epoch(self) -> int:
        """The epoch of a transactional producer: of two with one id, the lower epoch is fenced."""
        return epoch_of(self._client)

    async def partition_count(self, topic: str) -> int:
        """Return the number of partitions of a topic."""
        if topic not in self._partitions:
            self._partitions[topic] = len(await self._client.partitions_for(self._settings.name(topic)))
        return self._partitions[topic]

    async def send(self, records: Sequence[NewRecord], timestamp: int | None = None) -> list[tuple[int, int]]:
        """Write records; return (partition, offset) of each once all are acknowledged.

        `timestamp` is their time in the log (Unix ms, None: now).
        """
        sent: list[asyncio.Future[object]] = []
        with translate_kafka_errors("writing"):
            try:
                # The broker aborts a transaction after this time. Other writes have the deadline of the client.
                async with asyncio.timeout(self._settings.transaction_s if self._transactional else None):
                    await self._send_all(records, timestamp, sent)
                    return [(done.partition, done.offset) for done in await asyncio.gather(*sent)]  # type: ignore[attr-defined]  # RecordMetadata has no types.
            finally:
                for future in sent:
                    if future.done() and not future.cancelled():
                        future.exception()  # One error is raised; asyncio must not log the others as never retrieved.
                    future.cancel()

    async def _send_all(
        self, records: Sequence[NewRecord], timestamp: int | None, sent: "list[asyncio.Future[object]]"
    ) -> None:
        """Give records to the client; add the future of each to `sent`."""
        try:
            for record in records:
                sent.append(await self._send(record, timestamp))
        except IllegalOperation:
            # A client that was fenced refuses further records; the failure of an earlier one says why.
            await asyncio.gather(*sent)
            raise

    async def _send(self, record: NewRecord, timestamp: int | None) -> "asyncio.Future[object]":
        partition = record.partition
        if partition < 0:
            count = await self.partition_count(record.topic)
            # Records without a key are distributed round-robin.
            self._round_robin += not record.key
            partition = (crc32(record.key) if record.key else self._round_robin) % count
        try:
            future: asyncio.Future[object] = await self._client.send(
                self._settings.name(record.topic),
                record.value or (None if "value" in record.nulls else b""),
                key=record.key or (None if "key" in record.nulls else b""),
                partition=partition,
                timestamp_ms=timestamp,
                headers=list(record.headers),
            )
        except AssertionError as error:
            # The client asserts that it knows the partition. The topic was created again, with fewer.
            self._partitions.pop(record.topic, None)
            raise LogError(
                f"writing: topic {self._settings.name(record.topic)!r} has no partition {partition}"
            ) from error
        return future

    async def begin(self) -> None:
        """Open a transaction."""
        with translate_kafka_errors("opening a transaction"):
            await self._client.begin_transaction()
            self._open = True

    async def commit(self) -> None:
        """Commit; after a LogError the outcome is unknown."""
        with translate_kafka_errors("committing"):
            # The commit of the client has no deadline.
            async with asyncio.timeout(self._settings.transaction_s):
                await self._client.commit_transaction()
            self._open = False

    async def close(self) -> None:
        """Abort an open transaction and disconnect; if the cluster does not answer, the transaction times out."""
        # A client that has failed permanently raises AssertionError instead of aborting.
        with suppress(LogError, AssertionError), translate_kafka_errors("aborting"):
            async with asyncio.timeout(STOP_S_MAX):
                if self._open:
                    await self._client.abort_transaction()
        await stop(self._client, connections_of(self._client))
