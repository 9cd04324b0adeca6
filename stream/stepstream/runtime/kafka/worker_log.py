"""The log of a worker on Kafka: commands from a consumer group, reports, and the lease on the group membership."""

import asyncio
import functools
import logging
import time
from collections.abc import Collection, Mapping
from contextlib import suppress

from stepstream.contract.ids import shard_of
from stepstream.contract.topics import INBOX, commands_topic
from stepstream.runtime.kafka.answers import CreationWatch, Extent
from stepstream.runtime.kafka.cluster import CLIENT, Cluster
from stepstream.runtime.kafka.feed import Feed
from stepstream.runtime.kafka.lost_commands import LostCommands
from stepstream.runtime.kafka.producer import Producer
from stepstream.runtime.kafka.reader import Membership, Reader, ask_each
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogError, LogRecord, NewRecord, Offsets, RebalanceListener, TopicPartition

logger = logging.getLogger(__name__)
# The lease is shorter than the session, to allow for clocks and for the time that an answer takes.
_LEASE_SESSIONS = 0.8
_RENEW_SESSIONS = 0.25
# The group expires a member that takes longer than three sessions to release its partitions.
_REVOKE_SESSIONS = 1.0
# How often offsets are committed. The successor of a killed worker claims commands after the last commit without need;
# more frequent commits would compete with the reports that are written at the same time.
_COMMIT_S = 0.25
_LEAVE_S_MAX = 2.0
# An offset that no record reaches.
_NEVER = 2**63


class KafkaWorkerLog:
    """The log of a worker of an app or queue: a member of its group, or with `alone` the reader of all partitions."""

    def __init__(
        self,
        cluster: Cluster,
        workers: str,
        shards: int,
        *,
        alone: bool = False,
        instance: str = "",
        client: str = CLIENT,
    ) -> None:
        self._cluster = cluster
        self._session_s = cluster.settings.session_s
        self._topic = commands_topic(workers)
        self._group = f"worker-{workers}"
        self._shards = shards
        self._alone = alone
        self._instance = instance
        self._client = client
        self.notification = Notification()
        self.feed = Feed(self.notification)
        self.parked = False
        self._producer: Producer | None = None
        self._fresh_from: dict[int, int] = {}
        self._listener: RebalanceListener | None = None
        self._membership = ("", 0)
        self._rebalancing = False
        self._confirmed_at = self._checked_at = 0.0
        self._confirmed = Notification()
        self._confirm_soon = Notification()
        self._check_soon = Notification()
        self._tasks: list[asyncio.Task[None]] = []
        self._return_none = False
        self._left = False
        self._creation = CreationWatch(self._topic)
        self._start_over_asked = False
        self._lost = LostCommands(workers, shards, self._write)
        # By partition: the offset after the last command that was returned by a poll, the offset before which all
        # commands are processed, and the offset that the group has committed.
        self._polled: dict[int, int] = {}
        self._processed: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self.assignments = 0

    @property
    def confirmed_at(self) -> float:
        """When the group last confirmed the membership (monotonic s); now, if there are no partitions to lose."""
        idle = self.assignments and not self._fresh_from
        return time.monotonic() if self._alone or idle else self._confirmed_at

    @property
    def member(self) -> bool:
        """Whether the group has assigned partitions, possibly none, and the membership is confirmed."""
        return bool(self.assignments) and (self._is_member or not self._fresh_from)

    async def lag(self, at: TopicPartition, end: int) -> int:
        """Return how many commands of a partition that ends at `end` were not polled."""
        if self.feed.reader is None:
            return 0
        if self._polled.get(at[1], 0) > end:
            # Offsets of a topic never fall: it was created again, or a broker lost records.
            self._start_over_soon()
        return max(end - await self.feed.reader.position(at), 0) + self.feed.waiting(at)

    @property
    def partitions(self) -> list[TopicPartition]:
        """The assigned partitions."""
        return [(self._topic, partition) for partition in self._fresh_from]

    def check(self, topics: Mapping[str, Extent]) -> None:
        """Read the topic of commands from its beginning if it was created again."""
        if self._creation.created_again(topics):
            self._start_over_soon()

    def _start_over_soon(self) -> None:
        self._start_over_asked = not self._alone
        self._check_soon.notify()

    async def open(self, listener: RebalanceListener) -> None:
        """Join the group. Commands that are in a partition when it is assigned are not fresh."""
        self._listener = listener
        self._producer = await self._cluster.producer()
        reader = await self._cluster.reader(group=self._group, instance=self._instance, client=self._client)
        self.feed.reader = reader
        if self._alone:
            count = await self._producer.partition_count(self._topic)
            partitions = [(self._topic, partition) for partition in range(count)]
            reader.assign(partitions)
            reader.seek(dict.fromkeys(partitions, 0) | await reader.committed(partitions))
            await self._assign(list(range(count)))
        else:
            reader.join(self._topic, Membership(self._assign, self._revoke))
        self._tasks = [asyncio.ensure_future(self._keep_committed(reader))]
        if not self._alone:
            self._tasks.append(asyncio.ensure_future(self._keep_confirmed(reader)))
        for task in self._tasks:
            task.add_done_callback(lambda _: self.notification.notify())

    async def _revoke(self, partitions: list[int]) -> None:
        """Report that partitions may be revoked; most are assigned again, so running code continues until then."""
        self._rebalancing = True
        if self._listener is None or not partitions:
            return
        try:
            async with asyncio.timeout(_REVOKE_SESSIONS * self._session_s):
                await self._listener.moving()
                await self._commit_processed()
        except (LogError, TimeoutError) as error:
            logger.warning(
                "partitions of %s were revoked before their leases and offsets were written; other workers may repeat "
                "steps that are running: %r",
                self._topic,
                error,
            )

    async def _assign(self, partitions: list[int]) -> None:
        reader = self.feed.reader
        if reader is None:
            return
        kept, lost = self._kept(reader, partitions)
        if not self._alone:
            self.feed.forget()
        # Commands are read from now on, and not read again, so they count as assigned before anything is awaited.
        self._fresh_from = {at: self._fresh_from[at] if at in kept else _NEVER for at in partitions}
        for offsets in (self._polled, self._processed, self._committed):
            for partition in offsets.keys() - kept:
                del offsets[partition]
        reader.seek({(self._topic, partition): at for partition, at in self._polled.items()})
        self._lost.assigned(() if self._alone else partitions, kept)
        self.assignments += 1
        self._rebalancing = False
        logger.info("partitions %s of %s assigned", sorted(partitions), self._topic)
        if self._listener is not None:
            await self._listener.moved(kept, lost=lost)
        # Code that waits for the membership continues once it is confirmed. Nothing is awaited here: the client cannot
        # answer the group while this callback runs.
        self._checked_at = 0.0
        self._confirm_soon.notify()
        self._check_soon.notify()
        self.notification.notify()

    def _kept(self, reader: Reader, partitions: Collection[int]) -> tuple[set[int], bool]:
        """Return the partitions that stayed assigned without a gap, and whether the membership had expired.

        If a generation is missing between the last assignment and this one, another member may have had a partition in
        it. A member that had expired returns with a new member id.
        """
        if self._alone:
            return set(), False
        (member, generation), self._membership = self._membership, reader.membership
        is_next = self._membership == (member, generation + 1)
        return (self._fresh_from.keys() & partitions if is_next else set()), self._membership[0] != member

    async def _start_over(self, reader: Reader) -> None:
        """Read commands from the beginning of the topic: it was created again, or a broker lost records.

        To the worker this is a rebalance in which it lost all partitions and was assigned them again.
        """
        assignments, self._rebalancing = self.assignments, True
        if self._listener is not None:
            await self._listener.moving()
        beginnings = await reader.beginnings(self.partitions)
        if self.assignments != assignments:
            return  # After a rebalance, other partitions are read from the beginning.
        self._start_over_asked = self._rebalancing = False
        again = "it is read from its beginning, and the shards send again what was in it"
        logger.warning("topic %s was deleted and created again, or a broker lost records: %s", self._topic, again)
        self.feed.forget()
        for offsets in (self._polled, self._processed, self._committed):
            offsets.clear()
        self._fresh_from = dict.fromkeys(self._fresh_from, _NEVER)
        self._lost.lose(self._fresh_from)
        reader.seek(beginnings)
        if self._listener is not None:
            await self._listener.moved((), lost=False)
        self._checked_at = 0.0
        self._check_soon.notify()
        self.notification.notify()

    async def _learn_what_is_fresh(self, reader: Reader) -> None:
        """Read the end offsets that are not known yet; until then the worker claims each run of the partition."""
        assignments = self.assignments

        async def learn(at: TopicPartition) -> None:
            ends = await reader.ends([at])
            if self.assignments == assignments:
                self._fresh_from[at[1]] = ends[at]

        await ask_each(learn, [at for at in self.partitions if self._fresh_from[at[1]] == _NEVER])

    async def _keep_confirmed(self, reader: Reader) -> None:
        """Confirm the membership periodically; other calls that wait do not delay it."""
        while True:
            await self._confirm_soon.wait(_RENEW_SESSIONS * self._session_s)
            self._return_none = True
            self.notification.notify()
            asked_at = time.monotonic()
            # During a rebalance, or if the membership has expired, this fails, and nothing is fresh.
            with suppress(LogError):
                if self._fresh_from:
                    await reader.confirm()
                    self._confirmed_at = asked_at
                    self._confirmed.notify()

    async def _keep_committed(self, reader: Reader) -> None:
        """Commit offsets periodically; check less often which commands are fresh, and skip transaction markers."""
        while True:
            await self._check_soon.wait(_COMMIT_S)
            if self._start_over_asked:
                with suppress(LogError):
                    await self._start_over(reader)
                continue
            if checks := time.monotonic() - self._checked_at >= _RENEW_SESSIONS * self._session_s:
                self._checked_at = time.monotonic()
                await self._learn_what_is_fresh(reader)
                await ask_each(functools.partial(self._lost.ask, reader), self._lost.unknown)
            # A group that rebalances refuses commits; they are repeated afterwards.
            with suppress(LogError):
                await self._commit_processed()
                if checks and (beyond := await self._beyond_markers(reader)):
                    await self._commit(beyond)

    async def _commit_processed(self) -> None:
        """Commit the offsets of what was processed since the last commit."""
        news = {
            (self._topic, partition): at
            for partition, at in self._processed.items()
            if at > self._committed.get(partition, 0) and self._lost.known(partition)
        }
        if news:
            await self._commit(news)

    async def _commit(self, offsets: Offsets) -> None:
        if self.feed.reader is None:
            return
        assignments = self.assignments
        await self.feed.reader.commit(offsets)
        if self.assignments == assignments:
            self._committed.update({partition: at for (_, partition), at in offsets.items()})

    async def _beyond_markers(self, reader: Reader) -> Offsets:
        """Return the offsets after the transaction markers at the end of partitions without unprocessed commands.

        Otherwise the lag of the group would never be 0, and an autoscaler would never remove the last worker.
        """
        assignments = self.assignments
        found: Offsets = {}

        async def ask(at: TopicPartition) -> None:
            found[at] = await reader.position(at)

        await ask_each(ask, self.partitions)
        if self.assignments != assignments:
            return {}  # After a rebalance, a partition may be read again from before its position.
        return {
            at: position
            for at, position in found.items()
            if self._polled.get(at[1]) == self._processed.get(at[1])
            and self._lost.known(at[1])
            and not self.feed.waiting(at)
            and position > max(self._processed.get(at[1], 0), self._committed.get(at[1], 0))
        }

    @property
    def _is_member(self) -> bool:
        return self._alone or time.monotonic() - self._confirmed_at < _LEASE_SESSIONS * self._session_s

    async def until_member(self) -> None:
        """Return when the group has confirmed the membership recently.

        A process that was frozen may not know that its membership has expired. When it thaws, it must not run what
        other workers have already finished. After the rebalance, the listener stops the code that it has lost.
        """
        while (self._rebalancing or not self._is_member) and not self._left:
            await self._confirmed.wait()

    def is_fresh(self, record: LogRecord) -> bool:
        """Return whether a command came after its partition was assigned, and the worker is certainly a member.

        If either is unknown the answer is no: a claim is always correct.
        """
        sure = self._is_member and not self._rebalancing
        return sure and record.offset >= self._fresh_from.get(record.partition, record.offset + 1)

    async def poll(self, limit: int) -> list[LogRecord]:
        """Return up to `limit` commands; wait for the first, but return none periodically, so that offsets advance."""
        while not self._left:
            if not self._rebalancing and (commands := self._take(limit)):
                return commands
            for task in self._tasks:
                if task.done():
                    task.result()  # Without this task the membership is never confirmed, and no code starts.
            if self._return_none:
                self._return_none = False
                return []
            self.parked = True
            try:
                await self.notification.wait()
            finally:
                self.parked = False
        return []

    def _take(self, limit: int) -> list[LogRecord]:
        """Return commands of assigned partitions; what is read during a rebalance is read again afterwards."""
        found: list[LogRecord] = []
        for record in self.feed.take(limit):
            if record.partition in self._fresh_from and record.offset >= self._polled.get(record.partition, 0):
                self._polled[record.partition] = record.offset + 1
                found.append(record)
        return found

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append a report to the inbox; return when it is durable."""
        await self._write(NewRecord(INBOX, shard_of(routing_key, self._shards), routing_key.encode(), value))

    async def dead_letter(self, record: NewRecord) -> None:
        """Append a dead letter; return when it is durable."""
        await self._write(record)

    async def _write(self, record: NewRecord) -> None:
        if self._producer is None:
            raise LogError("the worker's log is not open")
        await self._producer.send([record])

    async def commit(self, offsets: Offsets) -> None:
        """Note that every command before these offsets is processed; the group commits them within a moment."""
        self._processed.update({partition: offset for (_, partition), offset in offsets.items()})

    async def leave(self) -> None:
        """Leave the group after a last commit, if the group answers in time."""
        self._left = True
        if self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks = []
            try:
                async with asyncio.timeout(_LEAVE_S_MAX):
                    await self._commit_processed()
            except (LogError, TimeoutError):
                logger.info(
                    "last commit to the group of %s failed; other workers claim the remaining runs", self._topic
                )
        await self.feed.close()
        self._confirmed.notify()
        logger.info("left the group of %s", self._topic)

    async def close(self) -> None:
        """Leave the group and release all resources."""
        await self.leave()
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.close()
