"""Redrives dead letters: plans what to send for each, and sends it in transactions."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from stepstream.contract.limits import MIB
from stepstream.contract.topics import COMMANDS, TOPICS
from stepstream.host.deadletters.dead_letter import DeadLetter, DeadLetterError, dead_letter_of
from stepstream.host.deadletters.topic import dead_letter_at, dead_letter_records, survey
from stepstream.host.sources.mapping import events_of
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.producer import Producer
from stepstream.runtime.ports import NewRecord
from stepstream.sdk.errors import error_info
from stepstream.sdk.source import Source

_DEAD_LETTERS_PER_TRANSACTION = 100


class Redrive(NamedTuple):
    """A dead letter and the records that are sent for it."""

    dead_letter: DeadLetter
    records: list[NewRecord]


@dataclass(frozen=True, slots=True)
class RedrivePlanner:
    """Knows where records can go: our topics with their partitions, and sources by their consumer group."""

    topics: Mapping[str, int]
    sources: Mapping[str, Sequence[Source]] = field(default_factory=dict)

    def plan(self, dead_letter: DeadLetter) -> Redrive:
        """Return what to send for a dead letter; raise DeadLetterError if it cannot be redriven.

        A record of our own topics returns to its partition. A record of a source topic is not written there
        again, because other programs read that topic. The sources that failed map it again, with its old position, and
        their events are sent.
        """
        dead_letter.check()
        records = self._mapped(dead_letter) if dead_letter.group else [self._returned(dead_letter)]
        return Redrive(dead_letter, records)

    def _returned(self, dead_letter: DeadLetter) -> NewRecord:
        name, topic = f"dead letter {dead_letter.place}", dead_letter.topic
        if not topic.startswith(f"{COMMANDS}.") and topic not in {each.name for each in TOPICS}:
            raise DeadLetterError(f"{name}: its topic {topic!r} is not one of stepstream's")
        if dead_letter.partition >= self.topics.get(topic, 0):
            raise DeadLetterError(f"{name}: partition {dead_letter.partition} of topic {topic!r} no longer exists")
        if set(dead_letter.nulls) == {"key", "value"}:
            raise DeadLetterError(f"{name}: its record has neither key nor value, which the Kafka client cannot write")
        return dead_letter.redriven_record()

    def _mapped(self, dead_letter: DeadLetter) -> list[NewRecord]:
        name, topic = f"dead letter {dead_letter.place}", dead_letter.topic
        if dead_letter.group not in self.sources:
            raise DeadLetterError(
                f"{name} belongs to sources of the group {dead_letter.group!r}: "
                "pass their app as --code FILE, or the engines' file as --sources FILE, and the same --namespace"
            )
        known = [source for source in self.sources[dead_letter.group] if source.topic == topic]
        if gone := set(dead_letter.sources) - {source.name for source in known}:
            raise DeadLetterError(f"{name}: topic {topic!r} no longer has a source {min(gone)!r}")
        found: list[NewRecord] = []
        for source in known:
            if source.name in dead_letter.sources:
                try:
                    found += events_of(source, dead_letter.original())
                except Exception as error:
                    why = error_info(error).message
                    raise DeadLetterError(f"{name}: source {source.name!r} fails again: {why}") from error
        return found


async def plan_some(cluster: Cluster, places: Sequence[str], planner: RedrivePlanner) -> AsyncIterator[Redrive]:
    """Yield the dead letters at these places, each once; raise DeadLetterError first if one cannot be redriven."""
    chosen = dict.fromkeys(places)
    for place in chosen:
        planner.plan(await dead_letter_at(cluster, place))
    for place in chosen:
        yield planner.plan(await dead_letter_at(cluster, place))


async def plan_many(
    cluster: Cluster, places: Collection[str], planner: RedrivePlanner, refuse: Callable[[DeadLetterError], None]
) -> AsyncIterator[Redrive]:
    """Yield the dead letters at any number of places, in one pass; `refuse` gets those that cannot be redriven.

    Those that another process has redriven since the places were listed are skipped.
    """
    waiting = (await survey(cluster)).waiting
    async for record in dead_letter_records(cluster):
        if (place := f"{record.partition}-{record.offset}") not in places or place not in waiting:
            continue
        try:
            planned = planner.plan(dead_letter_of(record))
        except DeadLetterError as error:
            refuse(error)
        else:
            yield planned


async def redrive(
    cluster: Cluster, planned: AsyncIterable[Redrive], sent: Callable[[DeadLetter], None], by: str = ""
) -> None:
    """Send the planned records and the marks that they were redriven in transactions; `sent` gets each dead letter.

    The marks name the user `by`.

    A process that redrives later fences this one by the transactional id, so that no dead letter is redriven by both.
    """
    async with _producer(cluster) as producer:
        batch: list[Redrive] = []
        async for each in planned:
            batch.append(each)
            size = sum(len(record.value) for _, records in batch for record in records)
            if len(batch) >= _DEAD_LETTERS_PER_TRANSACTION or size > MIB:
                await _send(producer, batch, sent, by)
                batch = []
        if batch:
            await _send(producer, batch, sent, by)


async def _send(producer: Producer, batch: Sequence[Redrive], sent: Callable[[DeadLetter], None], by: str) -> None:
    await producer.begin()
    await producer.send([record for each in batch for record in (*each.records, each.dead_letter.mark(by))])
    await producer.commit()
    for each in batch:
        sent(each.dead_letter)


@asynccontextmanager
async def _producer(cluster: Cluster) -> AsyncIterator[Producer]:
    producer = await cluster.producer("redrive")
    try:
        yield producer
    finally:
        await producer.close()
