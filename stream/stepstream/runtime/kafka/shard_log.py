"""The Log of a shard on Kafka: transactions and positions."""

import logging
import time
from collections.abc import AsyncIterator, Sequence

from stepstream.contract.errors import StepstreamError
from stepstream.contract.topics import CHANGELOG, COMMANDS, EVENTS, FUNCTIONS, INBOX
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.feed import Feed
from stepstream.runtime.kafka.layout import apply_command, apply_topics
from stepstream.runtime.kafka.origin import origin_of
from stepstream.runtime.kafka.producer import Producer
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import Clock, LogError, LogRecord, NewRecord, Offsets, StoredRow

logger = logging.getLogger(__name__)
_TELL_S = 5.0
_ROWS_PER_READ = 5_000
_RECOVERY_WAIT_MS = 200
# A transaction takes some 10 ms, and the steps of a short run less: in this time they are taken by one.
_HELD_S = 0.01
_COMMANDS = f"{COMMANDS}."


def _loss(name: str, end: int, position: int) -> str:
    """Return what it means that an input ends before the place up to which it was taken, and what to do."""
    return (
        f"{name} ends at {end}, and its records up to {position} were taken: a broker lost what it had confirmed (a "
        "power cut, or an unclean election of a leader). Restore its data; or, to go on without it, append "
        f"{position - end} records of any content to this partition: they take the places of what was taken, and are "
        "not read"
    )


class KafkaLog:
    """A shard's transactional log. The transactional id is the shard's, so a newer owner fences an older one."""

    def __init__(self, cluster: Cluster, clock: Clock, shard: int) -> None:
        self._cluster = cluster
        self._clock = clock
        self._shard = shard
        self.notification = Notification()
        self.inputs = ((FUNCTIONS, 0), (INBOX, shard), (EVENTS, shard))
        self.feed = Feed(self.notification, first=FUNCTIONS)
        self._producer: Producer | None = None
        self._position = 0
        self._end = 0
        self._done: Offsets = {}
        self._polled_at = 0.0
        self._resting = False
        self._there = set[str]()

    @property
    def changelog_left(self) -> int:
        """How many offsets of the changelog are still to read, while the shard recovers."""
        return max(self._end - self._position, 0)

    async def open(self) -> None:
        """Become the shard's only producer."""
        self._producer = await self._cluster.producer(f"shard-{self._shard}")

    async def origin(self, position: int) -> bytes:
        """Return the key of the changelog's first row; raise LogError when it ends before `position`."""
        return await origin_of(self._cluster, self._shard, position)

    async def changelog(self, position: int) -> AsyncIterator[tuple[list[StoredRow], int]]:
        """Yield the committed rows from `position` to the end."""
        at = (CHANGELOG, self._shard)
        self._position = position
        reader = await self._cluster.reader(known=True)
        try:
            reader.assign([at])
            end = self._end = (await reader.ends([at]))[at]
            reader.seek({at: position})
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

    async def seek(self, positions: Offsets) -> None:
        """Go to these offsets of the inputs; one that is not told is read from its beginning.

        Raise LogError for one that ends before.
        """
        reader = self.feed.reader = await self._cluster.reader(known=True)
        ends = await reader.ends(self.inputs)
        self._done = self._within(positions, await reader.beginnings(self.inputs), ends)
        # A function is known before any event that was sent after it, however long this shard was away.
        registered = (FUNCTIONS, 0)
        reader.assign([registered])
        reader.seek({registered: self._done[registered]})
        end = ends[registered]
        while await reader.position(registered) < end:
            self.feed.put(await reader.read(_ROWS_PER_READ, _RECOVERY_WAIT_MS))
        reader.assign(self.inputs)
        reader.seek(self._done | {registered: max(end, self._done[registered])})
        places = ", ".join(f"{topic} {offset}" for (topic, _), offset in self._done.items())
        logger.info("shard %d goes on from %s", self._shard, places, extra={"shard": self._shard})

    def _within(self, positions: Offsets, begins: Offsets, ends: Offsets) -> Offsets:
        """Return from where each input is read: its position, or its beginning if that is later."""
        for at in positions.keys() & ends.keys():
            name, position = f"{self._cluster.settings.name(at[0])}-{at[1]}", positions[at]
            if position > ends[at]:
                raise LogError(_loss(name, ends[at], position))
            if position < begins[at]:
                lost = "%s begins at %d: %d offsets before that were not taken, and are lost to its retention"
                logger.warning(lost, name, begins[at], begins[at] - position, extra={"shard": self._shard})
        return {at: max(positions.get(at, 0), begins[at]) for at in self.inputs}

    async def lag(self, at: tuple[str, int], end: int) -> int:
        """Return how many records of an input that ends at `end` are not committed as taken."""
        if self.feed.reader is None:
            return 0
        # What marks the ends of transactions is no record: only the reader knows that nothing else is left.
        done = await self.feed.reader.position(at) if self.at_rest else self._done.get(at, 0)
        return max(end - done, 0)

    async def poll(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Return up to `limit` new records of the inputs, waiting for the first no longer than `until_ms`."""
        while True:
            self._polled_at = time.monotonic()
            if records := self.feed.take(limit):
                return records
            if until_ms is not None and until_ms <= self._clock.now_ms():
                return []
            self._resting = True
            try:
                await self._clock.wait(self.notification, until_ms)
            finally:
                self._resting = False

    @property
    def at_rest(self) -> bool:
        """Tell whether all that was read is dealt with and nothing new is there."""
        return self._resting and self.notification.waited_for and not self.feed.pending

    async def more(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Return what comes within the time that a batch may be held back; none when that is over, or time has come."""
        while True:
            # Looked at first: where records come all the time, the batch would never be committed.
            left = self._polled_at + _HELD_S - time.monotonic()
            if until_ms is not None:
                left = min(left, (until_ms - self._clock.now_ms()) / 1_000)
            if left <= 0:
                return []
            if records := self.feed.take(limit):
                return records
            await self.notification.wait(left)

    def _opened(self) -> Producer:
        if self._producer is None:
            raise LogError("the log is not open")
        return self._producer

    async def begin(self) -> None:
        """Open a transaction."""
        await self._opened().begin()

    async def send(self, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Write records and changelog rows; return when every one is acknowledged."""
        await self._see_to({record.topic for record in records if record.topic.startswith(_COMMANDS)} - self._there)
        changes = [NewRecord(CHANGELOG, self._shard, key, value or b"") for key, value in rows]
        places = await self._opened().send([*records, *changes], self._clock.now_ms())
        if changes:
            self._position = max(offset for _, offset in places[len(records) :]) + 1

    async def _see_to(self, topics: set[str]) -> None:
        """Make topics of commands that are not there: a batch that writes to one would fail, again and again.

        As when the topic of an app was deleted whose functions are known: all others of the shard would stand still.
        """
        there = await self._cluster.topics() if topics else {}
        if gone := sorted(topics - there.keys()):
            apps = [topic.removeprefix(_COMMANDS) for topic in gone]
            remedy = f"`{apply_command(self._cluster.settings, apps, there[INBOX])}`"
            try:
                made = await apply_topics(self._cluster, apps, 0)
            except StepstreamError as error:
                raise LogError(
                    f"there is no topic {', '.join(gone)}, and it cannot be made: {error}; {remedy}"
                ) from error
            logger.warning("topics %s were not there, and are made as by %s", ", ".join(made), remedy)
        self._there |= topics

    async def commit(self, taken: Offsets) -> int:
        """Commit; return the changelog position after it."""
        await self._opened().commit()
        self._done.update(taken)
        return self._position

    async def close(self) -> None:
        """Abort what is open and let go."""
        await self.feed.close()
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.close()
