"""The topic `live` on Kafka: each client that listens has a consumer of the one partition of its stream."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from stepstream.contract.ids import shard_of
from stepstream.contract.live import offset_after
from stepstream.contract.topics import LIVE
from stepstream.runtime.kafka.client.cluster import Cluster, reading
from stepstream.runtime.kafka.client.reader import Reader
from stepstream.runtime.ports import LogRecord, NewRecord, TopicPartition

_RECORDS_PER_READ = 500
Append = Callable[[Sequence[NewRecord]], Awaitable[object]]


class LiveTopic:
    """Appends to the topic and reads it; no consumer group has a part in it."""

    def __init__(self, cluster: Cluster, append: Append, partitions: int) -> None:
        self._cluster = cluster
        self._append = append
        self._partitions = partitions

    async def publish(self, records: Sequence[NewRecord]) -> None:
        """Append messages; return when they are durable."""
        await self._append(records)

    def listen(self, stream: str, after: str, since_ms: int) -> AbstractAsyncContextManager["TopicListener"]:
        """Read the retained messages of a stream that follow the one with the id `after`, or those since a time."""
        at = (LIVE, shard_of(stream, self._partitions))
        return self._listen(stream, at, offset_after(after, at[1]) if after else None, since_ms)

    @asynccontextmanager
    async def _listen(
        self, stream: str, at: TopicPartition, start: int | None, since_ms: int
    ) -> AsyncIterator["TopicListener"]:
        async with reading(self._cluster) as reader:
            reader.assign([at])
            reader.seek({at: await _start(reader, at, start, since_ms)})
            yield TopicListener(reader, at, stream.encode())


async def _start(reader: Reader, at: TopicPartition, start: int | None, since_ms: int) -> int:
    first, end = (await reader.beginnings([at]))[at], (await reader.ends([at]))[at]
    if start is None:
        start = await reader.offset_since(at, since_ms) if since_ms else first
        return end if start is None else start
    # The topic was created again, or the message was deleted.
    return start if first <= start <= end else first


class TopicListener:
    """Reads the messages of one stream, and skips others of its partition."""

    def __init__(self, reader: Reader, at: TopicPartition, key: bytes) -> None:
        self._reader = reader
        self._at = at
        self._key = key

    async def read(self, wait_s: float) -> list[LogRecord]:
        """Return the next messages; wait at most `wait_s` for the first record of the partition."""
        records = await self._reader.read(_RECORDS_PER_READ, round(wait_s * 1_000))
        return [record for record in records if record.key == self._key]

    async def end(self) -> int:
        """Return the position after all messages that are in the partition now."""
        return (await self._reader.ends([self._at]))[self._at]

    async def position(self) -> int:
        """Return the position before which all messages were read."""
        return await self._reader.position(self._at)
