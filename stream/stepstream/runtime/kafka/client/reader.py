"""The consumer: of chosen partitions, or of those that a consumer group assigns."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiokafka
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener

from stepstream.contract.limits import MIB
from stepstream.runtime.kafka.client.answers import records_in
from stepstream.runtime.kafka.client.assignors import Placing, new_assignor
from stepstream.runtime.kafka.client.errors import stop, translate_kafka_errors
from stepstream.runtime.kafka.client.patches import (
    connections_of,
    create_no_topics,
    heartbeat,
    join_again,
    membership_of,
)
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import LogError, LogRecord, Offsets, TopicPartition

CONFIRM_S_MAX = 5.0
_FETCH_WAIT_MS = 500
_POLL_INTERVAL_MS_MAX = 2**31 - 1
# How soon a group notices that its topic was deleted, created again or given more partitions; by default 5 minutes.
_METADATA_MS = 5_000
# A partition without a leader is asked again later, so that it does not delay the answers for others.
_ANSWER_S_MAX = 2.0


@dataclass(frozen=True, slots=True)
class Membership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka's classes have no types.
    """The callbacks of a group member for assigned and revoked partitions; the rebalance waits for both.

    With `placing` the members decide which partitions each gets; else as few as possible move. Partitions from number
    `partitions_max` on are given to no member.
    """

    assigned: Callable[[list[int]], Awaitable[None]]
    revoked: Callable[[list[int]], Awaitable[None]]
    placing: Placing | None = None
    partitions_max: int = sys.maxsize

    async def on_partitions_revoked(self, revoked: Collection[aiokafka.TopicPartition]) -> None:
        """Pass on the revoked partitions, sorted."""
        await self.revoked(sorted(tp.partition for tp in revoked))

    async def on_partitions_assigned(self, assigned: Collection[aiokafka.TopicPartition]) -> None:
        """Pass on the assigned partitions, sorted."""
        await self.assigned(sorted(tp.partition for tp in assigned))


class Reader:
    """A consumer of chosen partitions (`assign`), or of those that its group assigns (`join`)."""

    def __init__(
        self, settings: KafkaSettings, options: dict[str, Any], group: str, instance: str, committed: bool, known: bool
    ) -> None:
        self._settings = settings
        self._assignor = new_assignor()
        session_ms = round(settings.session_s * 1_000)
        self._client = AIOKafkaConsumer(
            **options,
            group_id=settings.name(group) if group else None,
            group_instance_id=instance or None,
            enable_auto_commit=False,
            auto_offset_reset="none" if known else "earliest",
            isolation_level="read_committed" if committed else "read_uncommitted",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=4 * MIB,
            # Only heartbeats decide about liveness: a worker that is full does not poll and is alive.
            max_poll_interval_ms=_POLL_INTERVAL_MS_MAX,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=3 * session_ms,
            heartbeat_interval_ms=session_ms // 5,
            partition_assignment_strategy=(self._assignor,),
            **({"metadata_max_age_ms": _METADATA_MS} if group else {}),
        )
        create_no_topics(self._client)

    async def start(self) -> None:
        """Connect."""
        with translate_kafka_errors("starting a consumer"):
            await self._client.start()

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these partitions."""
        self._client.assign([self._named(at) for at in partitions])

    def join(self, topic: str, membership: Membership) -> None:
        """Join the group, and read the partitions of a topic that it assigns."""
        if membership.placing is not None:
            self._assignor.decide_by(membership.placing)
        self._assignor.partitions_max = membership.partitions_max
        self._client.subscribe([self._settings.name(topic)], listener=membership)

    def join_again(self) -> None:
        """Start a rebalance, since this member claims more than at the last one."""
        join_again(self._client)

    def _named(self, at: TopicPartition) -> aiokafka.TopicPartition:
        return aiokafka.TopicPartition(self._settings.name(at[0]), at[1])

    @property
    def membership(self) -> tuple[str, int]:
        """The member id and the generation of the group; each rebalance starts a generation."""
        return membership_of(self._client)

    async def confirm(self) -> None:
        """Confirm with the group that this consumer is a member; raise LogError if it is not, or no broker answers."""
        with translate_kafka_errors("confirming the group membership"):
            async with asyncio.timeout(CONFIRM_S_MAX):
                if not await heartbeat(self._client):
                    raise LogError("the group did not confirm the membership")

    def seek(self, positions: Offsets) -> None:
        """Read from these offsets."""
        for at, offset in positions.items():
            self._client.seek(self._named(at), offset)

    def pause(self) -> None:
        """Stop reading the partitions that are assigned now."""
        self._client.pause(*self._client.assignment())

    async def committed(self, partitions: Sequence[TopicPartition]) -> Offsets:
        """Return the committed offsets of the group, for the partitions that have one."""
        with translate_kafka_errors("reading committed offsets"):
            found = {at: await self._client.committed(self._named(at)) for at in partitions}
        return {at: offset for at, offset in found.items() if offset is not None}

    async def commit(self, offsets: Offsets) -> None:
        """Commit offsets of partitions that are still assigned; the broker refuses a member whose session expired."""
        assigned = self._client.assignment()
        named = {self._named(at): offset for at, offset in offsets.items()}
        if kept := {at: offset for at, offset in named.items() if at in assigned}:
            with translate_kafka_errors("committing offsets"):
                await self._client.commit(kept)

    async def ends(self, partitions: Sequence[TopicPartition]) -> Offsets:
        """Return the offset after the last committed record of each partition."""
        with translate_kafka_errors("reading end offsets"):
            found = await self._client.end_offsets([self._named(at) for at in partitions])
        return {at: found[self._named(at)] for at in partitions}

    async def beginnings(self, partitions: Sequence[TopicPartition]) -> Offsets:
        """Return the offset of the first retained record of each partition."""
        with translate_kafka_errors("reading beginning offsets"):
            found = await self._client.beginning_offsets([self._named(at) for at in partitions])
        return {at: found[self._named(at)] for at in partitions}

    async def offset_since(self, at: TopicPartition, since_ms: int) -> int | None:
        """Return the offset of the first record of a partition that is not older than a time (Unix ms); None: none."""
        with translate_kafka_errors("reading the offset of a time"):
            found = (await self._client.offsets_for_times({self._named(at): since_ms}))[self._named(at)]
        return None if found is None else int(found.offset)

    async def position(self, at: TopicPartition) -> int:
        """Return the offset from which the next read continues, which is after any transaction markers."""
        with translate_kafka_errors("reading a position"):
            offset: int = await self._client.position(self._named(at))
        return offset

    async def read(self, limit: int, wait_ms: int) -> list[LogRecord]:
        """Return up to `limit` records, wait at most `wait_ms` for the first."""
        with translate_kafka_errors("reading"):
            found = await self._client.getmany(timeout_ms=wait_ms, max_records=limit)
        return records_in(found, self._settings)

    async def close(self) -> None:
        """Disconnect, and leave the group."""
        await stop(self._client, connections_of(self._client))


async def ask_each(ask: Callable[[TopicPartition], Awaitable[None]], partitions: Collection[TopicPartition]) -> None:
    """Ask for all partitions at once, and continue without those for which no answer comes in time."""

    async def ask_one(at: TopicPartition) -> None:
        with suppress(LogError, TimeoutError):
            async with asyncio.timeout(_ANSWER_S_MAX):
                await ask(at)

    await asyncio.gather(*map(ask_one, partitions))
