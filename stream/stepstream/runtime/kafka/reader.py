"""What reads from Kafka: chosen partitions, or those that a consumer group gives."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from stepstream.contract.limits import MIB
from stepstream.runtime.kafka.answers import records_in
from stepstream.runtime.kafka.errors import stop, translate_kafka_errors
from stepstream.runtime.kafka.patches import connections_of, heartbeat, membership_of
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.runtime.ports import LogError, LogRecord, Offsets

CONFIRM_S_MAX = 5.0
SESSION_MS = 10_000
_FETCH_WAIT_MS = 500
_POLL_INTERVAL_MS_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Membership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka's classes have no types.
    """What a member of a consumer group does when partitions come and go; both end before the group goes on."""

    assigned: Callable[[list[int]], Awaitable[None]]
    revoked: Callable[[list[int]], Awaitable[None]]

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Hand on what goes, in order."""
        await self.revoked(sorted(tp.partition for tp in revoked))

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Hand on what comes, in order."""
        await self.assigned(sorted(tp.partition for tp in assigned))


class Reader:
    """A consumer: of chosen partitions, or, with a membership, of those that its group gives it."""

    def __init__(
        self, settings: KafkaSettings, options: dict[str, Any], group: str, instance: str, committed: bool, known: bool
    ) -> None:
        self._settings = settings
        self._client = AIOKafkaConsumer(
            **options,
            group_id=settings.name(group) if group else None,
            group_instance_id=instance or None,
            enable_auto_commit=False,
            auto_offset_reset="none" if known else "earliest",
            isolation_level="read_committed" if committed else "read_uncommitted",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=4 * MIB,
            # Liveness is told by heartbeats; a worker that is full does not poll, and is alive.
            max_poll_interval_ms=_POLL_INTERVAL_MS_MAX,
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=3 * SESSION_MS,
            heartbeat_interval_ms=SESSION_MS // 5,
            partition_assignment_strategy=(StickyPartitionAssignor,),
        )

    async def start(self) -> None:
        """Connect."""
        with translate_kafka_errors("starting a consumer"):
            await self._client.start()

    def assign(self, places: Sequence[tuple[str, int]]) -> None:
        """Read these (topic, partition)."""
        self._client.assign([self._place(at) for at in places])

    def join(self, topic: str, membership: Membership) -> None:
        """Read the partitions of a topic that the group gives."""
        self._client.subscribe([self._settings.name(topic)], listener=membership)

    def _place(self, at: tuple[str, int]) -> TopicPartition:
        return TopicPartition(self._settings.name(at[0]), at[1])

    @property
    def membership(self) -> tuple[str, int]:
        """By which name, and in which of its generations, the group knows us; each time it moves is one."""
        return membership_of(self._client)

    async def confirm(self) -> None:
        """Have the group say that we are a member still; LogError when it does not."""
        with translate_kafka_errors("asking whether we are in the group"):
            async with asyncio.timeout(CONFIRM_S_MAX):
                if not await heartbeat(self._client):
                    raise LogError("the group does not say that we are a member of it")

    def seek(self, positions: Offsets) -> None:
        """Go on from these offsets."""
        for at, offset in positions.items():
            self._client.seek(self._place(at), offset)

    def pause(self) -> None:
        """Read nothing of what is assigned now."""
        self._client.pause(*self._client.assignment())

    async def committed(self, places: Sequence[tuple[str, int]]) -> Offsets:
        """Return the committed offsets of the group, 0 where there is none."""
        with translate_kafka_errors("reading committed offsets"):
            return {at: await self._client.committed(self._place(at)) or 0 for at in places}

    async def commit(self, offsets: Offsets) -> None:
        """Commit offsets of partitions that are still ours; the broker refuses a member that it has given up."""
        mine = self._client.assignment()
        places = {self._place(at): offset for at, offset in offsets.items() if self._place(at) in mine}
        if places:
            with translate_kafka_errors("committing positions"):
                await self._client.commit(places)

    async def ends(self, places: Sequence[tuple[str, int]]) -> Offsets:
        """Return the offset after the last committed record of each."""
        with translate_kafka_errors("asking for ends"):
            found = await self._client.end_offsets([self._place(at) for at in places])
        return {at: found[self._place(at)] for at in places}

    async def beginnings(self, places: Sequence[tuple[str, int]]) -> Offsets:
        """Return the offset of the first record that is still there."""
        with translate_kafka_errors("asking for beginnings"):
            found = await self._client.beginning_offsets([self._place(at) for at in places])
        return {at: found[self._place(at)] for at in places}

    async def position(self, at: tuple[str, int]) -> int:
        """Return the offset from which the next read goes on; it is beyond what marks the ends of transactions."""
        with translate_kafka_errors("asking for a position"):
            offset: int = await self._client.position(self._place(at))
        return offset

    async def read(self, limit: int, wait_ms: int) -> list[LogRecord]:
        """Return up to `limit` records, waiting for the first no longer than `wait_ms`."""
        with translate_kafka_errors("reading"):
            found = await self._client.getmany(timeout_ms=wait_ms, max_records=limit)
        return records_in(found, self._settings)

    async def close(self) -> None:
        """Disconnect, and leave the group."""
        await stop(self._client, connections_of(self._client))
