"""The backbone on Kafka: the ports of one process, each with its own clients of one cluster."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from stepstream.contract.limits import HOUR_MS
from stepstream.contract.topics import FUNCTIONS, HISTORY
from stepstream.runtime.kafka.client.cluster import Cluster, reading
from stepstream.runtime.kafka.client.producer import Producer
from stepstream.runtime.kafka.client.reader import Reader
from stepstream.runtime.kafka.live_topic import LiveTopic
from stepstream.runtime.kafka.shards.shard_log import KafkaLog
from stepstream.runtime.kafka.workers.group_lease import MemberOptions
from stepstream.runtime.kafka.workers.worker_log import KafkaWorkerLog
from stepstream.runtime.ports import (
    Clock,
    Log,
    LogError,
    LogRecord,
    NewRecord,
    Offsets,
    Store,
    TopicPartition,
    WorkerLog,
)
from stepstream.runtime.storage.journal import MemoryStore
from stepstream.runtime.storage.rocks_store import RocksStore

# Returns from where to read each of some partitions.
Positions = Callable[[Sequence[TopicPartition]], Awaitable[Offsets]]
_READ_MS = 1_000
_RECORDS_PER_READ = 1_000
# Half of the time for which a compacted topic retains a deletion (Kafka's delete.retention.ms, 24 h by default).
STALE_MS = 12 * HOUR_MS


class KafkaBackbone:
    """Ports on a cluster. With `alone`, no other process serves: workers join no group, and read all partitions."""

    def __init__(
        self, cluster: Cluster, clock: Clock, shards: int, data_dir: Path | None = None, *, alone: bool = False
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._shards = shards
        self._data_dir = data_dir
        self._alone = alone
        self._logs: dict[int, KafkaLog] = {}
        self._worker_logs: dict[str, KafkaWorkerLog] = {}
        self._memory = {shard: MemoryStore() for shard in range(shards)}
        self.live = LiveTopic(cluster, self.append, shards)
        self._lock = asyncio.Lock()
        self._producer: Producer | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._end_reader: Reader | None = None
        self._history: Reader | None = None
        # The partitions of `history` that it reads, and from where it would read them after a failure.
        self._history_read: Offsets = {}
        self._history_waits = False
        self._query_reader: Reader | None = None

    def shard_ports(self, shard: int) -> tuple[Log, Store]:
        """Return new ports for a shard."""
        log = self._logs[shard] = KafkaLog(self._cluster, self._clock, shard, self._shards)
        if self._data_dir is None:
            return log, self._memory[shard]
        return log, RocksStore(self._data_dir / f"shard-{shard}", self._clock.now_ms, STALE_MS)

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call `callback` at once: a commit is durable."""
        callback()

    def worker_log(self, workers: str) -> WorkerLog:
        """Return a new log for the workers of an app or queue."""
        log = self._worker_logs[workers] = KafkaWorkerLog(
            self._cluster, workers, self._shards, MemberOptions(alone=self._alone)
        )
        return log

    async def append(self, records: Sequence[NewRecord], within_s: float | None = None) -> list[tuple[int, int]]:
        """Append records; return (partition, offset) of each once all are durable.

        Raise LogError if that is unknown, at the latest after `within_s` (None: at the deadline of the client).
        """
        producer: Producer | None = None
        try:
            async with asyncio.timeout(within_s):
                producer = await self._appender()
                return await producer.send(records, self._clock.now_ms())
        except (LogError, TimeoutError) as error:
            # After a refused batch, the broker refuses all that follow as out of sequence: use a new producer.
            if producer is not None and self._producer is producer:
                self._producer = None
                self._close_later(producer)
            if isinstance(error, LogError):
                raise
            raise LogError(f"no broker acknowledged the records within {within_s:g} s") from None

    async def _appender(self) -> Producer:
        async with self._lock:
            if self._producer is None:
                self._producer = await self._cluster.producer()
            return self._producer

    def _close_later(self, client: Producer | Reader) -> None:
        closing = asyncio.ensure_future(client.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def functions(self) -> list[bytes]:
        """Return the records of `functions`, oldest first."""
        at = (FUNCTIONS, 0)
        async with reading(self._cluster) as reader:
            reader.assign([at])
            reader.seek({at: 0})
            end = (await reader.ends([at]))[at]
            found: list[bytes] = []
            while await reader.position(at) < end:
                found += [record.value for record in await reader.read(_RECORDS_PER_READ, _READ_MS) if record.value]
            return found

    def history(self, position: Callable[[int], int]) -> AsyncIterator[list[LogRecord]]:
        """Yield the records of `history`, each partition from its position."""

        async def positions(partitions: Sequence[TopicPartition]) -> Offsets:
            return {at: position(at[1]) for at in partitions}

        return self.follow(HISTORY, positions)

    async def follow(
        self, topic: str, positions: Positions, shards: Callable[[], Sequence[int]] | None = None
    ) -> AsyncIterator[list[LogRecord]]:
        """Yield the records of `history` or `logs` by partition, each from its position.

        These are the partitions of all shards, or of those that `shards` returns at the time.
        """
        reader, read = await self._cluster.reader(), list[TopicPartition]()
        try:
            while True:
                partitions = [(topic, shard) for shard in (shards() if shards else range(self._shards))]
                if partitions != read:
                    if topic == HISTORY:
                        self._history_read = {at: self._history_read.get(at, 0) for at in partitions}
                    offsets = await positions(partitions)
                    if partitions:
                        reader.assign(partitions)
                        reader.seek(offsets)
                    read = partitions
                    if topic == HISTORY:
                        self._history, self._history_read = reader, offsets
                self._history_waits = self._history_waits or topic == HISTORY
                records = await reader.read(_RECORDS_PER_READ, _READ_MS) if read else await _pause()
                if topic == HISTORY:
                    self._history_waits = False
                for batch in _by_partition(records):
                    yield batch
                    if topic == HISTORY:
                        self._history_read[topic, batch[-1].partition] = batch[-1].offset + 1
        finally:
            if topic == HISTORY:
                self._history = None
            await reader.close()

    async def topic_id(self, topic: str) -> str:
        """Return the id of a topic; empty if it does not exist, or if the brokers assign none."""
        found = (await self._cluster.extents([topic])).get(topic)
        return found.id if found else ""

    async def ping(self) -> None:
        """Return when any broker has answered on a new connection; raise LogError if none does."""
        async with self._cluster.admin():
            pass

    async def ends(self, partitions: Sequence[TopicPartition]) -> Offsets:
        """Return the offset after the last committed record of each partition."""
        return await self._query(lambda reader: reader.ends(partitions))

    async def beginnings(self, partitions: Sequence[TopicPartition]) -> Offsets:
        """Return the offset of the first retained record of each partition."""
        return await self._query(lambda reader: reader.beginnings(partitions))

    async def _query(self, query: Callable[[Reader], Awaitable[Offsets]]) -> Offsets:
        """Query the brokers.

        After a failure, the next query uses a new connection: on the old one, it might wait for minutes for a route
        that no longer exists.
        """
        if self._query_reader is None:
            new = await self._cluster.reader()
            if self._query_reader is None:
                self._query_reader = new
            else:
                self._close_later(new)
        reader = self._query_reader
        try:
            return await query(reader)
        except (LogError, asyncio.CancelledError):
            if self._query_reader is reader:
                self._query_reader = None
                self._close_later(reader)
            raise

    async def history_lag(self, at: TopicPartition, end: int) -> int:
        """Return how many records of a partition of `history` that ends at `end` were not read."""
        if at not in self._history_read:
            return 0
        return max(end - (await self._history.position(at) if self._history else self._history_read[at]), 0)

    async def is_idle(self) -> bool:
        """Return whether all shards and workers wait and every record was read."""
        if not self._all_wait():
            return False
        readers = [(log.feed.reader, list(log.inputs)) for log in self._logs.values()]
        readers += [(log.feed.reader, log.partitions) for log in self._worker_logs.values()]
        readers.append((self._history, [(HISTORY, partition) for partition in range(self._shards)]))
        async with self._lock:
            if self._end_reader is None:
                # A commit returns before its markers are in every partition, so the end must include open transactions.
                self._end_reader = await self._cluster.reader(committed=False)
        ends = await self._end_reader.ends([at for _, partitions in readers for at in partitions])
        for reader, partitions in readers:
            for at in partitions:
                if reader is None or await reader.position(at) < ends[at]:
                    return False
        return self._all_wait()

    def _all_wait(self) -> bool:
        return (
            all(log.idle for log in self._logs.values())
            and all(log.parked and not log.feed.pending for log in self._worker_logs.values())
            and self._history_waits
        )

    async def close(self) -> None:
        """Disconnect."""
        await asyncio.gather(*self._closing, return_exceptions=True)
        for client in (self._producer, self._end_reader, self._query_reader):
            if client is not None:
                await client.close()


async def _pause() -> list[LogRecord]:
    """Return no records, after the time of a read: nothing is assigned."""
    await asyncio.sleep(_READ_MS / 1_000)
    return []


def _by_partition(records: Sequence[LogRecord]) -> Iterable[list[LogRecord]]:
    found: dict[int, list[LogRecord]] = {}
    for record in records:
        found.setdefault(record.partition, []).append(record)
    return found.values()
