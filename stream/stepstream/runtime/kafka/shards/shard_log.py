"""The log of a shard on Kafka: transactions and positions."""

import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence

from stepstream.contract.errors import StepstreamError
from stepstream.contract.text.wording import counted
from stepstream.contract.topics import CHANGELOG, COMMANDS, EVENTS, FUNCTIONS, HISTORY, INBOX
from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.feed import Feed
from stepstream.runtime.kafka.client.producer import Producer
from stepstream.runtime.kafka.topics.layout import apply_command, apply_topics, topic_problems
from stepstream.runtime.kafka.topics.origin import origin_of
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import (
    Clock,
    Fenced,
    LogError,
    LogRecord,
    NewRecord,
    Offsets,
    Origin,
    StoredRow,
    TopicPartition,
)

logger = logging.getLogger(__name__)
_PROGRESS_S = 5.0
_ROWS_PER_READ = 5_000
_RECOVERY_WAIT_MS = 200
# A transaction takes about 10 ms, and the steps of a short run take less: with this delay they share one.
_DELAY_S = 0.01
_COMMANDS = f"{COMMANDS}."
# Without any of these topics a shard cannot be served.
SHARD_TOPICS = (FUNCTIONS, INBOX, EVENTS, CHANGELOG, HISTORY)


def _loss(name: str, end: int, position: int) -> str:
    """Return the error for an input that ends before the offset up to which it was processed."""
    return (
        f"{name} ends at {end}, but its records up to {position} were processed: a broker lost records that it had "
        "acknowledged (a power failure, or an unclean leader election). Restore the data of the broker. To continue "
        f"without it, append {position - end} records of any content to this partition: they take the offsets of the "
        "lost records and are not read"
    )


def rows_of(records: Sequence[LogRecord]) -> list[StoredRow]:
    """Return the rows in records of a changelog; skip unreadable batches, which no shard can have written."""
    for record in records:
        if record.unreadable:
            foreign = "%s-%d has a batch of another producer, which is skipped: %s"
            logger.error(foreign, record.topic, record.partition, record.unreadable.reason)
    return [(record.key, record.value or None) for record in records if not record.unreadable]


class KafkaLog:
    """The transactional log of a shard. Its transactional id is the shard's, so a newer owner fences an older one."""

    def __init__(self, cluster: Cluster, clock: Clock, shard: int, shards: int) -> None:
        self._cluster = cluster
        self._clock = clock
        self._shard = shard
        self._shards = shards
        self._topics: Mapping[str, Extent] = {}
        self._failure: LogError | None = None
        self.notification = Notification()
        self.feed = Feed(self.notification, first=FUNCTIONS)
        self._producer: Producer | None = None
        self._position = 0
        self._end = 0
        self._committed: Offsets = {}
        self._polled_at = 0.0
        self._waiting = False
        self._existing = set[str]()

    @property
    def changelog_left(self) -> int:
        """How many offsets of the changelog remain to be read while the shard recovers."""
        return max(self._end - self._position, 0)

    @property
    def epoch(self) -> int | None:
        """The epoch of the shard's producer; None while the log is not open."""
        return self._producer.epoch if self._producer else None

    def supersede(self) -> None:
        """Note that another engine serves the shard with a higher epoch: an idle shard would not notice."""
        self._fail(Fenced("another engine serves the shard"))

    @property
    def inputs(self) -> list[TopicPartition]:
        """The partitions that the shard reads, including every further partition of `events`.

        Any producer may write to a partition that was added to `events`. Any shard may read an event, so the numbers of
        these partitions distribute them over the shards.
        """
        count = self._topics[EVENTS].partitions if EVENTS in self._topics else self._shards
        events = range(self._shard, max(count, self._shard + 1), self._shards)
        return [(FUNCTIONS, 0), (INBOX, self._shard), *((EVENTS, partition) for partition in events)]

    async def open(self) -> None:
        """Become the shard's only producer; raise LogError, with the remedy, if a topic is missing."""
        topics = await self._cluster.extents(SHARD_TOPICS)
        if problems := topic_problems(self._cluster.settings, topics, SHARD_TOPICS, self._shards):
            raise LogError(problems)
        self._topics = topics
        self._producer = await self._cluster.producer(f"shard-{self._shard}")

    def topic_id(self, topic: str) -> str:
        """Return the id that the topic of an input had when the log was opened."""
        return self._topics[topic].id if topic in self._topics else ""

    def check(self, topics: Mapping[str, Extent]) -> None:
        """Let the shard restart if topics are not those that it opened: created again, or with further partitions."""
        for topic, now in topics.items():
            opened = self._topics.get(topic, now)
            if now.id != opened.id:
                self._fail(LogError(f"topic {self._cluster.settings.name(topic)!r} was deleted and created again"))
            elif topic == EVENTS and now.partitions > opened.partitions:
                self._fail(
                    LogError(f"topic {self._cluster.settings.name(topic)!r} has {now.partitions} partitions now")
                )

    def _fail(self, failure: LogError) -> None:
        self._failure = self._failure or failure
        self.notification.notify()

    async def origin(self) -> Origin:
        """Return the origin of the changelog; write one to an empty changelog."""
        return await origin_of(self._cluster, self._shard, self._shards)

    async def changelog(self, position: int) -> AsyncIterator[tuple[list[StoredRow], int]]:
        """Yield the committed rows from `position` to the end."""
        at = (CHANGELOG, self._shard)
        self._position = position
        reader = await self._cluster.reader(known=True)
        try:
            reader.assign([at])
            end = self._end = (await reader.ends([at]))[at]
            reader.seek({at: position})
            logged_at = time.monotonic()
            while self._position < end:
                if time.monotonic() - logged_at > _PROGRESS_S:
                    logged_at = time.monotonic()
                    progress = "shard %d has read its changelog up to %d of %d"
                    logger.info(progress, self._shard, self._position, end, extra={"shard": self._shard})
                records = await reader.read(_ROWS_PER_READ, _RECOVERY_WAIT_MS)
                # The position also moves past transaction markers, which are not records.
                self._position = max(await reader.position(at), self._position)
                if records:
                    yield rows_of(records), self._position
        finally:
            self._end = 0
            await reader.close()

    async def seek(self, positions: Offsets) -> None:
        """Read the inputs from these offsets; one without an offset is read from its beginning.

        Raise LogError for an input that ends before its offset.
        """
        reader = self.feed.reader = await self._cluster.reader(known=True)
        ends = await reader.ends(self.inputs)
        self._committed = self._within(positions, await reader.beginnings(self.inputs), ends)
        # A shard that was away for long must know each function before it reads the events that were sent after it.
        registered = (FUNCTIONS, 0)
        reader.assign([registered])
        reader.seek({registered: self._committed[registered]})
        end = ends[registered]
        while await reader.position(registered) < end:
            self.feed.put(await reader.read(_ROWS_PER_READ, _RECOVERY_WAIT_MS))
        reader.assign(self.inputs)
        reader.seek(self._committed | {registered: max(end, self._committed[registered])})
        offsets = ", ".join(f"{topic} {offset}" for (topic, _), offset in self._committed.items())
        logger.info("shard %d continues from %s", self._shard, offsets, extra={"shard": self._shard})

    def _within(self, positions: Offsets, begins: Offsets, ends: Offsets) -> Offsets:
        """Return the offset from which to read each input: its position, or its beginning if that is later."""
        for at in positions.keys() & ends.keys():
            name, position = f"{self._cluster.settings.name(at[0])}-{at[1]}", positions[at]
            if position > ends[at]:
                raise LogError(_loss(name, ends[at], position))
            if position < begins[at]:
                lost = "%s begins at %d, but was processed up to %d: its retention deleted %s"
                gap = counted(begins[at] - position, "offset")
                logger.warning(lost, name, begins[at], position, gap, extra={"shard": self._shard})
        return {at: max(positions.get(at, 0), begins[at]) for at in self.inputs}

    async def lag(self, at: tuple[str, int], end: int) -> int:
        """Return how many records of an input that ends at `end` were not processed and committed."""
        if self.feed.reader is None:
            return 0
        # Only the position of the reader is after transaction markers.
        processed = await self.feed.reader.position(at) if self.idle else self._committed.get(at, 0)
        return max(end - processed, 0)

    async def poll(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Return up to `limit` new records of the inputs, wait for the first, but not beyond `until_ms`."""
        while True:
            self._polled_at = time.monotonic()
            if self._failure is not None:
                raise self._failure
            if records := self.feed.take(limit):
                return records
            if until_ms is not None and until_ms <= self._clock.now_ms():
                return []
            self._waiting = True
            try:
                await self._clock.wait(self.notification, until_ms)
            finally:
                self._waiting = False

    @property
    def idle(self) -> bool:
        """Whether all records that were read are processed, and no new ones arrived."""
        return self._waiting and self.notification.waited_for and not self.feed.pending

    async def more(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Return records that arrive while a batch may be delayed; none once that time or `until_ms` is over."""
        while True:
            # Checked first: if records arrive continuously, the batch would otherwise never be committed.
            left = self._polled_at + _DELAY_S - time.monotonic()
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
        await self._create_missing(
            {record.topic for record in records if record.topic.startswith(_COMMANDS)} - self._existing
        )
        changes = [NewRecord(CHANGELOG, self._shard, key, value or b"") for key, value in rows]
        written = await self._opened().send([*records, *changes], self._clock.now_ms())
        if changes:
            offsets = [offset for _, offset in written[len(records) :]]
            if min(offsets) < self._position:
                # Offsets of a topic never fall. The transaction is aborted, so that nothing is added to the new one.
                raise LogError(f"topic {self._cluster.settings.name(CHANGELOG)!r} was deleted and created again")
            self._position = max(offsets) + 1

    async def _create_missing(self, topics: set[str]) -> None:
        """Create topics of commands that do not exist: a batch that writes to one would fail at every attempt.

        A topic is missing if it was deleted while its app's functions are registered. Without this, one deleted topic
        would stop the shard for all apps.
        """
        existing = await self._cluster.extents([INBOX, *topics]) if topics else {}
        if missing := sorted(topics - existing.keys()):
            if problems := topic_problems(self._cluster.settings, existing, [INBOX], self._shards):
                raise LogError(problems)
            apps = [topic.removeprefix(_COMMANDS) for topic in missing]
            remedy = f"`{apply_command(self._cluster.settings, apps, existing[INBOX].partitions)}`"
            try:
                created = await apply_topics(self._cluster, apps, 0)
            except StepstreamError as error:
                raise LogError(
                    f"topic {', '.join(missing)} is missing and cannot be created: {error}; run {remedy}"
                ) from error
            logger.warning("topics %s were missing; created them, as %s does", ", ".join(created), remedy)
        self._existing |= topics

    async def commit(self, offsets: Offsets) -> int:
        """Commit; return the changelog position after it."""
        await self._opened().commit()
        self._committed.update(offsets)
        return self._position

    async def close(self) -> None:
        """Abort an open transaction and release all resources."""
        await self.feed.close()
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.close()
