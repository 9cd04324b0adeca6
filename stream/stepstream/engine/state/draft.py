"""The draft of one transition: reads that see its own writes, and the changes it collects."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TypeVar

from stepstream.contract.commands import Command, Memo
from stepstream.contract.events import EventRecord
from stepstream.contract.history import HistoryEntry
from stepstream.contract.ids import run_routing, shard_of
from stepstream.contract.inbox import InboxRecord
from stepstream.contract.limits import Limits
from stepstream.contract.topics import EVENTS, HISTORY, INBOX, commands_topic
from stepstream.engine.state.changes import Change, Changes, Count, Delete, Put, Reply, Sample, Send
from stepstream.engine.state.keys import Key, memo_key, open_key, run_key, timer_key
from stepstream.engine.state.lifecycle import check_run, check_step, open_state
from stepstream.engine.state.rows import OpenStep, Row, Run, Timer
from stepstream.engine.state.view import Layer, View

R = TypeVar("R", bound=Row)
_WALK_ROWS_MIN, _WALK_ROWS_MAX = 16, 64


class Draft:
    """One transition at work: `now` is the batch's time (Unix ms), `shard` of `shards` the place.

    `record` names the type of what came in, by which the moves of runs and steps are checked.
    """

    __slots__ = ("_changes", "_layer", "_runs", "_samples", "counts", "limits", "now", "record", "shard", "shards")

    def __init__(self, view: View, now: int, shard: int, shards: int, limits: Limits, record: str) -> None:
        self._layer = Layer(view)
        self._changes: list[Change] = []
        self._runs: dict[str, Run | None] = {}
        self.record = record
        self._samples: list[Sample] = []
        self.counts: dict[Count, int] = {}
        self.now = now
        self.shard = shard
        self.shards = shards
        self.limits = limits

    def get(self, row_type: type[R], key: Key) -> R | None:
        """Return the row under `key`; `row_type` is what its table holds."""
        row = self._layer.get(key)
        if row is None:
            return None
        if not isinstance(row, row_type):
            raise TypeError(f"table {key.table!r} holds a {type(row).__name__}, not a {row_type.__name__}")
        return row

    def scan(
        self, row_type: type[R], table: bytes, part: bytes, limit: int = 0, after: bytes = b""
    ) -> list[tuple[Key, R]]:
        """Return the rows of a part in order, at most `limit` (0: all), those after a place; `row_type` is theirs."""
        return [(key, row) for key, row in self._layer.scan(table, part, limit, after) if isinstance(row, row_type)]

    def walk(self, row_type: type[R], table: bytes, part: bytes, after: bytes = b"") -> Iterable[tuple[Key, R]]:
        """Return the rows of a part in order, those after a place; who stops has not had many more of them read.

        It is falsy when there is none.
        """
        rows = self.scan(row_type, table, part, _WALK_ROWS_MIN, after)
        if len(rows) < _WALK_ROWS_MIN:
            return rows
        return chain(rows, self._walk_on(row_type, table, part, rows[-1][0].sort))

    def _walk_on(self, row_type: type[R], table: bytes, part: bytes, after: bytes) -> Iterator[tuple[Key, R]]:
        count = _WALK_ROWS_MIN
        while after:
            count = min(2 * count, _WALK_ROWS_MAX)
            rows = self.scan(row_type, table, part, count, after)
            yield from rows
            after = rows[-1][0].sort if len(rows) == count else b""

    def run(self, run_id: str) -> Run | None:
        """Return a run that has not ended."""
        if run_id not in self._runs:
            self._runs[run_id] = self.get(Run, run_key(run_id))
        return self._runs[run_id]

    def put_run(self, run: Run) -> None:
        """Write a run that was read before; its life cycle must have a way from there to here."""
        check_run(self._runs.get(run.run_id), self.record, run)
        self._runs[run.run_id] = run
        self.put(run_key(run.run_id), run)

    def delete_run(self, run_id: str) -> None:
        """Remove a run that was read before; its life cycle must have an end there."""
        check_run(self._runs.get(run_id), self.record, None)
        self._runs[run_id] = None
        self.delete(run_key(run_id))

    def put_step(self, run_id: str, step: str, before: OpenStep | None, opened: OpenStep) -> None:
        """Write a step without a result, which was as `before`."""
        check_step(before, self.record, open_state(opened))
        if before is None or before.kind != opened.kind:
            self._close(before)
            self.count("open_steps", opened.kind)
        self.put(open_key(run_id, step), opened)

    def drop_step(self, run_id: str, step: str, before: OpenStep) -> None:
        """Remove a step without a result, which was as `before`."""
        check_step(before, self.record, "absent")
        self.delete_step(open_key(run_id, step), before)

    def delete_step(self, key: Key, before: OpenStep) -> None:
        """Remove the row of a step without a result, in whatever state it is: its run ends."""
        self._close(before)
        self.delete(key)

    def _close(self, before: OpenStep | None) -> None:
        if before is not None:
            self.count("open_steps", before.kind, amount=-1)

    def keep_memo(self, run_id: str, memo: Memo, before: OpenStep | None) -> None:
        """Write the result of a step, which was as `before`; it is open no longer."""
        check_step(before, self.record, "kept")
        if before is not None:
            self.delete_step(open_key(run_id, memo.step), before)
        self.put(memo_key(run_id, memo.step), memo)

    def put(self, key: Key, row: Row) -> None:
        """Write a row."""
        self._layer.put(key, row)
        self._changes.append(Put(key, row))

    def delete(self, key: Key) -> None:
        """Remove a row."""
        self._layer.put(key, None)
        self._changes.append(Delete(key))

    def arm(self, due: int, kind: str, owner: str, name: str = "") -> None:
        """Have a timer fire at `due` (Unix ms)."""
        self.put(timer_key(due, owner, name), Timer(kind, owner, name))

    def disarm(self, due: int, owner: str, name: str = "") -> None:
        """Remove a timer that has not fired; `due` 0 says that there is none."""
        if due:
            self.delete(timer_key(due, owner, name))

    def owns(self, routing_key: str) -> bool:
        """Tell whether this shard owns `routing_key`."""
        return shard_of(routing_key, self.shards) == self.shard

    def route(self, routing_key: str, record: InboxRecord) -> None:
        """Send a record to the shard that owns `routing_key`."""
        self._changes.append(Send(INBOX, routing_key, record, shard_of(routing_key, self.shards)))

    def go_on_later(self, routing_key: str, record: InboxRecord) -> None:
        """Have this shard take a record in a batch of its own."""
        self._changes.append(Send(INBOX, routing_key, record, self.shard, later=True))

    def route_in_order(self, routing_key: str, record: InboxRecord) -> None:
        """Send a record to the shard that owns `routing_key`, behind all that was sent there before.

        Even to this shard it goes by the log: what another shard committed before may not have been read yet. A single
        shard has nobody to wait for.
        """
        to = shard_of(routing_key, self.shards)
        self._changes.append(Send(INBOX, routing_key, record, to, later=self.shards > 1))

    def route_to_run(self, run_id: str, record: InboxRecord) -> None:
        """Send a record to the shard that owns a run."""
        self.route(run_routing(run_id), record)

    def command(self, app: str, command: Command, queue: str = "") -> None:
        """Ask a worker of `app`, or of one of its queues."""
        self._changes.append(Send(commands_topic(app, queue), command.run_id, command))

    def emit(self, event: EventRecord) -> None:
        """Publish an event."""
        self._changes.append(Send(EVENTS, event.id, event))

    def tell(self, entry: HistoryEntry) -> None:
        """Append to the history of a run."""
        self._changes.append(Send(HISTORY, entry.run_id, entry))

    def reply(self, to: str, status: str) -> None:
        """Answer a caller who waits; nobody waits when `to` is empty."""
        if to:
            self._changes.append(Reply(to, status))

    def count(self, name: str, *labels: str, amount: int = 1) -> None:
        """Count something worth watching; the labels must be of few values."""
        count = (name, *labels)
        self.counts[count] = self.counts.get(count, 0) + amount

    def time(self, name: str, label: str, since_ms: int) -> None:
        """Note how long something took that began at `since_ms` (Unix ms) and ends with this batch."""
        self._samples.append(Sample(name, label, max(self.now - since_ms, 0)))

    def result(self) -> Changes:
        """Return what was collected."""
        return Changes(tuple(self._changes), self.counts, self._samples)
