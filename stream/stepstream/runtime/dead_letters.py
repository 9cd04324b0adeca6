"""Dead letters: a record that cannot be processed is kept with its bytes, the reason and its origin."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from stepstream.contract.codec import encode
from stepstream.contract.errors import TooLarge
from stepstream.contract.limits import DEAD_LETTER_BYTES_MAX, ERROR_MESSAGE_CHARACTERS_MAX
from stepstream.contract.topics import DEAD_LETTERS
from stepstream.runtime.ports import LogRecord, NewRecord, Unreadable, WorkerLog, headers_bytes

logger = logging.getLogger(__name__)
_KEY_BYTES_MAX = 1_024
REASON_HEADER, FROM_HEADER = "stepstream-reason", "stepstream-from"
# For the record of a source: the consumer group that read it, the sources that failed, and its own timestamp.
FOREIGN_HEADER, SOURCES_HEADER, TIME_HEADER = "stepstream-foreign", "stepstream-sources", "stepstream-time"
# Which of key and value was null, as opposed to empty; and how many bytes the record had before it was cut.
NULL_HEADER, CUT_HEADER = "stepstream-null", "stepstream-cut-from"
# On a marker, which is not a dead letter: the offset in the same partition of the dead letter that was redriven.
SENT_HEADER = "stepstream-sent"
# For a batch that cannot be read: its first and last offset.
OFFSETS_HEADER = "stepstream-offsets"
OWN_HEADERS = frozenset(
    {
        REASON_HEADER,
        FROM_HEADER,
        FOREIGN_HEADER,
        SOURCES_HEADER,
        TIME_HEADER,
        NULL_HEADER,
        CUT_HEADER,
        SENT_HEADER,
        OFFSETS_HEADER,
    }
)
# Why a record is a dead letter, as the metrics count it: invalid ones cannot be decoded, those that are not applicable
# can be decoded but not processed.
DeadLetterKind = Literal["invalid", "too-large", "not-applicable"]
DEAD_LETTER_KINDS: tuple[DeadLetterKind, ...] = get_args(DeadLetterKind)


class DeadLetterObserver(Protocol):
    """Counts dead letters."""

    def reads(self, topic: str) -> None:
        """This process reads a topic, of which it has no dead letter yet."""

    def dead_letter(self, topic: str, kind: DeadLetterKind) -> None:
        """A dead letter of a topic is durable."""


def unreadable_kind(batch: Unreadable) -> DeadLetterKind:
    """Return the kind of dead letter for a batch that cannot be read."""
    return "too-large" if batch.too_large else "invalid"


def kind_of(error: Exception) -> DeadLetterKind:
    """Return the kind of dead letter for a record whose decoding raised an error."""
    return "too-large" if isinstance(error, TooLarge) else "invalid"


@dataclass(frozen=True, slots=True)
class FailedSources:
    """The names of the sources that could not turn a record into an event, and the consumer group that read it."""

    group: str
    names: Sequence[str]


def dead_letter_record(record: LogRecord, reason: str, failed: FailedSources | None = None) -> NewRecord:
    """Return the dead letter for a record; `failed` is set for the record of a source, whose topic has no namespace.

    A record with a negative offset is not from a topic and cannot be redriven. A record that is too large to be
    written, which is possible because batches are compressed, is cut; the dead letter states its original size. The
    dead letter of an unreadable batch has the range of its offsets and no content.
    """
    if record.unreadable:
        return _unreadable_record(record, record.unreadable, failed)
    origin = f"{record.topic}-{record.partition}-{record.offset}" if record.offset >= 0 else record.topic
    own = (
        (REASON_HEADER, reason[:ERROR_MESSAGE_CHARACTERS_MAX].encode(errors="replace")),
        (FROM_HEADER, origin.encode()),
        *(((NULL_HEADER, ",".join(record.nulls).encode()),) if record.nulls else ()),
        *(_source_headers(failed, record.timestamp) if failed else ()),
    )
    # A record that was a dead letter before may come with these headers.
    headers = tuple((name, value) for name, value in record.headers if name not in OWN_HEADERS)
    size = len(record.key) + len(record.value) + headers_bytes(headers)
    if size <= DEAD_LETTER_BYTES_MAX:
        return NewRecord(DEAD_LETTERS, -1, record.key, record.value, (*headers, *own))
    cut = (CUT_HEADER, str(size).encode())
    value = record.value[: DEAD_LETTER_BYTES_MAX - _KEY_BYTES_MAX]
    return NewRecord(DEAD_LETTERS, -1, record.key[:_KEY_BYTES_MAX], value, (*own, cut))


def _unreadable_record(record: LogRecord, batch: Unreadable, failed: FailedSources | None) -> NewRecord:
    headers = (
        (REASON_HEADER, batch.reason[:ERROR_MESSAGE_CHARACTERS_MAX].encode(errors="replace")),
        (FROM_HEADER, f"{record.topic}-{record.partition}-{batch.first}".encode()),
        (OFFSETS_HEADER, f"{batch.first}-{batch.last}".encode()),
        (CUT_HEADER, str(batch.bytes).encode()),
        *(_source_headers(failed, record.timestamp) if failed else ()),
    )
    return NewRecord(DEAD_LETTERS, -1, b"", b"", headers)


def _source_headers(failed: FailedSources, timestamp: int) -> tuple[tuple[str, bytes], ...]:
    return (
        (FOREIGN_HEADER, failed.group.encode()),
        (SOURCES_HEADER, encode(list(failed.names))),
        (TIME_HEADER, str(timestamp).encode()),
    )


class CommandDeadLetters:
    """Turns the commands of a topic that a worker cannot process into dead letters, and counts them."""

    def __init__(self, log: WorkerLog, topic: str, observer: DeadLetterObserver | None) -> None:
        self._log = log
        self._observer = observer
        if observer:
            observer.reads(topic)

    async def dead_letter(self, command: LogRecord, reason: str, kind: DeadLetterKind) -> None:
        """Write the dead letter of a command; return when it is durable and counted.

        An unreadable batch has a separate reason and kind: the worker only knows that no command could be read.
        """
        if command.unreadable:
            reason, kind = command.unreadable.reason, unreadable_kind(command.unreadable)
        logger.error(
            "command %s-%d-%d moved to dead-letters: %s", command.topic, command.partition, command.offset, reason
        )
        await self._log.dead_letter(dead_letter_record(command, reason))
        if self._observer:
            self._observer.dead_letter(command.topic, kind)
