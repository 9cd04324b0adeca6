"""A dead letter: a record of the topic `dead-letters`, decoded, and what redriving it writes."""

import base64
import re
from dataclasses import dataclass
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
from stepstream.runtime.ports import Headers, LogRecord, NewRecord

REDRIVEN_HEADER = "stepstream-redriven"
BY_HEADER = "stepstream-by"
_DIGITS_MAX = 16


class DeadLetterError(StepstreamError):
    """A dead letter does not exist, or cannot be redriven."""

    code = "dead-letter"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter; `topic`, `partition` and `offset` say where its record came from.

    For a record of a source, `group` is the consumer group that read it, `sources` are the names of those that failed,
    and `timestamp` is the record's own (Unix ms). `cut_from` is the full size when only a part of the value was stored,
    `redriven` counts how often the record was redriven before.
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
        """The identity of the dead letter, its position in `dead-letters`: PARTITION-OFFSET."""
        return f"{self.record.partition}-{self.record.offset}"

    @property
    def headers(self) -> Headers:
        """The headers of the original record."""
        return tuple(
            (name, value) for name, value in self.record.headers if name not in (*OWN_HEADERS, REDRIVEN_HEADER)
        )

    def summary(self) -> dict[str, Any]:
        """Return what lists show."""
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
        """Raise DeadLetterError if only a part of the record was stored, or its origin is missing."""
        if self.cut_from:
            raise DeadLetterError(f"dead letter {self.place}: only a part of its {self.cut_from:,} bytes was stored")
        if self.partition < 0:
            raise DeadLetterError(f"dead letter {self.place} does not say where its record came from")

    def redriven_record(self) -> NewRecord:
        """Return the original record, for its original partition; a header counts the redrives."""
        headers = (*self.headers, (REDRIVEN_HEADER, str(self.redriven + 1).encode()))
        return NewRecord(self.topic, self.partition, self.record.key, self.record.value, headers, self.nulls)

    def original(self) -> LogRecord:
        """Return the original record, at its original position."""
        place = (self.topic, self.partition, self.offset)
        return LogRecord(*place, self.record.key, self.record.value, self.headers, self.timestamp, self.nulls)

    def mark(self, by: str = "") -> NewRecord:
        """Return the record of `dead-letters` that says this one was redriven, and by which user, if known."""
        headers = ((SENT_HEADER, self.place.encode()), *(((BY_HEADER, by.encode(errors="replace")),) if by else ()))
        return NewRecord(DEAD_LETTERS, self.record.partition, b"", b"", headers)

    def full(self) -> dict[str, Any]:
        """Return the summary with the content; bytes that are not UTF-8 are base64, a null is None."""
        headers: dict[str, list[Any]] = {}
        for name, value in self.headers:
            headers.setdefault(name, []).append(_text(value))
        shown = {name: values[0] if len(values) == 1 else values for name, values in headers.items()}
        key = None if "key" in self.nulls else self.record.key
        value = None if "value" in self.nulls else self.record.value
        content = {"key": _text(key), "value": _text(value), "headers": shown}
        return self.summary() | content | {"cut": bool(self.cut_from)}


def _text(raw: bytes | None) -> str | dict[str, str] | None:
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def dead_letter_of(record: LogRecord) -> DeadLetter:
    """Return the dead letter that a record of `dead-letters` holds."""
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


def marked_place(record: LogRecord) -> str | None:
    """Return the place of the dead letter that a mark says was redriven; None for a record that is not a mark."""
    headers = dict(record.headers)
    return (headers[SENT_HEADER] or b"").decode(errors="replace") if SENT_HEADER in headers else None


def marked_by(record: LogRecord) -> str:
    """Return the user that a mark names, "" if it names none."""
    return (dict(record.headers).get(BY_HEADER) or b"").decode(errors="replace")


def _count(value: bytes | None) -> int:
    """Return the number in a header; 0 for anything else, since any producer may write one."""
    return int(value) if value and value.isdigit() and len(value) < _DIGITS_MAX else 0


def _names(value: bytes | None) -> tuple[str, ...]:
    """Return the list of names in a header; an empty one for anything else."""
    try:
        return msgspec.json.decode(value or b"[]", type=tuple[str, ...])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ()
