"""Dead letters: a record that nobody can read is kept with its bytes, why, and where it came from."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from stepstream.contract.codec import encode
from stepstream.contract.errors import TooLarge
from stepstream.contract.limits import DEAD_LETTER_BYTES_MAX, ERROR_MESSAGE_CHARACTERS_MAX
from stepstream.contract.topics import DEAD_LETTERS
from stepstream.runtime.ports import LogRecord, NewRecord, WorkerLog, headers_bytes

logger = logging.getLogger(__name__)
_KEY_BYTES_MAX = 1_024
REASON_HEADER, FROM_HEADER = "stepstream-reason", "stepstream-from"
# Of a source's record: the consumer group that read it, the names of the sources that failed, and its own time.
FOREIGN_HEADER, SOURCES_HEADER, TIME_HEADER = "stepstream-foreign", "stepstream-sources", "stepstream-time"
# What of key and value was null; an empty one was not.
NULL_HEADER, CUT_HEADER = "stepstream-null", "stepstream-cut-from"
# On a mark, which is no letter: the place of the letter, in the same partition, whose record was sent again.
SENT_HEADER = "stepstream-sent"
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
    }
)
# Why a record is put aside, for those who count: it cannot be read, or it can and cannot be dealt with.
DeadLetterKind = Literal["invalid", "too-large", "not-applicable"]
DEAD_LETTER_KINDS: tuple[DeadLetterKind, ...] = get_args(DeadLetterKind)


class DeadLetterObserver(Protocol):
    """Who counts dead letters."""

    def reads(self, topic: str) -> None:
        """Records of a topic are read in this process; none of them was put aside so far."""

    def dead_letter(self, topic: str, kind: DeadLetterKind) -> None:
        """A record of a topic was put aside, which is durable."""


def kind_of(error: Exception) -> DeadLetterKind:
    """Return why a record is put aside whose reading raised an error."""
    return "too-large" if isinstance(error, TooLarge) else "invalid"


@dataclass(frozen=True, slots=True)
class FailedSources:
    """The sources, by name, that could make no event of a record, and the consumer group by which it was read."""

    group: str
    names: Sequence[str]


def dead_letter_record(record: LogRecord, reason: str, failed: FailedSources | None = None) -> NewRecord:
    """Return the letter for a record; that of a source says which ones `failed`, its topic is in no namespace.

    What was no record of a topic has a negative offset: nobody can send it again. A record may come compressed and be
    larger than any that can be written; such a one is cut, and its letter says how many bytes it had.
    """
    place = f"{record.topic}-{record.partition}-{record.offset}"
    origin = place if record.offset >= 0 else record.topic
    why = (
        (REASON_HEADER, reason[:ERROR_MESSAGE_CHARACTERS_MAX].encode(errors="replace")),
        (FROM_HEADER, origin.encode()),
        *(((NULL_HEADER, ",".join(record.nulls).encode()),) if record.nulls else ()),
        *(_told_of_sources(failed, record.timestamp) if failed else ()),
    )
    # What is told of a letter is told by us alone, whatever its record came with.
    headers = tuple((name, value) for name, value in record.headers if name not in OWN_HEADERS)
    size = len(record.key) + len(record.value) + headers_bytes(headers)
    if size <= DEAD_LETTER_BYTES_MAX:
        return NewRecord(DEAD_LETTERS, -1, record.key, record.value, (*headers, *why))
    cut = (CUT_HEADER, str(size).encode())
    value = record.value[: DEAD_LETTER_BYTES_MAX - _KEY_BYTES_MAX]
    return NewRecord(DEAD_LETTERS, -1, record.key[:_KEY_BYTES_MAX], value, (*why, cut))


def _told_of_sources(failed: FailedSources, timestamp: int) -> tuple[tuple[str, bytes], ...]:
    return (
        (FOREIGN_HEADER, failed.group.encode()),
        (SOURCES_HEADER, encode(list(failed.names))),
        (TIME_HEADER, str(timestamp).encode()),
    )


class CommandDeadLetters:
    """Puts aside the commands of a topic that one worker cannot read, and tells whoever counts them."""

    def __init__(self, log: WorkerLog, topic: str, observer: DeadLetterObserver | None) -> None:
        self._log = log
        self._observer = observer
        if observer:
            observer.reads(topic)

    async def dead_letter(self, command: LogRecord, reason: str, kind: DeadLetterKind) -> None:
        """Keep a command; return when it is durable, and counted."""
        logger.error("command %s-%d-%d is put aside: %s", command.topic, command.partition, command.offset, reason)
        await self._log.dead_letter(dead_letter_record(command, reason))
        if self._observer:
            self._observer.dead_letter(command.topic, kind)
