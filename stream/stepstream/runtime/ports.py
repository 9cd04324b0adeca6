"""The ports of the runtime: a shard's Log, Store and Clock, a worker's WorkerLog, and the Backbone that makes them."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from stepstream.contract.errors import StepstreamError
from stepstream.runtime.clocks import Sleepers
from stepstream.runtime.notification import Notification

# The value of a header may be null, which is not the same as empty.
Headers = tuple[tuple[str, bytes | None], ...]
# A topic and the number of one of its partitions.
TopicPartition = tuple[str, int]
# The offset of the next record to read, by partition.
Offsets = dict[TopicPartition, int]
# The key and the value of a row; a row without a value is deleted.
StoredRow = tuple[bytes, bytes | None]


def headers_bytes(headers: Headers) -> int:
    """Return the size of headers in the log."""
    return sum(len(name.encode()) + len(value or b"") for name, value in headers)


class Unreadable(NamedTuple):
    """A batch of a producer, or the end of one, that cannot be read: its offsets, its size in the log, and why."""

    reason: str
    first: int
    last: int
    bytes: int
    too_large: bool


class LogRecord(NamedTuple):
    """A record as read from the log; `timestamp` is the time that the log has for it (Unix ms).

    A key or value that is null in the log is empty here, and `nulls` contains "key" or "value". A record that is
    `unreadable` has neither, and replaces all records up to its offset that cannot be read.
    """

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Headers
    timestamp: int
    nulls: tuple[str, ...] = ()
    unreadable: Unreadable | None = None


class NewRecord(NamedTuple):
    """A record to append; with the partition -1, the log chooses one by the key.

    An empty key or value is written as null if `nulls` contains "key" or "value".
    """

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers = ()
    nulls: tuple[str, ...] = ("value",)


class Origin(NamedTuple):
    """What identifies a changelog: the key of its first row, b"" if it has none; and where the changelog ends.

    `shards` is the number of shards that it records, 0 if it records none.
    """

    key: bytes
    end: int
    shards: int = 0


class LogError(Exception):
    """The log failed, or the outcome of a call is unknown: the caller drops its state and restarts with fresh ports."""


class Fenced(LogError):
    """A newer owner of the shard has fenced this one, which must stop."""


class StoreError(StepstreamError):
    """Tables or another file on disk cannot be used. What uses them restarts; no record is the cause."""

    code = "unavailable"


class Log(Protocol):
    """The transactional log of one shard: its inputs, its outputs and the changelog of its tables."""

    async def open(self) -> None:
        """Start the shard's producer, which fences an older owner and aborts its open transaction."""

    async def origin(self) -> Origin:
        """Return what identifies the changelog."""

    def topic_id(self, topic: str) -> str:
        """Return the id of the topic of an input; another one that is created later under the same name has another id.

        It is empty if it is unknown.
        """

    def changelog(self, position: int) -> AsyncIterator[tuple[list[StoredRow], int]]:
        """Yield the committed rows from `position` to the end, in batches, each with the position after it."""

    async def seek(self, positions: Offsets) -> None:
        """Read the inputs from these offsets; one without an offset is read from its beginning."""

    async def poll(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Return up to `limit` new records of the inputs; wait for the first, but not beyond `until_ms`."""

    async def more(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Return records that arrive while a batch may be delayed; none once that time has passed.

        The time counts from the last poll. It depends on the cost of a commit, and never exceeds `until_ms`.
        """

    async def begin(self) -> None:
        """Open a transaction."""

    async def send(self, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Write records and changelog rows; return when all are acknowledged, or raise LogError."""

    async def commit(self, offsets: Offsets) -> int:
        """Commit; return the changelog position after the transaction. After a LogError the outcome is unknown.

        `offsets` are those of the inputs in the rows of the transaction. Records before them are not read again.
        """

    async def close(self) -> None:
        """Release all resources."""


class Store(Protocol):
    """The tables of one shard; rows and changelog position are written atomically."""

    def open(self) -> int:
        """Open the tables; return the changelog position that they reflect."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`."""

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the pairs whose keys start with `prefix` and follow `after`, in order, at most `limit` (0: all)."""

    def last(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the last pairs whose keys start with `prefix`, in order, at most `limit`."""

    def write(self, rows: Sequence[StoredRow], position: int) -> None:
        """Write rows and the changelog position atomically."""

    def discard(self) -> None:
        """Delete all rows; the tables stay open, at position 0."""

    def set_aside(self) -> str:
        """Rename the tables, and open empty ones at position 0; return the new name, empty if nothing is left."""

    def close(self) -> None:
        """Close the tables."""


class Clock(Protocol):
    """The current time, and waiting for a time."""

    @property
    def sleepers(self) -> Sleepers | None:
        """The bodies that sleep by this clock; None if it is the wall clock."""

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""

    async def wait(self, notification: Notification, until_ms: int | None) -> None:
        """Return when `notification` is notified or the time reaches `until_ms` (None: only when notified)."""


class LiveListener(Protocol):
    """Reads the messages of one stream."""

    async def read(self, wait_s: float) -> list[LogRecord]:
        """Return the next messages; wait at most `wait_s` for the first."""

    async def end(self) -> int:
        """Return the position after all messages that are in the log now."""

    async def position(self) -> int:
        """Return the position before which all messages were read."""


class LiveLog(Protocol):
    """The topic `live`, of which nothing is read while no client listens."""

    async def publish(self, records: Sequence[NewRecord]) -> None:
        """Append messages; return when they are durable."""

    def listen(self, stream: str, after: str, since_ms: int) -> AbstractAsyncContextManager[LiveListener]:
        """Read the retained messages of a stream that follow the one with the id `after`.

        Without an id, reading begins with the messages since a time (Unix ms). Raise InvalidInput for an id of another
        stream.
        """


class Backbone(Protocol):
    """What connects the shards, workers and callers of a process: their ports, and access to whole topics."""

    @property
    def live(self) -> LiveLog:
        """The topic `live`."""

    def shard_ports(self, shard: int) -> tuple[Log, Store]:
        """Return new ports for a shard; opening the log fences the owner of earlier ones."""

    def worker_log(self, workers: str) -> "WorkerLog":
        """Return a new log for workers of an app or of one of its queues; `workers` is what `workers_name` returns."""

    async def append(self, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        """Append records; return (partition, offset) of each once all are durable.

        A log that can write them atomically does.
        """

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call `callback` once all that shards have committed is durable, maybe at once; after a failure never."""

    async def functions(self) -> list[bytes]:
        """Return the records of `functions`, oldest first."""

    def history(self, position: Callable[[int], int]) -> AsyncIterator[list[LogRecord]]:
        """Yield the records of `history` without end, each partition from its position."""

    async def is_idle(self) -> bool:
        """Return whether all shards and workers wait and every record has been read."""

    async def close(self) -> None:
        """Release all resources."""


class RebalanceListener(Protocol):
    """A worker whose partitions are revoked and assigned."""

    async def moving(self) -> None:
        """A rebalance begins: any partition may go to another worker, which must not start what is running here."""

    async def moved(self, kept: Collection[int], *, lost: bool) -> None:
        """A rebalance has ended: of the partitions that were assigned before, `kept` still are.

        `lost` means that the group had expired the membership, so that other workers may have started everything.
        """


class WorkerLog(Protocol):
    """The log of one worker: commands in, reports out."""

    async def open(self, listener: RebalanceListener) -> None:
        """Read commands from the committed offsets, and report rebalances to `listener`."""

    def is_fresh(self, record: LogRecord) -> bool:
        """Return whether a command was appended after this worker opened its log: no other can have started it."""

    async def until_member(self) -> None:
        """Return when it is certain that this worker still owns its partitions; awaited before each body starts.

        It never returns during a rebalance: between `moving` and `moved` of the listener.
        """

    async def poll(self, limit: int) -> list[LogRecord]:
        """Return up to `limit` commands; wait for the first, but return none from time to time."""

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append a report to the inbox; return when it is durable."""

    async def dead_letter(self, record: NewRecord) -> None:
        """Append a dead letter; return when it is durable."""

    async def commit(self, offsets: Offsets) -> None:
        """Note that every command before these offsets is processed."""

    async def leave(self) -> None:
        """Leave all commands to other workers; reports are still written."""

    async def close(self) -> None:
        """Release all resources."""
