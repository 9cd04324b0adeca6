"""Reads records ahead of the consumer that takes them."""

import asyncio
from collections import deque
from collections.abc import Iterable

from stepstream.contract.limits import BATCH_BYTES_MAX
from stepstream.runtime.kafka.client.reader import Reader
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogError, LogRecord, TopicPartition, headers_bytes

_READ_MS = 1_000


def _size(record: LogRecord) -> int:
    return len(record.key) + len(record.value) + headers_bytes(record.headers)


class Feed:
    """Reads ahead up to one batch, so that records that arrive during a batch are taken together by the next one.

    A batch is bounded by its records and by their bytes, except that it may contain one larger record. Records of the
    topic `first` precede the others that are read with them.
    """

    def __init__(self, notification: Notification, first: str = "") -> None:
        self.notification = notification
        self._first = first
        self.reader: Reader | None = None
        self._found: deque[LogRecord] = deque()
        self._bytes = 0
        self._room = Notification()
        self._reading: asyncio.Task[None] | None = None

    def take(self, limit: int) -> list[LogRecord]:
        """Return up to `limit` records that were read; `notification` is notified when there are more."""
        if self.reader is None:
            raise LogError("the log is not open")
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read(self.reader, limit))
            self._reading.add_done_callback(lambda _: self.notification.notify())
        if self._reading.done():
            self._reading.result()
        found: list[LogRecord] = []
        size = 0
        while self._found and len(found) < limit:
            size += _size(self._found[0])
            if found and size > BATCH_BYTES_MAX:
                break
            found.append(self._found.popleft())
            self._bytes -= _size(found[-1])
        self._room.notify()
        return found

    async def _read(self, reader: Reader, limit: int) -> None:
        while True:
            records = await reader.read(limit, _READ_MS)
            if records:
                self.put(sorted(records, key=lambda record: record.topic != self._first))
                self.notification.notify()
            while len(self._found) >= limit or self._bytes >= BATCH_BYTES_MAX:
                await self._room.wait()

    def put(self, records: Iterable[LogRecord]) -> None:
        """Append records to those that were read."""
        for record in records:
            self._found.append(record)
            self._bytes += _size(record)

    def forget(self) -> None:
        """Drop the records that were read ahead: a rebalance resets each partition to its committed offset."""
        self._found.clear()
        self._bytes = 0
        self._room.notify()

    @property
    def pending(self) -> bool:
        """Whether there are records that were read and not taken."""
        return bool(self._found)

    def waiting(self, at: TopicPartition) -> int:
        """Return how many records of a partition were read and not taken."""
        return sum((record.topic, record.partition) == at for record in self._found)

    async def close(self) -> None:
        """Stop reading and close the reader."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        if self.reader is not None:
            await self.reader.close()
            self.reader = None
