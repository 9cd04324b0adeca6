"""Shards whose logs deliver their records in order, but at different speeds."""

from collections import Counter, deque

from stepstream.contract.history import RunBegan, RunEnded
from stepstream.contract.topics import INBOX
from stepstream.engine.state.changes import Send
from stepstream.engine.state.records import Input
from stepstream.engine.state.tables import (
    KEPT_HEAD,
    LOOKBACK_WINDOWS,
    QUEUED_COUNT,
    REGISTRATIONS,
    SCOPE_CHANGES,
    TRIGGERS,
)
from stepstream.engine.transition import transition
from tests.engine.tables import Line, World

LASTING = {
    table.prefix for table in (REGISTRATIONS, TRIGGERS, LOOKBACK_WINDOWS, KEPT_HEAD, QUEUED_COUNT, SCOPE_CHANGES)
}


class Delayed(World):
    """Shards with a log for each pair of them, delivered in order but at different speeds."""

    def begin(self) -> None:
        """Start with two functions and two runs."""
        self.logs: dict[tuple[int, int], deque[Input]] = {}
        self.lives: Counter[tuple[str, str]] = Counter()
        f = "function f on=go lookback=50 cancel_on=stop:data.id;come:?async.data.id>event.data.id:30"
        for record in (f, "function g cancel_on=stop", 'event go {"id":1} e1', 'event go {"id":2} e2'):
            self.play(Line(10, record, ""))
            self.deliver_all(10)

    def take(self, records: list[Input], now: int) -> list[str]:
        """Fold records where they arrive; what they send stays in the logs."""
        for record in records:
            for shard in self.homes(record):
                self.fold(record, shard, now)
        return []

    def fold(self, record: Input, shard: int, now: int) -> None:
        """Fold a record at a shard."""
        changes = transition(self.tables[shard], record, now, shard=shard, shards=self.shards, limits=self.limits)
        self.tables[shard].apply(changes)
        for change in changes.changes:
            if isinstance(change, Send) and change.topic == INBOX:
                log = self.logs.setdefault((shard, change.partition), deque())
                log.append(change.record)  # type: ignore[arg-type]  # What goes to the inbox is an InboxRecord.
            elif isinstance(change, Send):
                self.leave(change, shard)
                if isinstance(change.record, RunBegan | RunEnded):
                    self.lives[type(change.record).__name__, change.record.run_id] += 1

    def deliver(self, choice: int, now: int) -> bool:
        """Deliver one record, from the log that `choice` selects; return False when there is none."""
        logs = [log for log in sorted(self.logs) if self.logs[log]]
        if logs:
            log = logs[choice % len(logs)]
            self.fold(self.logs[log].popleft(), log[1], now)
        return bool(logs)

    def deliver_all(self, now: int) -> None:
        """Deliver all records."""
        while self.deliver(0, now):
            pass

    def left(self) -> list[object]:
        """Return the rows that should not outlive all runs."""
        return [key for tables in self.tables for key in tables.rows if key.table not in LASTING]
