"""The dead letters of a cluster: looked through, and shown."""

import base64
import heapq
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from stepstream.contract.errors import StepstreamError
from stepstream.contract.topics import DEAD_LETTERS
from stepstream.runtime.dead_letters import (
    CUT_HEADER,
    FOREIGN_HEADER,
    FROM_HEADER,
    NULL_HEADER,
    OWN_HEADERS,
    REASON_HEADER,
    SENT_HEADER,
    SOURCES_HEADER,
    TIME_HEADER,
)
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.reader import Reader
from stepstream.runtime.ports import Headers, LogRecord, NewRecord

REDRIVEN_HEADER = "stepstream-redriven"
_READ_MS = 1_000
_RECORDS_PER_READ = 1_000
_DIGITS_MAX = 16


class DeadLetterError(StepstreamError):
    """A dead letter is not there, or cannot be sent again."""

    code = "dead-letter"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter; `place` names it, `topic`, `partition` and `offset` say where its record was.

    That of a source says by which consumer `group` it was read, which `sources` (by name) failed, and the record's own
    time (Unix ms).
    """

    record: LogRecord
    topic: str
    partition: int
    offset: int
    reason: str
    group: str
    sources: tuple[str, ...]
    timestamp: int
    nulls: tuple[str, ...]
    cut_from: int
    redriven: int

    @property
    def place(self) -> str:
        """Its own place in `dead-letters`: partition-offset."""
        return f"{self.record.partition}-{self.record.offset}"

    @property
    def headers(self) -> Headers:
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
            "sources": list(self.sources),
            "sent": False,
        }

    def check(self) -> None:
        """Raise DeadLetterError for one of which only a part was kept, or whose origin is not told."""
        if self.cut_from:
            raise DeadLetterError(f"letter {self.place}: of its {self.cut_from:,} bytes only a part was kept")
        if self.partition < 0:
            raise DeadLetterError(f"letter {self.place} does not say where it came from")

    def again(self) -> NewRecord:
        """Return its record as it was, to where it was; a header counts how often it is sent again."""
        headers = (*self.headers, (REDRIVEN_HEADER, str(self.redriven + 1).encode()))
        return NewRecord(self.topic, self.partition, self.record.key, self.record.value, headers, self.nulls)

    def original(self) -> LogRecord:
        """Return its record as it was where it was."""
        place = (self.topic, self.partition, self.offset)
        return LogRecord(*place, self.record.key, self.record.value, self.headers, self.timestamp, self.nulls)

    def mark(self) -> NewRecord:
        """Return what says that it was sent again."""
        header = (SENT_HEADER, self.place.encode())
        return NewRecord(DEAD_LETTERS, self.record.partition, b"", b"", (header,))

    def whole(self) -> dict[str, Any]:
        """Return all of it; bytes that are no text are base64, what was null is None."""
        headers: dict[str, list[Any]] = {}
        for name, value in self.headers:
            headers.setdefault(name, []).append(_text(value))
        told = {name: values[0] if len(values) == 1 else values for name, values in headers.items()}
        key = None if "key" in self.nulls else self.record.key
        value = None if "value" in self.nulls else self.record.value
        content = {"key": _text(key), "value": _text(value), "headers": told}
        return self.summary() | content | {"cut": bool(self.cut_from)}


def _text(raw: bytes | None) -> str | dict[str, str] | None:
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def dead_letter_of(record: LogRecord) -> DeadLetter:
    """Return what a record of `dead-letters` says."""
    headers = {name: value or b"" for name, value in record.headers}
    texts = {name: headers.get(name, b"").decode(errors="replace") for name in OWN_HEADERS}
    origin = re.fullmatch(r"(.+)-(\d{1,9})-(\d{1,18})", texts[FROM_HEADER])
    return DeadLetter(
        record,
        origin[1] if origin else "?",
        int(origin[2]) if origin else -1,
        int(origin[3]) if origin else -1,
        texts[REASON_HEADER],
        texts[FOREIGN_HEADER],
        _names(headers.get(SOURCES_HEADER)),
        _count(headers.get(TIME_HEADER)),
        tuple(name for name in ("key", "value") if name in texts[NULL_HEADER].split(",")),
        _count(headers.get(CUT_HEADER)),
        _count(headers.get(REDRIVEN_HEADER)),
    )


def _count(value: bytes | None) -> int:
    """Return the number in a header, 0 for what is none: a record may come with any."""
    return int(value) if value and value.isdigit() and len(value) < _DIGITS_MAX else 0


def _names(value: bytes | None) -> tuple[str, ...]:
    """Return the list of texts in a header, an empty one for what is none."""
    try:
        return msgspec.json.decode(value or b"[]", type=tuple[str, ...])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ()


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
    async for record in dead_letter_records(cluster):
        if (place := marked_place(record)) is not None:
            found.waiting.pop(place, None)
            continue
        letter = dead_letter_of(record)
        if topic and letter.topic != topic:
            continue
        found.total += 1
        found.waiting[letter.place] = None
        heapq.heappush(latest, (record.timestamp, record.partition, record.offset, letter.summary()))
        if len(latest) > limit:
            heapq.heappop(latest)
    found.latest = [summary | {"sent": summary["place"] not in found.waiting} for *_, summary in sorted(latest)]
    return found


async def dead_letter_at(cluster: Cluster, place: str) -> DeadLetter:
    """Return the letter of a place; raise DeadLetterError when there is none."""
    none = DeadLetterError(f"there is no dead letter {place!r}; `stepstream dead-letters list` shows the places")
    if not re.fullmatch(r"\d{1,9}-\d{1,18}", place):
        raise none
    partition, offset = map(int, place.split("-"))
    if partition >= (await cluster.topics()).get(DEAD_LETTERS, 0):
        raise none
    async for record in dead_letter_records(cluster, {(DEAD_LETTERS, partition): offset}):
        if (record.partition, record.offset) != (partition, offset) or marked_place(record) is not None:
            break
        return dead_letter_of(record)
    raise none


def marked_place(record: LogRecord) -> str | None:
    """Return the place of the letter that a mark says was sent again; None for a letter."""
    headers = dict(record.headers)
    return (headers[SENT_HEADER] or b"").decode(errors="replace") if SENT_HEADER in headers else None


async def dead_letter_records(
    cluster: Cluster, since: dict[tuple[str, int], int] | None = None
) -> AsyncIterator[LogRecord]:
    """Yield what is in `dead-letters` now, from its start or from some offsets; raise DeadLetterError without it."""
    count = (await cluster.topics()).get(DEAD_LETTERS, 0)
    if not count:
        topic = cluster.settings.name(DEAD_LETTERS)
        raise DeadLetterError(f"there is no topic {topic!r}; are --kafka and --namespace those of the cluster?")
    places = list(since or [(DEAD_LETTERS, partition) for partition in range(count)])
    async with _reader(cluster) as reader:
        reader.assign(places)
        beginnings, ends = await reader.beginnings(places), await reader.ends(places)
        reader.seek({at: max(beginnings[at], min((since or beginnings)[at], ends[at])) for at in places})
        while any([await reader.position(at) < ends[at] for at in places]):
            for record in await reader.read(_RECORDS_PER_READ, _READ_MS):
                if record.offset < ends[record.topic, record.partition]:
                    yield record


@asynccontextmanager
async def _reader(cluster: Cluster) -> AsyncIterator[Reader]:
    reader = await cluster.reader()
    try:
        yield reader
    finally:
        await reader.close()
