"""The three doors through which the shard loop meets the world: Log, Store and Clock; and the worker's own."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from stepstream.runtime.notification import Notification

# A header may come without a value, which is not an empty one.
Headers = tuple[tuple[str, bytes | None], ...]


def headers_bytes(headers: Headers) -> int:
    """Return how many bytes headers have in the log."""
    return sum(len(name.encode()) + len(value or b"") for name, value in headers)


class LogRecord(NamedTuple):
    """A record as read: `offset` is its place in the partition, `timestamp` the log's time (Unix ms).

    A key or a value that is null in the log is empty here; `nulls` names those.
    """

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Headers
    timestamp: int
    nulls: tuple[str, ...] = ()


class NewRecord(NamedTuple):
    """A record to append; a `partition` of -1 lets the log choose by the key.

    `nulls` names what of key and value is null in the log when it is empty here: without more it is the value.
    """

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers = ()
    nulls: tuple[str, ...] = ("value",)


StoredRow = tuple[bytes, bytes | None]
Offsets = dict[tuple[str, int], int]


class LogError(Exception):
    """The log's answer is bad or unknown: the shard drops its overlay, closes, and begins again at step 1."""


class Fenced(LogError):
    """Another owner of the shard has come up; this one must stop."""


class StoreError(Exception):
    """The tables cannot be read: the shard begins again, and no record is to blame."""


class Log(Protocol):
    """A shard's transactional door to the log."""

    async def open(self) -> None:
        """Start the producer of the shard; this fences an older owner and ends its open transaction."""

    async def origin(self, position: int) -> bytes:
        """Return the key of the row by which the changelog is known from all others; empty when there is none.

        Raise LogError when it ends before `position`.
        """

    def changelog(self, position: int) -> AsyncIterator[tuple[list[StoredRow], int]]:
        """Yield the committed rows from `position` to the end, in batches with the position after each."""

    async def seek(self, positions: Offsets) -> None:
        """Go to these offsets of the inputs; one that is not told is read from its beginning."""

    async def poll(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Return up to `limit` new records of the inputs, waiting for the first no longer than `until_ms`."""

    async def more(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Return what comes while a batch may be held back, counted from the last poll; none when that is over.

        For how long depends on what a commit costs, but never beyond `until_ms`.
        """

    async def begin(self) -> None:
        """Open a transaction."""

    async def send(self, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Write records and changelog rows; return when every one is acknowledged, else raise LogError."""

    async def commit(self, taken: Offsets) -> int:
        """Commit; return the changelog position after it. LogError means that the outcome is unknown.

        `taken` are the positions that the rows of the transaction have: what lies before them is read no more.
        """

    async def close(self) -> None:
        """Let go of everything."""


class Store(Protocol):
    """The tables of one shard on disk, rows and changelog position moving together."""

    def open(self) -> int:
        """Open the tables; return the changelog position that they reflect."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`."""

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the pairs whose keys begin with `prefix`, in order, at most `limit` (0: all), those after a key."""

    def write(self, rows: Sequence[StoredRow], position: int) -> None:
        """Write rows (None: delete) and position as one."""

    def discard(self) -> None:
        """Throw the tables away; they are open, empty and at position 0 then."""

    def close(self) -> None:
        """Close the tables."""


class Clock(Protocol):
    """What time it is, and waiting for it."""

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""

    async def wait(self, notification: Notification, until_ms: int | None) -> None:
        """Return when `bell` rings or the time reaches `until_ms` (None: only the bell)."""


class Backbone(Protocol):
    """What carries the parts of stepstream that are in one process: ports for each, and the log's plain ends."""

    def shard_ports(self, shard: int) -> tuple[Log, Store]:
        """Return fresh ports for a shard; an owner that had others is fenced when the log is opened."""

    def worker_log(self, workers: str) -> "WorkerLog":
        """Return a fresh door for the workers of an app, or of one of its queues, by their name (workers_name)."""

    async def append(self, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        """Append records, all or none where the log can; return (partition, offset) of each once they are durable."""

    async def functions(self) -> list[bytes]:
        """Return the records of `functions`, the oldest first."""

    def history(self, position: Callable[[int], int]) -> AsyncIterator[list[LogRecord]]:
        """Yield the records of `history`, each partition from its position on, for ever."""

    async def is_still(self) -> bool:
        """Tell whether everybody waits and nothing in the log is unread."""

    async def close(self) -> None:
        """Let go of everything."""


class RebalanceListener(Protocol):
    """Who works on the commands of partitions that come and go."""

    async def moving(self) -> None:
        """The partitions are shared out anew: nobody is to begin what is at work here."""

    async def moved(self, kept: Collection[int], *, lost: bool) -> None:
        """Of the partitions that were ours these still are. With `lost` the group had given us up meanwhile."""


class WorkerLog(Protocol):
    """A worker's door to the log: commands in, reports out."""

    async def open(self, tenant: RebalanceListener) -> None:
        """Go to the committed position; commands already in the log are not `fresh` to this worker.

        The tenant is told before partitions may go to another worker, and when it is known which have gone.
        """

    def is_fresh(self, record: LogRecord) -> bool:
        """Tell whether a command was appended after this worker came up, so that no other can have begun it."""

    async def hold(self) -> None:
        """Return when it is known that nobody else has been given this worker's commands; asked before each body."""

    async def poll(self, limit: int) -> list[LogRecord]:
        """Return up to `limit` commands; wait for the first, or return none now and then."""

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append a report to the inbox; return when it is durable."""

    async def dead_letter(self, record: NewRecord) -> None:
        """Keep a command that cannot be read; return when it is durable."""

    async def commit(self, offsets: Offsets) -> None:
        """Note that all commands before these offsets are dealt with."""

    async def leave(self) -> None:
        """Let others read the commands; reports are taken as before."""

    async def close(self) -> None:
        """Let go of everything."""
