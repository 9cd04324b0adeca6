"""Shards that match events with waits, each with its own log, and runs that wait for one event."""

from collections import deque
from typing import Any

from stepstream.contract.codec import EMPTY_OBJECT, Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import EventTrigger, FunctionRegistered
from stepstream.contract.ids import Bucket, shard_of
from stepstream.contract.inbox import InboxRecord, StepResolved, decode_inbox
from stepstream.contract.limits import HOUR_MS, Limits
from stepstream.contract.matching import (
    EventMatched,
    EventRouted,
    IndexContinued,
    LookBackContinued,
    LookBackTruncated,
    Predicate,
    WaitClosed,
    WaitOpened,
    WaitRemoved,
)
from stepstream.contract.topics import INBOX
from stepstream.engine.matching.kept import indexed_value
from stepstream.engine.matching.match_budget import Candidate
from stepstream.engine.state.changes import Put, Send
from stepstream.engine.state.kept_rows import KeptEvent, KeptPaths
from stepstream.engine.state.records import Tick
from stepstream.engine.state.tables import (
    KEPT_EVENTS,
    KEPT_INDEX,
    KEPT_PATHS,
    QUEUED_EVENTS,
    TABLES,
    Table,
    index_entry_key,
    place_of,
)
from stepstream.engine.transition import due_timers, transition
from tests.engine.matching.predicates import EVENT, wait_closed, wait_opened
from tests.fakes.tables import CountingTables

KEEPS = FunctionRegistered("f", "app", (EventTrigger("go"),), lookback_ms=HOUR_MS)
DROPS = FunctionRegistered("f", "app", (EventTrigger("go"),))
TIMEOUT = "~"


class Matcher:
    """Shards with a log each. `ended` has the event, or TIMEOUT, by which the wait of each run ended.

    `overtaken` has the runs whose wait expired while an event was matched in several transitions.

    One transition evaluates at most `at_once` events or waits. With `doubled` the records that continue work are
    delivered twice. With `checked` the indexes are checked after each record.
    """

    def __init__(self, at_once: int = 500, shards: int = 1, *, doubled: bool = False, checked: bool = False) -> None:
        self.limits = Limits(waits_per_match_max=at_once)
        self.shards = shards
        self.doubled = doubled
        self.checked = checked
        self.tables = [CountingTables() for _ in range(shards)]
        self.logs: list[deque[bytes]] = [deque() for _ in range(shards)]
        self.waits: dict[str, WaitOpened] = {}
        self.ended: dict[str, str] = {}
        self.truncated: list[str] = []
        self.overtaken: set[str] = set()
        self.now = 10
        self.events = 0
        self.data = EMPTY_OBJECT
        self.most_read = 0
        self.register(KEEPS)

    def register(self, function: FunctionRegistered) -> None:
        """Register a function at every shard."""
        for tables in self.tables:
            tables.apply(transition(tables, function, self.now))

    def send(self, record: InboxRecord) -> None:
        """Append a record to the log of the shard that owns the event name."""
        self.logs[shard_of(EVENT, self.shards)].append(encode(record))

    def event(self, number: int, big: int, *, text: str = "", more: str = "") -> None:
        """Send an event; the first has the id e1. `more` are further fields of its data, as JSON."""
        self.events += 1
        self.data = Raw(f'{{"id":{number},"big":{big},"text":"{text}"{more}}}'.encode())
        self.send(EventRouted(EventRecord(EVENT, self.data, f"e{self.events}", self.now)))

    def wait(
        self, run_id: str, predicate: Predicate, *, lookback_from: int = 1, expires_at: int = 10**9, trigger: str = ""
    ) -> None:
        """Open the wait of a run."""
        self.waits[run_id] = wait_opened(run_id, predicate, expires_at, lookback_from, trigger)
        self.send(self.waits[run_id])

    def close(self, run_id: str, *, expired: bool = False) -> None:
        """Close the wait of a run, or let it expire."""
        wait = self.waits[run_id]
        self.send(wait_closed(run_id, wait.predicate, looking_back=wait.lookback_from > 0, expired=expired))

    def run(self, passes: int = -1) -> None:
        """Let each shard apply so many records of its log, or all there are and that follow from them."""
        while passes and any(self.logs):
            for shard, log in enumerate(self.logs):
                if log:
                    self._apply(decode_inbox(log.popleft()), shard)
            passes -= 1
            self.now += 1

    def tick(self) -> None:
        """Fire the timers that are due, until none is."""
        for shard, tables in enumerate(self.tables):
            while due := list(due_timers(tables, self.now)):
                for key, _ in due:
                    self._apply(Tick(key), shard)

    def _apply(self, record: InboxRecord | Tick, shard: int) -> None:
        queue: deque[InboxRecord | Tick] = deque([record])
        tables = self.tables[shard]
        while queue:
            tables.start_over()
            current = queue.popleft()
            if isinstance(current, WaitClosed | WaitRemoved) and current.expired and self.rows(QUEUED_EVENTS):
                self.overtaken.add(current.waiter.run_id)
            changes = transition(tables, current, self.now, shard=shard, shards=self.shards, limits=self.limits)
            self.most_read = max(self.most_read, tables.found + tables.scanned.total())
            for change in changes.changes:
                if isinstance(change, Put):
                    routing_key = TABLES[change.key.table].routing_of(change.key, change.row)
                    assert routing_key is None or shard_of(routing_key, self.shards) == shard
            tables.apply(changes)
            for change in changes.changes:
                if isinstance(change, Send) and change.topic == INBOX:
                    self._send_on(change, shard, queue)
        if self.checked:
            self.check_index()

    def _send_on(self, change: Send, shard: int, queue: deque[InboxRecord | Tick]) -> None:
        match change.record:
            case EventMatched(run_id=run_id, event=event):
                self._end(run_id, event.id)
            case StepResolved(run_id=run_id):
                self._end(run_id, TIMEOUT)
            case LookBackTruncated(run_id=run_id):
                self.truncated.append(run_id)
            case IndexContinued() | LookBackContinued() if self.doubled:
                self.logs[change.partition] += [encode(change.record)] * 2
            case record if change.later or change.partition != shard:
                self.logs[change.partition].append(encode(record))
            case record:
                queue.append(record)  # type: ignore[arg-type]  # What goes to the inbox is an InboxRecord.

    def _end(self, run_id: str, by: str) -> None:
        assert run_id not in self.ended, f"the wait of {run_id} ended by {self.ended[run_id]} and by {by}"
        self.ended[run_id] = by

    def rows(self, table: Table[Any]) -> int:
        """Return how many rows of a table there are."""
        return sum(key.table == table.prefix for tables in self.tables for key in tables.rows)

    def check_index(self) -> None:
        """An index has an entry of every event that its path says is indexed, and no other."""
        for tables in self.tables:
            rows = [(key, tables.get(key)) for key in list(tables.rows)]
            kept = {place_of(key): row for key, row in rows if key.table == KEPT_EVENTS.prefix}
            expected = set()
            for key, row in rows:
                if key.table != KEPT_PATHS.prefix or not isinstance(row, KeptPaths):
                    continue
                for path, use in row.paths.items():
                    for place, event in kept.items():
                        assert isinstance(event, KeptEvent)
                        value = indexed_value(Candidate(event.event), path)
                        if value is not None and (use.indexed_to is None or place <= use.indexed_to):
                            expected.add(index_entry_key(Bucket(EVENT, path, value), place))
            assert {key for key, _ in rows if key.table == KEPT_INDEX.prefix} == expected


def kept(count: int, at_once: int = 500) -> Matcher:
    """Return a matcher that has kept so many events, each with its own id, and has learned the path of the id."""
    matcher = Matcher(at_once)
    matcher.wait("first", Predicate((("data.id", "n0"),)))
    for number in range(count):
        matcher.event(number + 1, 2 if number == count - 1 else 1)
    matcher.run()
    matcher.most_read = 0
    return matcher
