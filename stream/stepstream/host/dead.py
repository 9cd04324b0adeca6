"""The dead letters of a cluster: read, shown, and sent again to where they came from."""

import base64
import heapq
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from stepstream.contract.errors import StepstreamError
from stepstream.contract.topics import COMMANDS, DEAD_LETTERS, TOPICS
from stepstream.runtime.kafka import Cluster, Producer, Reader
from stepstream.runtime.letters import (
    CUT_HEADER,
    FOREIGN_HEADER,
    FROM_HEADER,
    OWN_HEADERS,
    REASON_HEADER,
    SENT_HEADER,
)
from stepstream.runtime.ports import LogRecord, NewRecord

REDRIVEN_HEADER = "stepstream-redriven"
_READ_MS = 1_000
_RECORDS_PER_READ = 1_000
_DIGITS_MAX = 16


class LetterError(StepstreamError):
    """A dead letter is not there, or cannot be sent again."""

    code = "dead-letter"


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter; `place` names it, `topic`, `partition` and `offset` say where its record was."""

    record: LogRecord
    topic: str
    partition: int
    offset: int
    reason: str
    foreign: bool
    cut_from: int
    redriven: int

    @property
    def place(self) -> str:
        """Its own place in `dead-letters`: partition-offset."""
        return f"{self.record.partition}-{self.record.offset}"

    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]:
        """The headers that the record had."""
        return tuple(
            (name, value) for name, value in self.record.headers if name not in (*OWN_HEADERS, REDRIVEN_HEADER)
        )

    def summary(self) -> dict[str, Any]:
        """Return what a list shows of it."""
        at = datetime.fromtimestamp(self.record.timestamp / 1_000, UTC)
        return {
            "place": self.place,
            "at": at.isoformat(timespec="milliseconds"),
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "reason": self.reason,
            "bytes": self.cut_from or len(self.record.value),
            "redriven": self.redriven,
            "sent": False,
        }

    def check(self) -> None:
        """Raise LetterError for one of which only a part was kept, or whose origin is not told."""
        if self.cut_from:
            raise LetterError(f"letter {self.place}: of its {self.cut_from:,} bytes only a part was kept")
        if self.partition < 0:
            raise LetterError(f"letter {self.place} does not say where it came from")

    def again(self) -> NewRecord:
        """Return its record as it was, to where it was; a header counts how often it is sent again."""
        count = (REDRIVEN_HEADER, str(self.redriven + 1).encode())
        return NewRecord(self.topic, self.partition, self.record.key, self.record.value, (*self.headers, count))

    def mark(self) -> NewRecord:
        """Return what says that it was sent again."""
        header = (SENT_HEADER, self.place.encode())
        return NewRecord(DEAD_LETTERS, self.record.partition, b"", b"", (header,))

    def whole(self) -> dict[str, Any]:
        """Return all of it; bytes that are no text are base64."""
        headers: dict[str, list[Any]] = {}
        for name, value in self.headers:
            headers.setdefault(name, []).append(_text(value))
        told = {name: values[0] if len(values) == 1 else values for name, values in headers.items()}
        content = {"key": _text(self.record.key), "value": _text(self.record.value), "headers": told}
        return self.summary() | content | {"cut": bool(self.cut_from)}


def _text(raw: bytes) -> str | dict[str, str]:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def letter_of(record: LogRecord) -> Letter:
    """Return what a record of `dead-letters` says."""
    headers = dict(record.headers)
    origin = re.fullmatch(r"(.+)-(\d{1,9})-(\d{1,18})", headers.get(FROM_HEADER, b"").decode(errors="replace"))
    return Letter(
        record,
        origin[1] if origin else "?",
        int(origin[2]) if origin else -1,
        int(origin[3]) if origin else -1,
        headers.get(REASON_HEADER, b"").decode(errors="replace"),
        FOREIGN_HEADER in headers,
        _count(headers.get(CUT_HEADER)),
        _count(headers.get(REDRIVEN_HEADER)),
    )


def _count(value: bytes | None) -> int:
    """Return the number in a header, 0 for what is none: a record may come with any."""
    return int(value) if value and value.isdigit() and len(value) < _DIGITS_MAX else 0


@dataclass(slots=True)
class Survey:
    """What a look through the letters found: summaries of the `latest`, the oldest first, of so many in `total`.

    `waiting` are the places of those that were not sent again, in the order in which they were kept.
    """

    latest: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    waiting: dict[str, None] = field(default_factory=dict)


async def survey(cluster: Cluster, topic: str = "", limit: int = 0) -> Survey:
    """Look through all letters that are kept, or with `topic` those whose records were there; none is held."""
    found = Survey()
    latest: list[tuple[int, int, int, dict[str, Any]]] = []
    async for record in _records(cluster):
        if (place := _marked(record)) is not None:
            found.waiting.pop(place, None)
            continue
        letter = letter_of(record)
        if topic and letter.topic != topic:
            continue
        found.total += 1
        found.waiting[letter.place] = None
        heapq.heappush(latest, (record.timestamp, record.partition, record.offset, letter.summary()))
        if len(latest) > limit:
            heapq.heappop(latest)
    found.latest = [summary | {"sent": summary["place"] not in found.waiting} for *_, summary in sorted(latest)]
    return found


async def letter_at(cluster: Cluster, place: str) -> Letter:
    """Return the letter of a place; raise LetterError when there is none."""
    none = LetterError(f"there is no dead letter {place!r}; `stepstream dead-letters list` shows the places")
    if not re.fullmatch(r"\d{1,9}-\d{1,18}", place):
        raise none
    partition, offset = map(int, place.split("-"))
    if partition >= (await cluster.topics()).get(DEAD_LETTERS, 0):
        raise none
    async for record in _records(cluster, {(DEAD_LETTERS, partition): offset}):
        if (record.partition, record.offset) != (partition, offset) or _marked(record) is not None:
            break
        return letter_of(record)
    raise none


async def letters_at(cluster: Cluster, places: Sequence[str]) -> AsyncIterator[Letter]:
    """Yield the letters of some places; raise LetterError, before any is yielded, for one that cannot be sent again."""
    for place in places:
        (await letter_at(cluster, place)).check()
    for place in places:
        yield await letter_at(cluster, place)


async def letters_among(
    cluster: Cluster, places: Collection[str], tell: Callable[[LetterError], None]
) -> AsyncIterator[Letter]:
    """Yield the letters of a great many places, one after the other; tell of those that cannot be sent again."""
    async for record in _records(cluster):
        if f"{record.partition}-{record.offset}" not in places:
            continue
        letter = letter_of(record)
        try:
            letter.check()
        except LetterError as error:
            tell(error)
        else:
            yield letter


async def redrive(cluster: Cluster, letters: AsyncIterable[Letter], tell: Callable[[Letter], None]) -> None:
    """Send records again, byte for byte, to the partitions where they were, mark each as sent, and tell of it."""
    async with _producer(cluster) as own, _producer(cluster, foreign=True) as foreign:
        async for letter in letters:
            await (foreign if letter.foreign or not _is_own(letter.topic) else own).send([letter.again()])
            await own.send([letter.mark()])
            tell(letter)


def _marked(record: LogRecord) -> str | None:
    """Return the place of the letter that a mark says was sent again; None for a letter."""
    place = dict(record.headers).get(SENT_HEADER)
    return None if place is None else place.decode(errors="replace")


async def _records(cluster: Cluster, since: dict[tuple[str, int], int] | None = None) -> AsyncIterator[LogRecord]:
    """Yield what is in `dead-letters` now, from its beginning or from some offsets on."""
    count = (await cluster.topics()).get(DEAD_LETTERS, 0)
    places = list(since or [(DEAD_LETTERS, partition) for partition in range(count)])
    if not places:
        return
    async with _reader(cluster) as reader:
        reader.assign(places)
        beginnings, ends = await reader.beginnings(places), await reader.ends(places)
        reader.seek({at: max(beginnings[at], min((since or beginnings)[at], ends[at])) for at in places})
        while any([await reader.position(at) < ends[at] for at in places]):
            for record in await reader.read(_RECORDS_PER_READ, _READ_MS):
                if record.offset < ends[record.topic, record.partition]:
                    yield record


def _is_own(topic: str) -> bool:
    return topic.startswith(f"{COMMANDS}.") or any(each.name == topic for each in TOPICS)


@asynccontextmanager
async def _reader(cluster: Cluster) -> AsyncIterator[Reader]:
    reader = await cluster.reader()
    try:
        yield reader
    finally:
        await reader.close()


@asynccontextmanager
async def _producer(cluster: Cluster, *, foreign: bool = False) -> AsyncIterator[Producer]:
    """Yield a producer; one for foreign topics puts no namespace before their names."""
    producer = await (cluster.without_namespace() if foreign else cluster).producer()
    try:
        yield producer
    finally:
        await producer.close()
