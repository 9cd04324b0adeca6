"""Reads the topic `dead-letters`: all of it, one dead letter, or a survey."""

import heapq
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from stepstream.contract.topics import DEAD_LETTERS
from stepstream.host.deadletters.dead_letter import DeadLetter, DeadLetterError, dead_letter_of, marked_place
from stepstream.runtime.kafka.client.cluster import Cluster, reading
from stepstream.runtime.ports import LogRecord

_READ_MS = 1_000
_RECORDS_PER_READ = 1_000


@dataclass(slots=True)
class Survey:
    """Summaries of the `latest` dead letters, the oldest first, and how many there are in `total`.

    `waiting` has the places of those that were not redriven, in the order in which they were written.
    """

    latest: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    waiting: dict[str, None] = field(default_factory=dict)


async def survey(cluster: Cluster, topic: str = "", limit: int = 0) -> Survey:
    """Read all dead letters, or those whose records came from `topic`, without holding their content."""
    found = Survey()
    latest: list[tuple[int, int, int, dict[str, Any]]] = []
    async for record in dead_letter_records(cluster):
        if (place := marked_place(record)) is not None:
            found.waiting.pop(place, None)
            continue
        dead_letter = dead_letter_of(record)
        if topic and dead_letter.topic != topic:
            continue
        found.total += 1
        found.waiting[dead_letter.place] = None
        heapq.heappush(latest, (record.timestamp, record.partition, record.offset, dead_letter.summary()))
        if len(latest) > limit:
            heapq.heappop(latest)
    found.latest = [summary | {"sent": summary["place"] not in found.waiting} for *_, summary in sorted(latest)]
    return found


async def dead_letter_at(cluster: Cluster, place: str) -> DeadLetter:
    """Return the dead letter at a place; raise DeadLetterError if none is there."""
    missing = DeadLetterError(f"there is no dead letter {place!r}; `stepstream dead-letters list` shows the places")
    if not re.fullmatch(r"\d{1,9}-\d{1,18}", place):
        raise missing
    partition, offset = map(int, place.split("-"))
    if partition >= (await cluster.topics([DEAD_LETTERS])).get(DEAD_LETTERS, 0):
        raise missing
    async for record in dead_letter_records(cluster, {(DEAD_LETTERS, partition): offset}):
        if (record.partition, record.offset) != (partition, offset) or marked_place(record) is not None:
            break
        return dead_letter_of(record)
    raise missing


async def dead_letter_records(
    cluster: Cluster, since: dict[tuple[str, int], int] | None = None, last: int = 0
) -> AsyncIterator[LogRecord]:
    """Yield what `dead-letters` holds now, from its start or from some offsets; raise DeadLetterError without it.

    With `last`, at most so many offsets of each partition are read, the latest ones.
    """
    count = (await cluster.topics([DEAD_LETTERS])).get(DEAD_LETTERS, 0)
    if not count:
        topic = cluster.settings.name(DEAD_LETTERS)
        raise DeadLetterError(f"there is no topic {topic!r}; check --kafka and --namespace")
    places = list(since or [(DEAD_LETTERS, partition) for partition in range(count)])
    async with reading(cluster) as reader:
        reader.assign(places)
        beginnings, ends = await reader.beginnings(places), await reader.ends(places)
        if last:
            beginnings = {at: max(beginnings[at], ends[at] - last) for at in places}
        reader.seek({at: max(beginnings[at], min((since or beginnings)[at], ends[at])) for at in places})
        while any([await reader.position(at) < ends[at] for at in places]):
            for record in await reader.read(_RECORDS_PER_READ, _READ_MS):
                if record.offset < ends[record.topic, record.partition]:
                    yield record
