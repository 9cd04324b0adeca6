"""The log of a worker on Kafka: commands from a consumer group, its rebalances, and reports."""

import asyncio
import functools
import logging
from collections.abc import Mapping
from contextlib import suppress

from stepstream.contract.ids import shard_of
from stepstream.contract.topics import INBOX, commands_topic
from stepstream.runtime.kafka.client.answers import CreationWatch, Extent
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.feed import Feed
from stepstream.runtime.kafka.client.producer import Producer
from stepstream.runtime.kafka.client.reader import Membership, Reader, ask_each
from stepstream.runtime.kafka.workers.command_offsets import CommandOffsets
from stepstream.runtime.kafka.workers.group_lease import GROUP_MEMBER, GroupLease, MemberOptions
from stepstream.runtime.kafka.workers.lost_commands import LostCommands
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogError, LogRecord, NewRecord, Offsets, RebalanceListener, TopicPartition
from stepstream.runtime.recurrence import Recurrence

logger = logging.getLogger(__name__)
_LEAVE_S_MAX = 2.0


class KafkaWorkerLog:
    """The log of a worker of an app or queue: a member of its group, or without one the reader of all partitions."""

    def __init__(self, cluster: Cluster, workers: str, shards: int, options: MemberOptions = GROUP_MEMBER) -> None:
        self._cluster = cluster
        self._session_s = cluster.settings.session_s
        self._topic = commands_topic(workers)
        self._group = f"worker-{workers}"
        self._shards = shards
        self._options = options
        self.notification = Notification()
        self.feed = Feed(self.notification)
        self.parked = False
        self._producer: Producer | None = None
        self._listener: RebalanceListener | None = None
        self.lease = GroupLease(self._session_s, options)
        self.offsets = CommandOffsets(self._topic)
        self._checked_at = 0.0
        self._check_soon = Notification()
        self._tasks: list[asyncio.Task[None]] = []
        self._return_none = False
        self._creation = CreationWatch(self._topic)
        self._start_over_asked = False
        self._restart_failures = Recurrence()
        self._lost = LostCommands(workers, shards, self._write)

    @property
    def assignments(self) -> int:
        """How often the group has assigned partitions."""
        return self.offsets.assignments

    @property
    def partitions(self) -> list[TopicPartition]:
        """The assigned partitions."""
        return self.offsets.partitions

    @property
    def confirmed_at(self) -> float:
        """When the group last confirmed the membership (monotonic s); now, if there are no partitions to lose."""
        idle = self.assignments and not self.offsets.assigned
        return self._options.monotonic() if self._options.alone or idle else self.lease.confirmed_at

    @property
    def member(self) -> bool:
        """Whether the group has assigned partitions, possibly none, and the membership is confirmed."""
        return bool(self.assignments) and (self.lease.is_held or not self.offsets.assigned)

    async def lag(self, at: TopicPartition, end: int) -> int:
        """Return how many commands of a partition that ends at `end` were not polled."""
        if self.feed.reader is None:
            return 0
        if self.offsets.is_beyond(at, end):
            self._start_over_soon()
        return max(end - await self.feed.reader.position(at), 0) + self.feed.waiting(at)

    def check(self, topics: Mapping[str, Extent]) -> None:
        """Read the topic of commands from its beginning if it was created again."""
        if self._creation.created_again(topics):
            self._start_over_soon()

    def _start_over_soon(self) -> None:
        self._start_over_asked = not self._options.alone
        self._check_soon.notify()

    async def open(self, listener: RebalanceListener) -> None:
        """Join the group. Commands that are in a partition when it is assigned are not fresh."""
        self._listener = listener
        options = self._options
        self._producer = await self._cluster.producer()
        reader = await self._cluster.reader(group=self._group, instance=options.instance, client=options.client)
        self.feed.reader = reader
        if options.alone:
            count = min(await self._producer.partition_count(self._topic), self._shards)
            partitions = [(self._topic, partition) for partition in range(count)]
            reader.assign(partitions)
            reader.seek(dict.fromkeys(partitions, 0) | await reader.committed(partitions))
            await self._assign(list(range(count)))
        else:
            # Added partitions hold no commands. If the topic is deleted and created again, they are missing, and a
            # member that was assigned one would wait forever for its beginning: the group may not rebalance, because a
            # static member that restarts does not know that it is the leader.
            reader.join(self._topic, Membership(self._assign, self._revoke, partitions_max=self._shards))
        self._tasks = [asyncio.ensure_future(self._keep_committed(reader))]
        if not options.alone:
            renewing = self.lease.keep(reader, self._return_from_poll, lambda: bool(self.offsets.assigned))
            self._tasks.append(asyncio.ensure_future(renewing))
        for task in self._tasks:
            task.add_done_callback(lambda _: self.notification.notify())

    # Rebalances.

    async def _revoke(self, partitions: list[int]) -> None:
        """Report that partitions may be revoked; most are assigned again, so running code continues until then."""
        self.lease.rebalancing = True
        if self._listener is None or not partitions:
            return
        try:
            async with asyncio.timeout(self._options.revoke_sessions * self._session_s):
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
        alone, kept = self._options.alone, set[int]()
        without_gap, lost = (False, False) if alone else self.lease.assigned(reader.membership)
        if without_gap:
            kept = set(self.offsets.assigned).intersection(partitions)
        if not alone:
            self.feed.forget()
        # Commands are read from now on, and not read again, so they count as assigned before anything is awaited.
        self.offsets.assign(partitions, kept)
        reader.seek(self.offsets.polled())
        self._lost.assigned(() if alone else partitions, kept)
        logger.info("partitions %s of %s assigned", sorted(partitions), self._topic)
        if self._listener is not None:
            await self._listener.moved(kept, lost=lost)
        # Code that waits for the membership continues once it is confirmed. Nothing is awaited here: the client cannot
        # answer the group while this callback runs.
        self.lease.confirm_soon()
        self._check_now()

    async def _start_over(self, reader: Reader) -> None:
        """Read commands from the beginning of the topic: it was created again, or a broker lost records.

        To the worker this is a rebalance in which it lost all partitions and was assigned them again.
        """
        assignments, self.lease.rebalancing = self.assignments, True
        if self._listener is not None:
            await self._listener.moving()
        beginnings = await reader.beginnings(self.partitions)
        if self.assignments != assignments:
            return  # After a rebalance, other partitions are read from the beginning.
        self._start_over_asked = self.lease.rebalancing = False
        again = "it is read from its beginning, and the shards send again what was in it"
        logger.warning("topic %s was deleted and created again, or a broker lost records: %s", self._topic, again)
        self.feed.forget()
        self.offsets.start_over()
        self._lost.lose(self.offsets.assigned)
        reader.seek(beginnings)
        if self._listener is not None:
            await self._listener.moved((), lost=False)
        self._check_now()

    def _check_now(self) -> None:
        """Check which commands are fresh, and take what was read."""
        self._checked_at = 0.0
        self._check_soon.notify()
        self.notification.notify()

    # Offsets.

    async def _keep_committed(self, reader: Reader) -> None:
        """Commit offsets periodically; check less often which commands are fresh, and skip transaction markers."""
        check_s, monotonic = self._options.renew_sessions * self._session_s, self._options.monotonic
        while True:
            await self._check_soon.wait(self._options.commit_s)
            if self._start_over_asked:
                try:
                    await self._start_over(reader)
                except LogError as error:
                    if (more := self._restart_failures.occurs(str(error))) is not None:
                        logger.warning(
                            "topic %s was created again and cannot be read yet: %s%s", self._topic, error, more
                        )
                continue
            if checks := monotonic() - self._checked_at >= check_s:
                self._checked_at = monotonic()
                await self._learn_what_is_fresh(reader)
                await ask_each(functools.partial(self._lost.ask, reader), self._lost.unknown)
            # A group that rebalances refuses commits; they are repeated afterwards.
            with suppress(LogError):
                await self._commit_processed()
                if checks and (beyond := await self._beyond_markers(reader)):
                    await self._commit(beyond)

    async def _learn_what_is_fresh(self, reader: Reader) -> None:
        """Read the end offsets that are not known yet; until then the worker claims each run of the partition."""
        assignments = self.assignments

        async def learn(at: TopicPartition) -> None:
            ends = await reader.ends([at])
            if self.assignments == assignments:
                self.offsets.learn_end(at, ends[at])

        await ask_each(learn, self.offsets.unknown_ends())

    async def _beyond_markers(self, reader: Reader) -> Offsets:
        """Return the offsets after the transaction markers at the end of partitions without unprocessed commands."""
        assignments = self.assignments
        found: Offsets = {}

        async def ask(at: TopicPartition) -> None:
            found[at] = await reader.position(at)

        await ask_each(ask, self.partitions)
        if self.assignments != assignments:
            return {}  # After a rebalance, a partition may be read again from before its position.
        taken = {at: position for at, position in found.items() if not self.feed.waiting(at)}
        return self.offsets.beyond_markers(taken, self._lost.known)

    async def _commit_processed(self) -> None:
        """Commit the offsets of what was processed since the last commit."""
        if news := self.offsets.uncommitted(self._lost.known):
            await self._commit(news)

    async def _commit(self, offsets: Offsets) -> None:
        if self.feed.reader is None:
            return
        assignments = self.assignments
        await self.feed.reader.commit(offsets)
        if self.assignments == assignments:
            self.offsets.commit(offsets)

    # The port of the worker.

    async def until_member(self) -> None:
        """Return when the group has confirmed the membership recently, and does not rebalance.

        After a rebalance, the listener stops the code that it has lost.
        """
        await self.lease.until_certain()

    def is_fresh(self, record: LogRecord) -> bool:
        """Return whether a command came after its partition was assigned, and the worker is certainly a member.

        If either is unknown the answer is no: a claim is always correct.
        """
        return self.lease.is_certain and self.offsets.is_fresh(record)

    async def poll(self, limit: int) -> list[LogRecord]:
        """Return up to `limit` commands; wait for the first, but return none periodically, so that offsets advance."""
        while not self.lease.ended:
            # What is read during a rebalance is read again afterwards.
            if not self.lease.rebalancing and (commands := self.offsets.take(self.feed.take(limit))):
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

    def _return_from_poll(self) -> None:
        self._return_none = True
        self.notification.notify()

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
        self.offsets.process(offsets)

    async def leave(self) -> None:
        """Leave the group after a last commit, if the group answers in time."""
        self.lease.end()
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
        logger.info("left the group of %s", self._topic)

    async def close(self) -> None:
        """Leave the group and release all resources."""
        await self.leave()
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.close()
