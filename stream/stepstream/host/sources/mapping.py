"""Maps a record of a source to the events that are appended to the log."""

from stepstream.contract.codec import encode
from stepstream.contract.limits import DEFAULT_LIMITS
from stepstream.contract.topics import EVENTS
from stepstream.runtime.ports import LogRecord, NewRecord
from stepstream.sdk.source import Source


def events_of(source: Source, record: LogRecord) -> list[NewRecord]:
    """Return the event of a record, or none if the source skips the record; raise what its mapping raises."""
    event = source.event_of(
        record.value,
        {name: content or b"" for name, content in record.headers},
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        timestamp=record.timestamp,
        limits=DEFAULT_LIMITS,
    )
    return [NewRecord(EVENTS, -1, event.id.encode(), encode(event))] if event else []
