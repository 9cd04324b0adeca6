"""The WorkerLog of one process, on top of a journal."""

import asyncio
import functools

from stepstream.contract.ids import shard_of
from stepstream.contract.topics import INBOX, commands_topic
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import Clock, LogRecord, NewRecord, Offsets, RebalanceListener
from stepstream.runtime.storage.journal import Journal, JournalWrite
from stepstream.runtime.storage.syncing import settle


class EmbeddedWorkerLog:
    """The log of the worker of one app or queue; the appends of one event loop iteration are one write."""

    def __init__(self, journal: Journal, clock: Clock, app: str, shards: int = 1) -> None:
        self.notification = Notification()
        self._journal = journal
        self._clock = clock
        self._topic = commands_topic(app)
        self._group = f"worker-{app}"
        self._shards = shards
        self._positions: dict[int, int] = {}
        self._fresh_from: dict[int, int] = {}
        # What is written in the next iteration of the event loop, and the future that each caller awaits.
        self._pending: list[tuple[NewRecord, asyncio.Future[None]]] = []
        self._left = False

    async def open(self, listener: RebalanceListener) -> None:  # noqa: ARG002 - there are no rebalances
        """Read commands from the committed offsets."""
        for partition in range(self._journal.partitions):
            self._positions[partition] = self._journal.committed(self._group, self._topic, partition)
            self._fresh_from[partition] = self._journal.end(self._topic, partition)
        self._journal.notifications.add(self._topic, self.notification)

    async def until_member(self) -> None:
        """Return at once: there is no other worker."""

    def is_fresh(self, record: LogRecord) -> bool:
        """Return whether a command was appended after this log was opened."""
        return record.offset >= self._fresh_from[record.partition]

    def lags(self) -> dict[int, int]:
        """Return how many commands of each partition were not read."""
        return {at: self._journal.end(self._topic, at) - position for at, position in self._positions.items()}

    def unread(self) -> bool:
        """Return whether there are commands that were not read, or reports that are not written yet."""
        return bool(self._pending) or any(
            self._journal.end(self._topic, partition) > position for partition, position in self._positions.items()
        )

    async def poll(self, limit: int) -> list[LogRecord]:
        """Return up to `limit` commands; wait for the first."""
        while True:
            found: list[LogRecord] = []
            for partition, position in self._positions.items():
                if records := self._journal.read(self._topic, partition, position, limit - len(found)):
                    self._positions[partition] = records[-1].offset + 1
                    found += records
            if found:
                # A body must not start for a commit that a power failure would undo.
                await self._journal.syncing.until_synced()
            if found or self._left:
                return found
            await self.notification.wait()

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append a report to the inbox; return when it is durable."""
        await self._write(NewRecord(INBOX, shard_of(routing_key, self._shards), routing_key.encode(), value))

    async def dead_letter(self, record: NewRecord) -> None:
        """Append a dead letter; return when it is durable."""
        await self._write(record)

    async def _write(self, record: NewRecord) -> None:
        loop = asyncio.get_running_loop()
        if not self._pending:
            loop.call_soon(self._flush)
        # Callers do not share a future: they would have to shield it, and resume an iteration of the event loop later.
        written: asyncio.Future[None] = loop.create_future()
        self._pending.append((record, written))
        await written

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        try:
            self._journal.write(JournalWrite([record for record, _ in pending]), self._clock.now_ms())
        except Exception as error:  # noqa: BLE001 - the callers that await the write raise it
            _settle(pending, error)
            return
        self._journal.syncing.after(functools.partial(_settle, pending))

    async def commit(self, offsets: Offsets) -> None:
        """Commit offsets that are higher than before, and drop the commands before them."""
        if self._left:
            return
        moved = {at: offset for at, offset in offsets.items() if offset > self._journal.committed(self._group, *at)}
        self._journal.write(JournalWrite(offsets={self._group: moved}), self._clock.now_ms())
        for (topic, partition), offset in moved.items():
            self._journal.trim(topic, partition, offset)

    async def leave(self) -> None:
        """Stop reading commands."""
        self._left = True
        self._positions.clear()
        self.notification.notify()

    async def close(self) -> None:
        """Stop listening for new records."""
        self._journal.notifications.remove(self.notification)


def _settle(pending: list[tuple[NewRecord, "asyncio.Future[None]"]], error: Exception | None) -> None:
    for _, written in pending:
        settle(written, error)
