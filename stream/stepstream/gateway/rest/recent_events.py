"""The latest events that this process accepted: the read model has only those that started, resumed or cancelled."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from stepstream.contract.codec import encode
from stepstream.contract.events import EventRecord
from stepstream.contract.limits import MIB

RECENT_EVENTS_MAX = 10_000
RECENT_EVENTS_BYTES_MAX = 32 * MIB


@dataclass(frozen=True, slots=True)
class AcceptedEvent:
    """An event as it was accepted: the ULID that its sender got, which is its id unless it has one of its own.

    `received_at` is Unix ms, `size` is in bytes.
    """

    internal_id: str
    record: EventRecord
    received_at: int
    size: int


class RecentEvents:
    """Keeps the latest events, at most so many and so many bytes. An event that was sent twice is kept twice."""

    def __init__(self, events_max: int = RECENT_EVENTS_MAX, bytes_max: int = RECENT_EVENTS_BYTES_MAX) -> None:
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._events: deque[AcceptedEvent] = deque()
        self._by_id: dict[str, AcceptedEvent] = {}

    def add(self, internal_id: str, record: EventRecord, received_at: int) -> None:
        """Keep an event."""
        event = AcceptedEvent(internal_id, record, received_at, len(encode(record)))
        self._events.append(event)
        self._bytes += event.size
        for id in (internal_id, record.id):
            self._by_id[id] = event
        while len(self._events) > self._events_max or self._bytes > self._bytes_max:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._events.popleft()
        self._bytes -= oldest.size
        for id in {oldest.internal_id, oldest.record.id}:
            if self._by_id.get(id) is oldest:
                del self._by_id[id]

    def find(self, id: str) -> AcceptedEvent | None:
        """Return the event with this ULID, or with this id of its own; None if it is not kept."""
        return self._by_id.get(id)

    def engine_id(self, id: str) -> str:
        """Return the id by which the engine knows the event with this ULID."""
        event = self.find(id)
        return event.record.id if event else id

    def internal_id(self, id: str) -> str:
        """Return the ULID of the event that the engine knows by this id."""
        event = self.find(id)
        return event.internal_id if event else id

    def newest(self, name: str = "") -> Iterator[AcceptedEvent]:
        """Yield the events of one name or of all, the newest first."""
        return (event for event in reversed(self._events) if name in ("", event.record.name))
