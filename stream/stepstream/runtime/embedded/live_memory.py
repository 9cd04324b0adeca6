"""The topic `live` of one process: in memory, bounded, and lost when the process ends."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from stepstream.contract.ids import shard_of
from stepstream.contract.limits import MIB
from stepstream.contract.live import offset_after
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import Clock, LogRecord, NewRecord

LIVE_BYTES_MAX = 64 * MIB
_RECORDS_PER_READ = 500
_SCANNED_PER_READ = 10_000
# The offsets of a process follow those of earlier ones, so that a client continues after a restart.
_OFFSETS_PER_MS = 100


class LiveMemory:
    """The latest messages, 64 MiB of them."""

    def __init__(self, clock: Clock, partitions: int = 1, bytes_max: int = LIVE_BYTES_MAX) -> None:
        self._clock = clock
        self._partitions = partitions
        self._bytes_max = bytes_max
        self._bytes = 0
        self._records: dict[int, LogRecord] = {}
        self.first = self.end = clock.now_ms() * _OFFSETS_PER_MS
        self.changed = Notification()

    async def publish(self, records: Sequence[NewRecord]) -> None:
        """Append messages, and drop the oldest if there are too many."""
        now = self._clock.now_ms()
        for topic, partition, key, value, headers, nulls in records:
            self._records[self.end] = LogRecord(topic, partition, self.end, key, value, headers, now, nulls)
            self.end += 1
            self._bytes += len(value)
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._records.pop(self.first).value)
            self.first += 1
        self.changed.notify()

    def between(self, start: int, end: int) -> list[LogRecord]:
        """Return the messages from an offset that is still there to another."""
        return [self._records[offset] for offset in range(start, min(end, self.end))]

    def listen(self, stream: str, after: str, since_ms: int) -> AbstractAsyncContextManager["MemoryListener"]:
        """Read the retained messages of a stream that follow the one with the id `after`, or those since a time."""
        partition = shard_of(stream, self._partitions)
        start = offset_after(after, partition) if after else self.first
        return nullcontext(MemoryListener(self, stream.encode(), start, 0 if after else since_ms))


class MemoryListener:
    """Reads the messages of one stream."""

    def __init__(self, log: LiveMemory, key: bytes, position: int, since_ms: int) -> None:
        self._log = log
        self._key = key
        # An id beyond the end is of a process whose clock was ahead.
        self._position = position if position <= log.end else log.first
        self._since_ms = since_ms

    async def read(self, wait_s: float) -> list[LogRecord]:
        """Return the next messages; wait at most `wait_s` for the first."""
        log = self._log
        await log.changed.until(lambda: log.end > self._position, wait_s)
        self._position = max(self._position, log.first)
        found: list[LogRecord] = []
        for record in log.between(self._position, self._position + _SCANNED_PER_READ):
            self._position = record.offset + 1
            if record.key == self._key and record.timestamp >= self._since_ms:
                found.append(record)
            if len(found) >= _RECORDS_PER_READ:
                break
        return found

    async def end(self) -> int:
        """Return the position after all messages."""
        return self._log.end

    async def position(self) -> int:
        """Return the position before which all messages were read."""
        return self._position
