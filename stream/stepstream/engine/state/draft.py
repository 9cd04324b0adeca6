"""The draft of one transition: reads that see its own writes, and the changes that it collects."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Concatenate, ParamSpec

from msgspec.structs import replace

from stepstream.contract.commands import Command, Memo
from stepstream.contract.errors import StepstreamError
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, RunWarned, StepCopied
from stepstream.contract.ids import run_routing, shard_of
from stepstream.contract.inbox import InboxRecord, RunOperation
from stepstream.contract.limits import WARNINGS_PER_RUN_MAX, Limits
from stepstream.contract.operators.bulk import BulkChanged, BulkItemEnded
from stepstream.contract.outcomes import ErrorInfo
from stepstream.contract.topics import EVENTS, HISTORY, INBOX, commands_topic
from stepstream.engine.state.changes import Change, Changes, Count, Delete, Put, Reply, Sample, Send
from stepstream.engine.state.keys import Key
from stepstream.engine.state.lifecycle import check_run, check_step, state_of_step
from stepstream.engine.state.rows import OpenStep, Run, Timer
from stepstream.engine.state.tables import (
    R,
    Table,
    function_key,
    memo_key,
    run_events_key,
    run_key,
    step_key,
    timer_key,
)
from stepstream.engine.state.view import Layer, View

P = ParamSpec("P")
_WALK_ROWS_MIN, _WALK_ROWS_MAX = 16, 64


class LimitExceeded(StepstreamError):
    """A record would take a run beyond one of its limits; the run ends with `error` instead."""

    def __init__(self, run_id: str, error: ErrorInfo) -> None:
        super().__init__(error.message)
        self.code = error.code
        self.run_id = run_id
        self.error = error


class Draft:
    """A transition in progress, at the batch's time `now` (Unix ms), on `shard` of `shards`.

    `record` is the type name of the input: the moves of runs and steps are checked by it.
    """

    __slots__ = ("_changes", "_layer", "_runs", "_samples", "counts", "limits", "now", "record_type", "shard", "shards")

    def __init__(self, view: View, now: int, shard: int, shards: int, limits: Limits, record_type: str) -> None:
        self._layer = Layer(view)
        self._changes: list[Change] = []
        self._runs: dict[str, Run | None] = {}
        self._samples: list[Sample] = []
        self.record_type = record_type
        self.counts: dict[Count, int] = {}
        self.now = now
        self.shard = shard
        self.shards = shards
        self.limits = limits

    # Rows of any table.

    def get(self, key: Key[R]) -> R | None:
        """Return the row under `key`."""
        row: R | None = self._layer.get(key)
        return row

    def scan(self, table: Table[R], part: bytes, limit: int = 0, after: bytes = b"") -> list[tuple[Key[R], R]]:
        """Return the rows of a part in order, at most `limit` (0: all), only those after a place."""
        return self._layer.scan(table.prefix, part, limit, after)

    def last(self, table: Table[R], part: bytes, limit: int) -> list[tuple[Key[R], R]]:
        """Return the last rows of a part in order, at most `limit`."""
        return self._layer.last(table.prefix, part, limit)

    def walk(self, table: Table[R], part: bytes, after: bytes = b"") -> Iterable[tuple[Key[R], R]]:
        """Return the rows of a part in order, only those after a place, reading few more than the caller consumes.

        It is falsy when there are none.
        """
        rows = self.scan(table, part, _WALK_ROWS_MIN, after)
        if len(rows) < _WALK_ROWS_MIN:
            return rows
        return chain(rows, self._walk_further(table, part, rows[-1][0].sort))

    def _walk_further(self, table: Table[R], part: bytes, after: bytes) -> Iterator[tuple[Key[R], R]]:
        count = _WALK_ROWS_MIN
        while after:
            count = min(2 * count, _WALK_ROWS_MAX)
            rows = self.scan(table, part, count, after)
            yield from rows
            after = rows[-1][0].sort if len(rows) == count else b""

    def put(self, key: Key[R], row: R) -> None:
        """Write a row."""
        written: Any = row
        self._layer.put(key, written)
        self._changes.append(Put(key, written))

    def delete(self, key: Key[Any]) -> None:
        """Delete a row."""
        self._layer.put(key, None)
        self._changes.append(Delete(key))

    # Runs, steps and functions.

    def run(self, run_id: str) -> Run | None:
        """Return a run that has not ended."""
        if run_id not in self._runs:
            self._runs[run_id] = self.get(run_key(run_id))
        return self._runs[run_id]

    def events(self, run_id: str) -> tuple[EventRecord, ...]:
        """Return the events that started a run; none when it has ended."""
        row = self.get(run_events_key(run_id))
        return row.events if row else ()

    def step(self, run_id: str, step: str) -> OpenStep | None:
        """Return a step that has no result."""
        return self.get(step_key(run_id, step))

    def memo(self, run_id: str, step: str) -> Memo | None:
        """Return the result of a step."""
        return self.get(memo_key(run_id, step))

    def function(self, function_id: str) -> FunctionRegistered | None:
        """Return a registered function, even a retired one."""
        return self.get(function_key(function_id))

    def put_run(self, run: Run) -> None:
        """Write a run that was read before; its life cycle must allow the move."""
        check_run(self._runs.get(run.run_id), self.record_type, run)
        self._runs[run.run_id] = run
        self.put(run_key(run.run_id), run)

    def begin(self, run: Run, began: RunBegan, copied: Sequence[Memo] = ()) -> Run:
        """Write a new run with its first history entry, and with the results that it takes over from another run.

        Return the run as it was written; raise LimitExceeded as `record` does.
        """
        self._check_limits(run)
        run = replace(run, history_seq=began.seq + len(copied))
        self.put_run(run)
        self._append(run.run_id, began)
        for seq, memo in enumerate(copied, began.seq + 1):
            self.keep_memo(run.run_id, memo, None)
            fields = (memo.step, memo.id, memo.kind, memo.outcome, memo.seen, memo.own, memo.fingerprint)
            self._append(run.run_id, StepCopied(run.run_id, seq, self.now, *fields))
        return run

    def record(
        self,
        run: Run,
        entry: Callable[Concatenate[str, int, int, P], HistoryEntry],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Run:
        """Write a run with its next history entry; return the run as it was written.

        Raises LimitExceeded, and changes nothing, when the run grows beyond its limits.
        """
        self._check_limits(run)
        run = replace(run, history_seq=run.history_seq + 1)
        self.put_run(run)
        self._append(run.run_id, entry(run.run_id, run.history_seq, self.now, *args, **kwargs))
        return run

    def record_end(
        self, run: Run, entry: Callable[Concatenate[str, int, int, P], RunEnded], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Delete a run with its last history entry."""
        check_run(self._runs.get(run.run_id), self.record_type, None)
        self._runs[run.run_id] = None
        self.delete(run_key(run.run_id))
        self._append(run.run_id, entry(run.run_id, run.history_seq + 1, self.now, *args, **kwargs))

    def warn(self, run: Run, warning: str) -> None:
        """Write a run with a warning. A warning is recorded once, and a run has a bounded number of them."""
        if warning in run.warnings or len(run.warnings) >= WARNINGS_PER_RUN_MAX:
            self.put_run(run)
            return
        self.count("run_warnings", run.function)
        self.record(replace(run, warnings=(*run.warnings, warning)), RunWarned, warning)

    def _append(self, run_id: str, entry: HistoryEntry) -> None:
        # In the partition of the shard: one by the key would change when an operator adds partitions to the topic.
        self._changes.append(Send(HISTORY, run_id, entry, self.shard))

    def _check_limits(self, run: Run) -> None:
        # A run that exceeds limits which were lowered since ends when it grows, not when it is paused or resumed.
        before = self._runs.get(run.run_id)
        grows = before is None or run.steps > before.steps or run.memo_bytes > before.memo_bytes
        if grows and (error := self.exceeded(run)):
            raise LimitExceeded(run.run_id, error)

    def exceeded(self, run: Run) -> ErrorInfo | None:
        """Return the error with which a run ends that has outgrown its limits, None if it has not."""
        limits = self.limits
        if run.steps > limits.steps_per_run_max:
            message = f"the run has more than {limits.steps_per_run_max:,} steps"
            return ErrorInfo("StepLimitError", message, code="step-limit")
        if run.memo_bytes > limits.run_memo_bytes_max:
            message = f"the results of the run's steps exceed {limits.run_memo_bytes_max:,} bytes"
            return ErrorInfo("RunStateLimitError", message, code="run-state-limit")
        return None

    def put_step(self, run_id: str, step: str, before: OpenStep | None, after: OpenStep) -> None:
        """Write a step without a result, whose row was `before`."""
        check_step(before, self.record_type, state_of_step(after))
        if before is None or before.kind != after.kind:
            self._count_closed(before)
            self.count("open_steps", after.kind)
        self.put(step_key(run_id, step), after)

    def cancel_step(self, run_id: str, step: str, before: OpenStep) -> None:
        """Delete a step without a result while its run continues."""
        check_step(before, self.record_type, "absent")
        self.delete_step(step_key(run_id, step), before)

    def delete_step(self, key: Key[OpenStep], before: OpenStep) -> None:
        """Delete a step without a result, in any state: its run ends."""
        self._count_closed(before)
        self.delete(key)

    def keep_memo(self, run_id: str, memo: Memo, before: OpenStep | None) -> None:
        """Write the result of a step, whose row was `before`, and close the step."""
        check_step(before, self.record_type, "kept")
        if before is not None:
            self.delete_step(step_key(run_id, memo.step), before)
        self.put(memo_key(run_id, memo.step), memo)

    def _count_closed(self, before: OpenStep | None) -> None:
        if before is not None:
            self.count("open_steps", before.kind, amount=-1)

    # Timers.

    def arm(self, due: int, timer: Timer) -> None:
        """Set a timer that fires at `due` (Unix ms)."""
        self.put(timer_key(due, timer), timer)

    def disarm(self, due: int, timer: Timer) -> None:
        """Remove a timer that has not fired; with a `due` of 0 there is none."""
        if due:
            self.delete(timer_key(due, timer))

    # Records to others.

    def owns(self, routing_key: str) -> bool:
        """Return whether this shard owns `routing_key`."""
        return shard_of(routing_key, self.shards) == self.shard

    def route(self, routing_key: str, record: InboxRecord) -> None:
        """Send a record to the shard that owns `routing_key`."""
        self._changes.append(Send(INBOX, routing_key, record, shard_of(routing_key, self.shards)))

    def route_in_order(self, routing_key: str, record: InboxRecord) -> None:
        """Send a record to the shard that owns `routing_key`, behind all that was sent there before.

        It goes through the log even to this shard, which may not have read yet what another shard committed earlier.
        A single shard needs no such detour.
        """
        to = shard_of(routing_key, self.shards)
        self._changes.append(Send(INBOX, routing_key, record, to, later=self.shards > 1))

    def route_later(self, routing_key: str, record: InboxRecord) -> None:
        """Send a record to the shard that owns `routing_key`, which applies it as a separate input.

        If it cannot be applied, it becomes a dead letter alone, and what sent it stays.
        """
        self._changes.append(Send(INBOX, routing_key, record, shard_of(routing_key, self.shards), later=True))

    def route_to_run(self, run_id: str, record: InboxRecord) -> None:
        """Send a record to the shard that owns a run."""
        self.route(run_routing(run_id), record)

    def send_to_all(self, key: str, record: InboxRecord) -> None:
        """Send a record to every shard."""
        for shard in range(self.shards):
            self._changes.append(Send(INBOX, key, record, shard))

    def continue_later(self, routing_key: str, record: InboxRecord) -> None:
        """Send this shard a record that it applies in a later batch."""
        self._changes.append(Send(INBOX, routing_key, record, self.shard, later=True))

    def command(self, app: str, command: Command, queue: str = "") -> None:
        """Send a command to the workers of `app`, or of one of its queues, in the partition of this shard."""
        self._changes.append(Send(commands_topic(app, queue), command.run_id, command, self.shard))

    def emit(self, run: Run, event: EventRecord) -> None:
        """Publish an event of a run, which follows it in its chain."""
        self._changes.append(Send(EVENTS, event.id, event, chain=run.chain + 1))

    def reply(self, to: str, status: str) -> None:
        """Answer a caller; with an empty `to` no answer is expected."""
        if to:
            self._changes.append(Reply(to, status))

    def record_bulk(self, entry: BulkChanged) -> None:
        """Publish the state of a bulk operation."""
        self._changes.append(Send(HISTORY, entry.operation, entry, self.shard))

    def answer(self, request: RunOperation, status: str, outcome: str = "", reason: str = "") -> None:
        """Answer a request, and report the outcome (by default the status) to the bulk operation that sent it."""
        self.reply(request.reply_to, status)
        if request.bulk:
            operation, item = request.bulk.operation, request.bulk.item
            self.route(operation, BulkItemEnded(operation, item, outcome or status, reason))

    # Metrics.

    def count(self, name: str, *labels: str, amount: int = 1) -> None:
        """Add to a counter; labels must have few distinct values."""
        count = (name, *labels)
        self.counts[count] = self.counts.get(count, 0) + amount

    def time(self, name: str, label: str, since_ms: int) -> None:
        """Measure the time from `since_ms` (Unix ms) to this batch."""
        self._samples.append(Sample(name, label, max(self.now - since_ms, 0)))

    def result(self) -> Changes:
        """Return what was collected."""
        return Changes(tuple(self._changes), self.counts, self._samples)
