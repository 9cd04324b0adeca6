"""A Kafka cluster in memory: partitions, one consumer group whose rebalances the test makes, and its clients."""

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter

from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.kafka.client.cluster import CLIENT, Cluster
from stepstream.runtime.kafka.client.producer import Producer
from stepstream.runtime.kafka.client.reader import Membership, Reader
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import LogRecord, NewRecord, Offsets
from tests.fakes.calls import Calls
from tests.fakes.waiting import until

Place = tuple[str, int]


class FakeCluster(Cluster):
    """A cluster without a broker.

    `calls` has producer, reader, read, ends, position, committed, commit, confirm, send and members. The detail of ends
    and position is a (topic, partition), as of one that has no leader.
    """

    def __init__(self) -> None:
        super().__init__(KafkaSettings("localhost:9"))
        self.calls = Calls()
        self.records = defaultdict[Place, list[LogRecord]](list)
        # What a broker answers instead of the offset after the last record.
        self.end_offsets: Offsets = {}
        self.committed_offsets: Offsets = {}
        # Every commit of the group, in order.
        self.commits: list[Offsets] = []
        self.readers: list[FakeReader] = []
        self.producers: list[FakeProducer] = []
        # The member's name and the generation of the group, and what it does when partitions are assigned or revoked.
        self.member, self.generation = "member-1", 0
        self.membership: Membership | None = None
        self.rebalancing = 0
        # How often the member has asked for a rebalance.
        self.joined_again = 0
        # The number of partitions and the id of each topic that differs from the others.
        self.extents_of: dict[str, Extent] = {}
        # How many records a read returns at most, whatever its limit.
        self.records_per_read = 1_000
        # The client ids of all members of the group.
        self.clients: list[str] = []

    def add(self, records: Iterable[LogRecord]) -> None:
        """Add records with the offsets that they have."""
        for record in records:
            self.records[record.topic, record.partition].append(record)

    def end(self, at: Place) -> int:
        """Return the offset after the last record of a partition."""
        records = self.records[at]
        return self.end_offsets.get(at, records[-1].offset + 1 if records else 0)

    def values(self, topic: str) -> list[bytes]:
        """Return the values of all records of a topic."""
        return [record.value for at, records in self.records.items() if at[0] == topic for record in records]

    async def assign(self, *partitions: int, member: str = "", generations: int = 1) -> None:
        """End a rebalance: assign partitions to the member, by default in the next generation."""
        membership = await self._joined()
        self.member = member or self.member
        self.generation += generations
        self.rebalancing += 1
        try:
            self._member_reader.start_at_committed(partitions)
            await membership.assigned(list(partitions))
        finally:
            self.rebalancing -= 1

    async def revoke(self, *partitions: int) -> None:
        """Begin a rebalance: revoke partitions of the member."""
        await (await self._joined()).revoked(list(partitions))

    async def _joined(self) -> Membership:
        await until(lambda: self.membership)
        assert self.membership
        return self.membership

    @property
    def _member_reader(self) -> "FakeReader":
        return next(reader for reader in reversed(self.readers) if reader.group_topic)

    async def extents(self, topics: Sequence[str] | None = None) -> dict[str, Extent]:
        """Return the extents of these topics; each exists unless its extent has no partitions."""
        found = {topic: self.extents_of.get(topic, Extent(1, 1)) for topic in topics or self.extents_of}
        return {topic: extent for topic, extent in found.items() if extent.partitions}

    async def members(self, *groups: str) -> list[str]:
        """Return the client ids of the members: this cluster has one group."""
        await self.calls.made("members")
        return self.clients

    async def producer(self, transactional_id: str = "") -> "FakeProducer":
        """Return a new producer."""
        await self.calls.made("producer")
        self.producers.append(FakeProducer(self, transactional_id))
        return self.producers[-1]

    async def reader(
        self, *, group: str = "", instance: str = "", committed: bool = True, known: bool = False, client: str = CLIENT
    ) -> "FakeReader":
        """Return a new consumer."""
        await self.calls.made("reader")
        self.readers.append(FakeReader(self, known=known))
        return self.readers[-1]


class FakeReader(Reader):
    """A consumer of the fake cluster; a read returns no records when there are none."""

    def __init__(self, cluster: FakeCluster, *, known: bool = False) -> None:
        self._cluster = cluster
        self.known = known
        self.places: list[Place] = []
        self.paused: set[Place] = set()
        self.positions: Offsets = {}
        self.seeks: list[Offsets] = []
        self.group_topic = ""
        self.closed = False

    def assign(self, places: Sequence[Place]) -> None:
        """Read these."""
        self.places = list(places)

    def join(self, topic: str, membership: Membership) -> None:
        """Join the group."""
        self.group_topic = topic
        self._cluster.membership = membership

    def start_at_committed(self, partitions: Sequence[int]) -> None:
        """Read partitions of the group's topic from the committed offsets, as after a rebalance."""
        self.places = [(self.group_topic, partition) for partition in partitions]
        self.positions = {at: self._cluster.committed_offsets.get(at, 0) for at in self.places}
        self.paused.clear()

    @property
    def membership(self) -> tuple[str, int]:
        """The member's name and the generation of its group."""
        return self._cluster.member, self._cluster.generation

    def join_again(self) -> None:
        """Ask for a rebalance."""
        self._cluster.joined_again += 1

    async def confirm(self) -> None:
        """Confirm the membership."""
        await self._cluster.calls.made("confirm")

    def seek(self, positions: Offsets) -> None:
        """Continue from these offsets."""
        self.seeks.append(positions)
        self.positions |= positions

    def pause(self) -> None:
        """Read nothing of what is assigned now."""
        self.paused |= set(self.places)

    async def committed(self, places: Sequence[Place]) -> Offsets:
        """Return the committed offsets of the group, for the partitions that have one."""
        await self._cluster.calls.made("committed")
        return {at: offset for at, offset in self._cluster.committed_offsets.items() if at in places}

    async def commit(self, offsets: Offsets) -> None:
        """Commit offsets of the group."""
        await self._cluster.calls.made("commit")
        self._cluster.commits.append(offsets)
        self._cluster.committed_offsets |= offsets

    async def ends(self, places: Sequence[Place]) -> Offsets:
        """Return the offset after the last record of each partition."""
        for at in places:
            await self._cluster.calls.made("ends", at)
        return {at: self._cluster.end(at) for at in places}

    async def beginnings(self, places: Sequence[Place]) -> Offsets:
        """Return the offset of the first record of each partition."""
        return {at: next((record.offset for record in self._cluster.records[at]), 0) for at in places}

    async def position(self, at: Place) -> int:
        """Return the offset from which the next read continues."""
        await self._cluster.calls.made("position", at)
        return self.positions.get(at, 0)

    async def read(self, limit: int, wait_ms: int) -> list[LogRecord]:
        """Return up to `limit` records."""
        await self._cluster.calls.made("read")
        await asyncio.sleep(0)
        found: list[LogRecord] = []
        for at in self.places:
            position = self.positions.get(at, 0)
            if at not in self.paused:
                records = self._cluster.records[at]
                first = bisect_left(records, position, key=attrgetter("offset"))
                room = max(min(limit, self._cluster.records_per_read) - len(found), 0)
                found += records[first : first + room]
        self.positions |= {(record.topic, record.partition): record.offset + 1 for record in found}
        return found

    async def close(self) -> None:
        """Leave the group once the rebalance in progress has ended, as aiokafka does."""
        await until(lambda: not self._cluster.rebalancing)
        self.closed = True


class FakeProducer(Producer):
    """A producer of the fake cluster; what has no partition goes to partition 0."""

    def __init__(self, cluster: FakeCluster, transactional_id: str) -> None:
        self._cluster = cluster
        self.transactional_id = transactional_id
        self.closed = False

    async def partition_count(self, topic: str) -> int:
        """Return how many partitions of a topic have records, at least 1."""
        return max((at[1] + 1 for at in self._cluster.records if at[0] == topic), default=1)

    async def send(self, records: Sequence[NewRecord], timestamp: int | None = None) -> list[tuple[int, int]]:
        """Append records."""
        await self._cluster.calls.made("send")
        written: list[tuple[int, int]] = []
        for record in records:
            at = (record.topic, max(record.partition, 0))
            new = LogRecord(*at, self._cluster.end(at), record.key, record.value, record.headers, timestamp or 0)
            self._cluster.add([new])
            written.append((new.partition, new.offset))
        return written

    async def begin(self) -> None:
        """Open a transaction."""

    async def commit(self) -> None:
        """Commit the transaction."""

    async def close(self) -> None:
        """Disconnect."""
        self.closed = True
