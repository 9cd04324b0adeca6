"""The log of workers on Kafka: commands by a consumer group, reports, and who may go on."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

from stepstream.contract.ids import shard_of
from stepstream.contract.topics import INBOX, commands_topic
from stepstream.runtime.kafka.cluster import CLIENT, Cluster
from stepstream.runtime.kafka.feed import Feed
from stepstream.runtime.kafka.producer import Producer
from stepstream.runtime.kafka.reader import SESSION_MS, Membership, Reader
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogError, LogRecord, NewRecord, Offsets, RebalanceListener

logger = logging.getLogger(__name__)
# The broker gives a member up after SESSION_MS without a word; a part of it is kept for clocks and answers.
_LEASE_S = 0.8 * SESSION_MS / 1_000
_RENEW_S = SESSION_MS / 4_000
# The group hears this often how far all is dealt with. What it has not heard when a worker is killed, the next one
# claims in vain; told at once it would be in the way of the reports that are written in the same moment.
_COMMIT_S = 0.25
_LEAVE_S_MAX = 2.0
# The group gives up who takes longer than three sessions to let go of partitions.
_REVOKE_S_MAX = SESSION_MS / 1_000
# The leader of a partition that is away is asked again before long, and keeps no other from being known.
_ANSWER_S_MAX = 2.0
# An offset that no record reaches.
_NEVER = 2**63


async def _ask_each(ask: Callable[[tuple[str, int]], Awaitable[None]], places: Collection[tuple[str, int]]) -> None:
    """Ask of each place, of all at once; go on without those for which no answer comes in time."""

    async def ask_one(at: tuple[str, int]) -> None:
        with suppress(LogError, TimeoutError):
            async with asyncio.timeout(_ANSWER_S_MAX):
                await ask(at)

    await asyncio.gather(*map(ask_one, places))


class KafkaWorkerLog:
    """The log of a worker of one app: a member of the app's group, or, `alone`, the reader of all partitions."""

    def __init__(
        self,
        cluster: Cluster,
        app: str,
        shards: int,
        *,
        alone: bool = False,
        instance: str = "",
        client: str = CLIENT,
    ) -> None:
        self._cluster = cluster
        self._topic = commands_topic(app)
        self._group = f"worker-{app}"
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
        self._moving = False
        self._confirmed_at = self._looked_at = 0.0
        self._confirmed = Notification()
        self._confirm_soon = Notification()
        self._look_soon = Notification()
        self._keeping: list[asyncio.Task[None]] = []
        self._due = False
        self._left = False
        # By partition: the offset after the last command that was taken, up to where all are dealt with, and from where
        # the group has been told to go on.
        self._taken: dict[int, int] = {}
        self._dealt: dict[int, int] = {}
        self._told: dict[int, int] = {}
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

    async def open(self, listener: RebalanceListener) -> None:
        """Join the group; commands already in the log when a partition comes are not fresh."""
        self._listener = listener
        self._producer = await self._cluster.producer()
        reader = await self._cluster.reader(group=self._group, instance=self._instance, client=self._client)
        self.feed.reader = reader
        if self._alone:
            places = [(self._topic, at) for at in range(await self._producer.partitions(self._topic))]
            reader.assign(places)
            reader.seek(await reader.committed(places))
            await self._assign([partition for _, partition in places])
        else:
            reader.join(self._topic, Membership(self._assign, self._revoke))
        works = [self._keep_told(reader)] if self._alone else [self._keep_told(reader), self._keep_confirmed(reader)]
        self._keeping = [asyncio.ensure_future(work) for work in works]
        for task in self._keeping:
            task.add_done_callback(lambda _: self.notification.notify())

    async def _revoke(self, partitions: list[int]) -> None:
        """All partitions may go, and most come back: what is at work goes on until it is known which are gone."""
        self._moving = True
        if self._listener is None or not partitions:
            return
        try:
            async with asyncio.timeout(_REVOKE_S_MAX):
                await self._listener.moving()
                await self._tell()
        except (LogError, TimeoutError) as error:
            logger.warning(
                "the partitions of %s go before all was written, and others may do it again: %r", self._topic, error
            )

    async def _assign(self, partitions: list[int]) -> None:
        reader = self.feed.reader
        if reader is None:
            return
        kept, lost = self._kept(reader, partitions)
        if not self._alone:
            self.feed.forget()
        # From here on they are read, and what is read is not read again: it is ours before anything is waited for.
        self._fresh_from = {at: self._fresh_from[at] if at in kept else _NEVER for at in partitions}
        for offsets in (self._taken, self._dealt, self._told):
            for partition in offsets.keys() - kept:
                del offsets[partition]
        reader.seek({(self._topic, partition): at for partition, at in self._taken.items()})
        self.assignments += 1
        self._moving = False
        logger.info("commands of %s: partitions %s are ours", self._topic, sorted(partitions))
        if self._listener is not None:
            await self._listener.moved(kept, lost=lost)
        # What is held back goes on when the group has confirmed that we are a member. Nothing is waited for here: while
        # the group waits for us, the client tells it nothing.
        self._looked_at = 0.0
        self._confirm_soon.notify()
        self._look_soon.notify()
        self.notification.notify()

    def _kept(self, reader: Reader, partitions: Collection[int]) -> tuple[set[int], bool]:
        """Return which partitions were ours all the time, and whether the group had given us up.

        Others may have had them in a generation between the last one that we were given partitions in and this one; who
        was given up has another name.
        """
        if self._alone:
            return set(), False
        (name, generation), self._membership = self._membership, reader.membership
        next_one = self._membership == (name, generation + 1)
        return (self._fresh_from.keys() & partitions if next_one else set()), self._membership[0] != name

    async def _learn_what_is_fresh(self, reader: Reader) -> None:
        """Ask where the partitions end now, as far as it is not known; until then each run is claimed."""
        assignments = self.assignments

        async def learn(at: tuple[str, int]) -> None:
            ends = await reader.ends([at])
            if self.assignments == assignments:
                self._fresh_from[at[1]] = ends[at]

        await _ask_each(learn, [at for at in self.places if self._fresh_from[at[1]] == _NEVER])

    async def _keep_confirmed(self, reader: Reader) -> None:
        """Have the group confirm now and then that we are a member still, whatever else is waited for."""
        while True:
            await self._confirm_soon.wait(_RENEW_S)
            self._due = True
            self.notification.notify()
            asked_at = time.monotonic()
            # The group may be on the move, or we out of it; until it is known nothing is fresh.
            with suppress(LogError):
                if self._fresh_from:
                    await reader.confirm()
                    self._confirm(asked_at)

    async def _keep_told(self, reader: Reader) -> None:
        """Tell the group how far all is dealt with, and look now and then what is fresh and what is only marks."""
        while True:
            await self._look_soon.wait(_COMMIT_S)
            if looks := time.monotonic() - self._looked_at >= _RENEW_S:
                self._looked_at = time.monotonic()
                await self._learn_what_is_fresh(reader)
            # A group that is on the move is told again afterwards.
            with suppress(LogError):
                await self._tell()
                if looks and (beyond := await self._beyond_marks(reader)):
                    await self._commit(beyond)

    async def _tell(self) -> None:
        """Commit what was dealt with since it was told last."""
        news = {partition: at for partition, at in self._dealt.items() if at > self._told.get(partition, 0)}
        if news:
            await self._commit({(self._topic, partition): at for partition, at in news.items()})

    async def _commit(self, offsets: Offsets) -> None:
        """Commit offsets; the group refuses those of a member that it has given up."""
        if self.feed.reader is None:
            return
        assignments = self.assignments
        await self.feed.reader.commit(offsets)
        if self.assignments == assignments:
            self._told.update({partition: at for (_, partition), at in offsets.items()})

    async def _beyond_marks(self, reader: Reader) -> Offsets:
        """Return where partitions with no open command may go on: beyond what marks the ends of transactions.

        Else the lag of the group would never be nothing, and no scaler would take the last worker away.
        """
        assignments = self.assignments
        found: Offsets = {}

        async def ask(at: tuple[str, int]) -> None:
            found[at] = await reader.position(at)

        await _ask_each(ask, self.places)
        if self.assignments != assignments:
            return {}  # What is read again of these may lie before where they were.
        return {
            at: position
            for at, position in found.items()
            if self._taken.get(at[1]) == self._dealt.get(at[1])
            and not self.feed.waiting(at)
            and position > max(self._dealt.get(at[1], 0), self._told.get(at[1], 0))
        }

    def _confirm(self, at: float) -> None:
        self._confirmed_at = at
        self._confirmed.notify()

    @property
    def _is_member(self) -> bool:
        return self._alone or time.monotonic() - self._confirmed_at < _LEASE_S

    async def until_member(self) -> None:
        """Return when the broker has confirmed of late that we are a member.

        A process that was frozen may have been given up without knowing. When it thaws it must not run what
        others have ended; once it knows, the code of what went to them is stopped by its tenant.
        """
        while (self._moving or not self._is_member) and not self._left:
            await self._confirmed.wait()

    def is_fresh(self, record: LogRecord) -> bool:
        """Tell whether no other worker can have begun a command: it came after us, and we are still a member.

        Where that is not known, a claim is right in any case.
        """
        sure = self._is_member and not self._moving
        return sure and record.offset >= self._fresh_from.get(record.partition, record.offset + 1)

    async def poll(self, limit: int) -> list[LogRecord]:
        """Return up to `limit` commands; wait for the first, or now and then for none, so that what ended is noted."""
        while not self._left:
            if not self._moving and (mine := self._take(limit)):
                return mine
            for task in self._keeping:
                if task.done():
                    task.result()  # Without it nobody knows that we are a member, and no body begins any more.
            if self._due:
                self._due = False
                return []
            self.parked = True
            try:
                await self.notification.wait()
            finally:
                self.parked = False
        return []

    def _take(self, limit: int) -> list[LogRecord]:
        """Return what was read and is ours; what comes while the group is on the move is read again afterwards."""
        mine: list[LogRecord] = []
        for record in self.feed.take(limit):
            if record.partition in self._fresh_from and record.offset >= self._taken.get(record.partition, 0):
                self._taken[record.partition] = record.offset + 1
                mine.append(record)
        return mine

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append a report to the inbox; return when it is durable."""
        await self._write(NewRecord(INBOX, shard_of(routing_key, self._shards), routing_key.encode(), value))

    async def dead_letter(self, record: NewRecord) -> None:
        """Keep a command that cannot be read; return when it is durable."""
        await self._write(record)

    async def _write(self, record: NewRecord) -> None:
        if self._producer is None:
            raise LogError("the worker's log is not open")
        await self._producer.send([record])

    async def commit(self, offsets: Offsets) -> None:
        """Note that all commands before these offsets are dealt with; the group hears of it within a moment."""
        self._dealt.update({partition: offset for (_, partition), offset in offsets.items()})

    async def leave(self) -> None:
        """Leave the group, once it has heard how far all is dealt with, if it answers."""
        self._left = True
        if self._keeping:
            for task in self._keeping:
                task.cancel()
            await asyncio.gather(*self._keeping, return_exceptions=True)
            self._keeping = []
            try:
                async with asyncio.timeout(_LEAVE_S_MAX):
                    await self._tell()
            except (LogError, TimeoutError):
                logger.info("the group of %s is left without a last word: others claim the rest", self._topic)
        await self.feed.close()
        self._confirmed.notify()
        logger.info("the group of %s is left", self._topic)

    async def close(self) -> None:
        """Leave the group and let go."""
        await self.leave()
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.close()
