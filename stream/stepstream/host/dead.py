"""The dead letters of a cluster: read, shown, and sent again to where they came from."""

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stepstream.contract.errors import StepstreamError
from stepstream.contract.topics import COMMANDS, DEAD_LETTERS, TOPICS
from stepstream.runtime.kafka import Cluster, Producer, Reader
from stepstream.runtime.letters import CUT_HEADER, FOREIGN_HEADER, FROM_HEADER, REASON_HEADER
from stepstream.runtime.ports import LogRecord, NewRecord

REDRIVEN_HEADER = "stepstream-redriven"
_OWN_HEADERS = (REASON_HEADER, FROM_HEADER, FOREIGN_HEADER, CUT_HEADER, REDRIVEN_HEADER)
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
        return tuple((name, value) for name, value in self.record.headers if name not in _OWN_HEADERS)

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
        }

    def whole(self) -> dict[str, Any]:
        """Return all of it; bytes that are no text are base64."""
        headers = {name: _text(value) for name, value in self.headers}
        content = {"key": _text(self.record.key), "value": _text(self.record.value), "headers": headers}
        return self.summary() | content | {"cut": bool(self.cut_from)}


def _text(raw: bytes) -> str | dict[str, str]:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def letter_of(record: LogRecord) -> Letter:
    """Return what a record of `dead-letters` says."""
    headers = dict(record.headers)
    topic, partition, offset = headers.get(FROM_HEADER, b"?--1--1").decode(errors="replace").rsplit("-", 2)
    return Letter(
        record,
        topic,
        int(partition) if partition.isdigit() else -1,
        int(offset) if offset.isdigit() else -1,
        headers.get(REASON_HEADER, b"").decode(errors="replace"),
        FOREIGN_HEADER in headers,
        _count(headers.get(CUT_HEADER)),
        _count(headers.get(REDRIVEN_HEADER)),
    )


def _count(value: bytes | None) -> int:
    """Return the number in a header, 0 for what is none: a record may come with any."""
    return int(value) if value and value.isdigit() and len(value) < _DIGITS_MAX else 0


async def read_letters(cluster: Cluster, topic: str = "") -> list[Letter]:
    """Return all letters that are kept, the oldest first; with `topic` those whose records were there."""
    count = (await cluster.topics()).get(DEAD_LETTERS, 0)
    places = [(DEAD_LETTERS, partition) for partition in range(count)]
    found: list[Letter] = []
    async with _reader(cluster) as reader:
        reader.assign(places)
        reader.seek(await reader.beginnings(places))
        ends = await reader.ends(places)
        while any([await reader.position(at) < ends[at] for at in places]):
            found += [letter_of(record) for record in await reader.read(_RECORDS_PER_READ, _READ_MS)]
    wanted = [letter for letter in found if not topic or letter.topic == topic]
    return sorted(wanted, key=lambda letter: letter.record.timestamp)


def find_letter(letters: Sequence[Letter], place: str) -> Letter:
    """Return the letter of that place; raise LetterError when there is none."""
    for letter in letters:
        if letter.place == place:
            return letter
    raise LetterError(f"there is no dead letter {place!r}; `stepstream dead-letters list` shows the places")


async def redrive(cluster: Cluster, letters: Sequence[Letter]) -> None:
    """Send records again, byte for byte, to the partitions where they were; a header counts how often.

    Raises LetterError, before anything is sent, for one of which only a part was kept, or whose origin is not told.
    """
    for letter in letters:
        if letter.cut_from:
            raise LetterError(f"letter {letter.place}: of its {letter.cut_from:,} bytes only a part was kept")
        if letter.partition < 0:
            raise LetterError(f"letter {letter.place} does not say where it came from")
    async with _producer(cluster) as own, _producer(cluster, foreign=True) as foreign:
        for letter in letters:
            again = (REDRIVEN_HEADER, str(letter.redriven + 1).encode())
            record = NewRecord(
                letter.topic, letter.partition, letter.record.key, letter.record.value, (*letter.headers, again)
            )
            await (foreign if letter.foreign or not _is_own(letter.topic) else own).send([record])


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
