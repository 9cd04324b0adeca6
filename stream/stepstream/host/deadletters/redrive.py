"""Dead letters on their way back: what is sent again for each, and why one cannot be."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from stepstream.contract.limits import MIB
from stepstream.contract.topics import COMMANDS, TOPICS
from stepstream.host.deadletters.store import (
    DeadLetter,
    DeadLetterError,
    dead_letter_at,
    dead_letter_of,
    dead_letter_records,
    survey,
)
from stepstream.host.sources.mapping import events_of
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.producer import Producer
from stepstream.runtime.ports import NewRecord
from stepstream.sdk.errors import error_info
from stepstream.sdk.source import Source

_TOGETHER_MAX = 100
Way = tuple[DeadLetter, list[NewRecord]]


@dataclass(frozen=True, slots=True)
class Ways:
    """What there is to send letters again by: topics with their partitions, and sources by their consumer group."""

    topics: Mapping[str, int]
    sources: Mapping[str, Sequence[Source]] = field(default_factory=dict)

    def back(self, letter: DeadLetter) -> Way:
        """Return a letter with what is to be sent for it; raise DeadLetterError for one that cannot be sent again.

        A record of our own topics goes to the partition where it was. One that sources of a foreign topic failed at is
        nothing to others who read there: it is mapped again by these alone, under its old place, and its events are
        sent.
        """
        letter.check()
        return letter, self._mapped(letter) if letter.group else [self._again(letter)]

    def _again(self, letter: DeadLetter) -> NewRecord:
        if not letter.topic.startswith(f"{COMMANDS}.") and letter.topic not in {each.name for each in TOPICS}:
            raise DeadLetterError(f"letter {letter.place}: its topic {letter.topic!r} is none of ours")
        if letter.partition >= self.topics.get(letter.topic, 0):
            where = f"partition {letter.partition} of topic {letter.topic!r}"
            raise DeadLetterError(f"letter {letter.place}: {where}, where it was, is not there any more")
        if set(letter.nulls) == {"key", "value"}:
            raise DeadLetterError(
                f"letter {letter.place}: its record has neither key nor value; our client cannot write that"
            )
        return letter.again()

    def _mapped(self, letter: DeadLetter) -> list[NewRecord]:
        if letter.group not in self.sources:
            raise DeadLetterError(
                f"letter {letter.place} is of sources of the group {letter.group!r}: "
                "give their app by --code FILE, or the engines' file by --sources FILE, with the same --namespace"
            )
        there = [source for source in self.sources[letter.group] if source.topic == letter.topic]
        if gone := set(letter.sources) - {source.name for source in there}:
            name = min(gone)
            raise DeadLetterError(
                f"letter {letter.place}: there is no source {name!r} of topic {letter.topic!r} any more"
            )
        found: list[NewRecord] = []
        for source in there:
            if source.name in letter.sources:
                try:
                    found += events_of(source, letter.original())
                except Exception as error:
                    why = error_info(error).message
                    raise DeadLetterError(
                        f"letter {letter.place}: source {source.name!r} fails again: {why}"
                    ) from error
        return found


async def dead_letters_at(cluster: Cluster, places: Sequence[str], ways: Ways) -> AsyncIterator[Way]:
    """Yield the dead letters at these places, each once; raise DeadLetterError first if one cannot be sent."""
    chosen = dict.fromkeys(places)
    for place in chosen:
        ways.back(await dead_letter_at(cluster, place))
    for place in chosen:
        yield ways.back(await dead_letter_at(cluster, place))


async def dead_letters_among(
    cluster: Cluster, places: Collection[str], ways: Ways, tell: Callable[[DeadLetterError], None]
) -> AsyncIterator[Way]:
    """Yield the letters of a great many places, one after the other; tell of those that cannot be sent again.

    Those that somebody has sent since the places were looked for are passed over.
    """
    waiting = (await survey(cluster)).waiting
    async for record in dead_letter_records(cluster):
        if (place := f"{record.partition}-{record.offset}") not in places or place not in waiting:
            continue
        try:
            way = ways.back(dead_letter_of(record))
        except DeadLetterError as error:
            tell(error)
        else:
            yield way


async def redrive(cluster: Cluster, ways: AsyncIterable[Way], tell: Callable[[DeadLetter], None]) -> None:
    """Send what is to be sent for letters, some in a transaction, with the marks that they were sent; tell of each.

    Whoever begins after us ends our transaction: no letter is sent by both.
    """
    async with _producer(cluster) as producer:
        some: list[Way] = []
        async for way in ways:
            some.append(way)
            if len(some) >= _TOGETHER_MAX or sum(len(each.value) for _, records in some for each in records) > MIB:
                await _send(producer, some, tell)
                some = []
        if some:
            await _send(producer, some, tell)


async def _send(producer: Producer, ways: Sequence[Way], tell: Callable[[DeadLetter], None]) -> None:
    await producer.begin()
    await producer.send([record for letter, records in ways for record in (*records, letter.mark())])
    await producer.commit()
    for letter, _ in ways:
        tell(letter)


@asynccontextmanager
async def _producer(cluster: Cluster) -> AsyncIterator[Producer]:
    producer = await cluster.producer("redrive")
    try:
        yield producer
    finally:
        await producer.close()
