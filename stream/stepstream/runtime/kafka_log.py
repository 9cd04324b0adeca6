"""The Log of a shard and the log of workers on Kafka: transactions, positions, and who may go on."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

from stepstream.contract.ids import shard_of
from stepstream.contract.topics import CHANGELOG, EVENTS, FUNCTIONS, INBOX, commands_topic
from stepstream.runtime.bell import Bell
from stepstream.runtime.kafka import SESSION_MS, Cluster, Membership, Producer, Reader
from stepstream.runtime.ports import Clock, LogError, LogRecord, NewRecord, Offsets, StoredRow

logger = logging.getLogger(__name__)
_READ_MS = 1_000
_TELL_S = 5.0
_ROWS_PER_READ = 5_000
_RECOVERY_WAIT_MS = 200
# The broker gives a member up after SESSION_MS without a word; a part of it is kept for clocks and answers.
_LEASE_S = 0.8 * SESSION_MS / 1_000
_RENEW_S = SESSION_MS / 4_000


class _Feed:
    """Reads ahead up to a batch, so that what comes while a batch is at work is taken together by the next one."""

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        self.reader: Reader | None = None
        self._found: deque[LogRecord] = deque()
        self._room = Bell()
        self._reading: asyncio.Task[None] | None = None

    def take(self, limit: int) -> list[LogRecord]:
        """Return what was read; the bell rings when there is more."""
        if self.reader is None:
            raise LogError("nothing is read yet")
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read(self.reader, limit))
            self._reading.add_done_callback(lambda _: self.bell.ring())
        if self._reading.done():
            self._reading.result()
        found = [self._found.popleft() for _ in range(min(limit, len(self._found)))]
        self._room.ring()
        return found

    async def _read(self, reader: Reader, limit: int) -> None:
        while True:
            records = await reader.read(limit, _READ_MS)
            if records:
                self._found.extend(records)
                self.bell.ring()
            while len(self._found) >= limit:
                await self._room.wait()

    def forget(self) -> None:
        """Drop what was read ahead: the group has moved, and each partition is read again from its committed place."""
        self._found.clear()
        self._room.ring()

    @property
    def pending(self) -> bool:
        """Tell whether records were read that nobody has taken."""
        return bool(self._found)

    def waiting(self, at: tuple[str, int]) -> int:
        """Return how many records of a place were read that nobody has taken."""
        return sum((record.topic, record.partition) == at for record in self._found)

    async def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        if self.reader is not None:
            await self.reader.close()
            self.reader = None


class KafkaLog:
    """A shard's transactional log. The transactional id is the shard's, so a newer owner fences an older one."""

    def __init__(self, cluster: Cluster, clock: Clock, shard: int) -> None:
        self._cluster = cluster
        self._clock = clock
        self._shard = shard
        self._group = f"shard-{shard}"
        self.bell = Bell()
        self.inputs = ((FUNCTIONS, 0), (INBOX, shard), (EVENTS, shard))
        self.feed = _Feed(self.bell)
        self._producer: Producer | None = None
        self._offsets: asyncio.Future[None] | None = None
        self._position = 0
        self._end = 0
        self._done: Offsets = {}
        self._doing: Offsets = {}

    @property
    def changelog_left(self) -> int:
        """How many offsets of the changelog are still to read, while the shard recovers."""
        return max(self._end - self._position, 0)

    async def open(self) -> None:
        """Become the shard's only producer."""
        self._producer = await self._cluster.producer(self._group)

    async def changelog(self, position: int) -> AsyncIterator[tuple[list[StoredRow], int]]:
        """Yield the committed rows from `position` to the end."""
        at = (CHANGELOG, self._shard)
        self._position = position
        reader = await self._cluster.reader()
        try:
            reader.assign([at])
            reader.seek({at: position})
            end = self._end = (await reader.ends([at]))[at]
            if position > end:
                raise LogError(f"the tables are at {position} of a changelog that ends at {end}: remove them")
            told_at = time.monotonic()
            while self._position < end:
                if time.monotonic() - told_at > _TELL_S:
                    told_at = time.monotonic()
                    progress = "shard %d has read its changelog to %d of %d"
                    logger.info(progress, self._shard, self._position, end, extra={"shard": self._shard})
                records = await reader.read(_ROWS_PER_READ, _RECOVERY_WAIT_MS)
                # The position also passes what marks the ends of transactions, which is no record.
                self._position = max(await reader.position(at), self._position)
                if records:
                    yield [(record.key, record.value or None) for record in records], self._position
        finally:
            self._end = 0
            await reader.close()

    async def seek(self) -> None:
        """Go to the committed offsets of the inputs."""
        reader = await self._cluster.reader(group=self._group)
        self.feed.reader = reader
        reader.assign(self.inputs)
        self._done = await reader.committed(self.inputs)
        reader.seek(self._done)
        places = ", ".join(f"{topic} {offset}" for (topic, _), offset in self._done.items())
        logger.info("shard %d goes on from %s", self._shard, places, extra={"shard": self._shard})

    async def lag(self, at: tuple[str, int], end: int) -> int:
        """Return how many records of an input that ends at `end` are not committed as taken."""
        if self.feed.reader is None:
            return 0
        # What marks the ends of transactions is no record: only the reader knows that nothing else is left.
        at_rest = self.bell.waited_for and not self.feed.pending
        done = await self.feed.reader.position(at) if at_rest else self._done.get(at, 0)
        return max(end - done, 0)

    async def poll(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Return up to `limit` new records of the inputs, waiting for the first no longer than `until_ms`."""
        while True:
            if records := self.feed.take(limit):
                return records
            if until_ms is not None and until_ms <= self._clock.now_ms():
                return []
            await self._clock.wait(self.bell, until_ms)

    def _opened(self) -> Producer:
        if self._producer is None:
            raise LogError("the log is not open")
        return self._producer

    async def begin(self) -> None:
        """Open a transaction."""
        await self._opened().begin()

    async def send(self, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Write records and changelog rows; return when every one is acknowledged."""
        changes = [NewRecord(CHANGELOG, self._shard, key, value or b"") for key, value in rows]
        places = await self._opened().send([*records, *changes], self._clock.now_ms())
        if changes:
            self._position = max(offset for _, offset in places[len(records) :]) + 1

    async def send_offsets(self, offsets: Offsets) -> None:
        """Add the input positions to the transaction, beside the records that are sent; `commit` waits for them."""
        self._doing = offsets
        self._offsets = asyncio.ensure_future(self._opened().send_offsets(offsets, self._group))

    async def commit(self) -> int:
        """Commit; return the changelog position after it."""
        if self._offsets is not None:
            await self._offsets
        await self._opened().commit()
        self._done.update(self._doing)
        return self._position

    async def close(self) -> None:
        """Abort what is open and let go."""
        await self.feed.close()
        if self._offsets is not None:
            self._offsets.cancel()
            await asyncio.gather(self._offsets, return_exceptions=True)
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.close()


class KafkaWorkerLog:
    """The log of a worker of one app: a member of the app's group, or, `alone`, the reader of all partitions."""

    def __init__(self, cluster: Cluster, app: str, shards: int, *, alone: bool = False, instance: str = "") -> None:
        self._cluster = cluster
        self._topic = commands_topic(app)
        self._group = f"worker-{app}"
        self._shards = shards
        self._alone = alone
        self._instance = instance
        self.bell = Bell()
        self.feed = _Feed(self.bell)
        self.parked = False
        self._producer: Producer | None = None
        self._fresh_from: dict[int, int] = {}
        self._revoked: Callable[[Collection[int]], Awaitable[None]] | None = None
        self._confirmed_at = 0.0
        self._confirmed = Bell()
        self._renewing: asyncio.Task[None] | None = None
        self._due = False
        # By partition: the offset after the last command that was taken, up to where all are dealt with, and beyond
        # which marks of transactions the group has been told to go on.
        self._taken: dict[int, int] = {}
        self._dealt: dict[int, int] = {}
        self._marked: dict[int, int] = {}
        self.assignments = 0

    @property
    def confirmed_at(self) -> float:
        """When the broker last confirmed, by a clock that only goes up (s), that we are a member or have no part."""
        idle = self.assignments and not self._fresh_from
        return time.monotonic() if self._alone or idle else self._confirmed_at

    @property
    def member(self) -> bool:
        """Tell whether the group has given us our partitions, be it none, and we are a member still."""
        return bool(self.assignments) and (self._is_member or not self._fresh_from)

    async def lag(self, at: tuple[str, int], end: int) -> int:
        """Return how many commands of a partition that ends at `end` are not taken."""
        if self.feed.reader is None:
            return 0
        return max(end - await self.feed.reader.position(at), 0) + self.feed.waiting(at)

    @property
    def places(self) -> list[tuple[str, int]]:
        """The partitions that are read."""
        return [(self._topic, partition) for partition in self._fresh_from]

    async def open(self, revoked: Callable[[Collection[int]], Awaitable[None]]) -> None:
        """Join the group; commands already in the log when a partition comes are not fresh."""
        self._revoked = revoked
        self._producer = await self._cluster.producer()
        reader = await self._cluster.reader(group=self._group, instance=self._instance)
        self.feed.reader = reader
        if self._alone:
            places = [(self._topic, at) for at in range(await self._producer.partitions(self._topic))]
            reader.assign(places)
            reader.seek(await reader.committed(places))
            await self._assign([partition for _, partition in places])
        else:
            reader.join(self._topic, Membership(self._assign, self._revoke))
            self._renewing = asyncio.ensure_future(self._renew())

    async def _assign(self, partitions: list[int]) -> None:
        if self.feed.reader is None:
            return
        if not self._alone:
            self.feed.forget()
        asked_at = time.monotonic()
        ends = await self.feed.reader.ends([(self._topic, partition) for partition in partitions])
        self._fresh_from = {partition: end for (_, partition), end in ends.items()}
        self._taken, self._dealt, self._marked = {}, {}, {}
        self.assignments += 1
        self._confirm(asked_at)

    async def _revoke(self, partitions: list[int]) -> None:
        if self._revoked is not None and partitions:
            await self._revoked(partitions)
        for partition in partitions:
            self._fresh_from.pop(partition, None)

    async def _renew(self) -> None:
        """Have the broker confirm now and then, by a commit that it refuses otherwise, that we are still a member."""
        while True:
            await asyncio.sleep(_RENEW_S)
            self._due = True
            self.bell.ring()
            reader = self.feed.reader
            if reader is None or not self._fresh_from:
                continue
            at = (self._topic, min(self._fresh_from))
            asked_at = time.monotonic()
            try:
                told = (await reader.committed([at]))[at]
                beyond = await self._beyond_marks(reader)
                # What was committed in the meantime is not taken back.
                least = {at: max(told, self._dealt.get(at[1], 0), self._marked.get(at[1], 0))}
                await reader.commit(least | beyond)
                self._marked.update({partition: offset for (_, partition), offset in beyond.items()})
            except LogError:
                continue  # The group is on the move, or we are out of it; until it is known nothing is fresh.
            self._confirm(asked_at)

    async def _beyond_marks(self, reader: Reader) -> Offsets:
        """Return where partitions with no open command may go on: beyond what marks the ends of transactions.

        Else the lag of the group would never be nothing, and no scaler would take the last worker away.
        """
        found = [(at, await reader.position(at)) for at in self.places]
        return {
            at: position
            for at, position in found
            if self._taken.get(at[1]) == self._dealt.get(at[1])
            and not self.feed.waiting(at)
            and position > max(self._dealt.get(at[1], 0), self._marked.get(at[1], 0))
        }

    def _confirm(self, at: float) -> None:
        self._confirmed_at = at
        self._confirmed.ring()

    @property
    def _is_member(self) -> bool:
        return self._alone or time.monotonic() - self._confirmed_at < _LEASE_S

    async def hold(self) -> None:
        """Return when the broker has confirmed of late that we are a member.

        A process that was frozen may have been given up without knowing. When it thaws it must not run what
        others have ended; once it knows, the code of what went to them is stopped by `revoked`, here.
        """
        while not self._is_member:
            await self._confirmed.wait()

    def is_fresh(self, record: LogRecord) -> bool:
        """Tell whether no other worker can have begun a command: it came after us, and we are still a member.

        Where that is not known, a claim is right in any case.
        """
        return self._is_member and record.offset >= self._fresh_from.get(record.partition, record.offset + 1)

    async def poll(self, limit: int) -> list[LogRecord]:
        """Return up to `limit` commands; wait for the first, or now and then for none, so that what ended is noted."""
        while True:
            if records := self.feed.take(limit):
                mine = [record for record in records if record.partition in self._fresh_from]
                self._taken.update({record.partition: record.offset + 1 for record in mine})
                if mine:
                    return mine
            if self._due:
                self._due = False
                return []
            self.parked = True
            try:
                await self.bell.wait()
            finally:
                self.parked = False

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append a report to the inbox; return when it is durable."""
        await self._write(NewRecord(INBOX, shard_of(routing_key, self._shards), routing_key.encode(), value))

    async def put_aside(self, letter: NewRecord) -> None:
        """Keep a command that cannot be read; return when it is durable."""
        await self._write(letter)

    async def _write(self, record: NewRecord) -> None:
        if self._producer is None:
            raise LogError("the worker's log is not open")
        await self._producer.send([record])

    async def commit(self, offsets: Offsets) -> None:
        """Note that all commands before these offsets are dealt with."""
        if self.feed.reader is not None:
            self._dealt.update({partition: offset for (_, partition), offset in offsets.items()})
            await self.feed.reader.commit(offsets)

    async def close(self) -> None:
        """Leave the group and let go."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await self.feed.close()
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.close()
