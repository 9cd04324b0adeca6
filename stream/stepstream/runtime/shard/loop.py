"""The loop of one shard; it is the only place that defines the order of a commit."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

import msgspec

from stepstream.contract.errors import StepstreamError
from stepstream.contract.events import CHAIN_HEADER, ENGINE_ORIGIN, ORIGIN_HEADER, decode_event
from stepstream.contract.functions import FunctionRegistered, decode_function
from stepstream.contract.inbox import InboxRecord, decode_inbox
from stepstream.contract.limits import BATCH_MS_MAX, DEFAULT_LIMITS, MINUTE_MS, RECORDS_PER_BATCH_MAX, Limits
from stepstream.contract.text.wording import counted
from stepstream.contract.topics import EVENTS, FUNCTIONS
from stepstream.engine.state.changes import Count, Sample
from stepstream.engine.state.records import EventReceived, Input, ShardOpened, Tick
from stepstream.engine.state.rows import OpenCount, Position
from stepstream.engine.state.tables import (
    OPEN_COUNTS,
    POSITIONS,
    REGISTRATIONS,
    TIMERS,
    encode_row,
    open_count_key,
    open_count_of,
    position_key,
    position_of,
)
from stepstream.engine.state.view import Layer, scan_table
from stepstream.engine.transition import due_timers, next_due, transition
from stepstream.runtime.dead_letters import kind_of, unreadable_kind
from stepstream.runtime.overview import ScopeChangeView, ScopePauseView
from stepstream.runtime.ports import Clock, Log, LogRecord, Offsets, Store, StoreError, TopicPartition
from stepstream.runtime.shard.batch import Batch, Effects
from stepstream.runtime.shard.gate_waits import OldestWaits
from stepstream.runtime.shard.scope_views import pause_change_views, pause_views
from stepstream.runtime.shard.tables import StoreView, open_tables

logger = logging.getLogger(__name__)
# The offsets of inputs that changed nothing are committed after this time, so that the lag of the shard is current.
_UNCHANGED_MS_MAX = 1_000
# The origin of a timer's dead letter, in place of a topic.
_TIMERS = "timers"
# After this many passes of less than a millisecond each, other tasks of the process run.
_PASSES_PER_ITERATION_MAX = 16
# A pass yields one more iteration to other tasks for each such period that it held the event loop, up to a maximum.
_HELD_MS_PER_ITERATION = 8
_ITERATIONS_MAX = 8
_CHAIN_DIGITS_MAX = 9


class BatchStats(NamedTuple):
    """A batch of `records` inputs that took `seconds`, of which its commit took `commit_seconds` (0: no commit).

    `applied` also counts the records that the shard sent to itself. `events` counts, by name, the events that the shard
    matched with waits.
    """

    records: int
    counts: Mapping[Count, int]
    samples: Sequence[Sample]
    seconds: float
    commit_seconds: float
    applied: int = 0
    events: Mapping[str, int] = MappingProxyType({})


class Observer(Protocol):
    """Observes a shard; called at most once per batch."""

    def recovered(self, shard: int, open_counts: Mapping[tuple[str, str], int], functions: Sequence[str]) -> None:
        """The shard serves. Its tables have these counts of open runs and steps, and these functions."""

    def committed(self, shard: int, batch: BatchStats) -> None:
        """A batch was committed, or changed nothing."""

    def left(self, shard: int) -> None:
        """The shard no longer serves."""


@dataclass(frozen=True, slots=True)
class ShardOptions:
    """Which shard of how many, and what it reports: answers by their address and status, batches to an observer."""

    shard: int = 0
    shards: int = 1
    limits: Limits = DEFAULT_LIMITS
    answer: Callable[[str, str], object] | None = None
    observer: Observer | None = None


class Shard:
    """One shard with one owner: it fences the previous owner, recovers, and then folds its inputs batch by batch."""

    def __init__(self, log: Log, store: Store, clock: Clock, options: ShardOptions | None = None) -> None:
        options = options or ShardOptions()
        self._log = log
        self._store = store
        self._clock = clock
        self._shard = options.shard
        self._shards = options.shards
        self._limits = options.limits
        self._answer = options.answer
        self._observer = options.observer
        self._view = StoreView(store)
        self._waits = OldestWaits(self._view)
        # Inputs that were read and did not fit into the last batch.
        self._rest: list[LogRecord] = []
        # Inputs since the last commit that changed nothing: how many, their offsets, and when these are committed.
        self._unchanged_inputs = 0
        self._unchanged_offsets: Offsets = {}
        self._unchanged_until = 0
        # Passes since other tasks of the process could run.
        self._passes = 0
        self._open: dict[tuple[str, str], int] = {}
        self._extra = {"shard": options.shard}
        self._recovered_at = 0
        self.serving = False
        self.due: int | None = None
        self.rows_read = 0

    async def serve(self) -> None:
        """Serve until cancelled, or until the log fails; then the caller restarts the shard with new ports.

        1. Open the log: this fences an older owner and aborts its open transaction.
        2. Open the tables and read their changelog position; tables of another changelog are set aside.
        3. Recover: apply the changelog to the tables, from that position to its end.
        4. Seek the inputs to the offsets in the tables; only then read them.
        """
        try:
            started = time.monotonic()
            await self._log.open()
            position, left = await open_tables(self._store, self._log.origin)
            logger.info("shard %d recovers from changelog position %d", self._shard, position, extra=self._extra)
            async for rows, after in self._log.changelog(position):
                self._store.write(rows, after)
                self.rows_read += len(rows)
            self._open = {open_count_of(key): row.count for key, row in scan_table(self._view, OPEN_COUNTS)}
            await self._log.seek(self._offsets(left))
            await self._review()
            self.due = next_due(self._view)
            self.serving = True
            self._recovered_at = self._clock.now_ms()
            if self._observer:
                self._observer.recovered(self._shard, self._open, [function.id for function in self.functions()])
            recovered = f"{counted(self.rows_read, 'row')} in {time.monotonic() - started:.2f} s"
            logger.info("shard %d recovered %s", self._shard, recovered, extra=self._extra)
            while True:
                await self._pass()
        finally:
            self.serving = False
            if self._observer:
                self._observer.left(self._shard)
            try:
                self._store.close()
            finally:
                await self._log.close()

    def _offsets(self, left: Mapping[TopicPartition, Position]) -> Offsets:
        """Return the offsets from which to read the inputs; one whose topic was created again has none.

        If the changelog is new, the offsets are those that were `left` in the tables of the old one, and the next pass
        commits them: all open runs are lost, but no event is processed twice. Functions are read again, as they are
        rows of the tables.
        """
        offsets: Offsets = {}
        for key, row in scan_table(self._view, POSITIONS):
            topic, partition = position_of(key)
            current = self._log.topic_id(topic)
            # Without ids, topics are assumed to be the same.
            if not row.topic or not current or row.topic == current:
                offsets[topic, partition] = row.offset
                continue
            again = "shard %d reads %s-%d from its beginning: the topic was deleted and created again"
            logger.warning(again, self._shard, topic, partition, extra=self._extra)
        same = {at: row for at, row in left.items() if row.topic and row.topic == self._log.topic_id(at[0])}
        carried = {at: row.offset for at, row in same.items() if at[0] != FUNCTIONS and at not in offsets}
        self._unchanged_offsets, self._unchanged_until = carried, self._clock.now_ms() if carried else 0
        return carried | offsets

    def functions(self) -> list[FunctionRegistered]:
        """Return all functions in the tables, retired ones included; call it only while the shard serves."""
        return [row for _, row in scan_table(self._view, REGISTRATIONS)]

    def pauses(self) -> list[ScopePauseView]:
        """Return the pauses of functions and queues; call it only while the shard serves."""
        return pause_views(self._view)

    def pause_changes(self, scope: str) -> list[ScopeChangeView]:
        """Return the latest pauses and resumptions of a function or a queue; call it only while the shard serves."""
        return pause_change_views(self._view, scope)

    def oldest_waits(self) -> Mapping[str, int]:
        """Return since when runs wait for limits, as OldestWaits; call it only while the shard serves."""
        return self._waits.read()

    async def _review(self) -> None:
        """Let the engine review what depends on the clock of the last owner; nearly always that changes nothing."""
        now = self._clock.now_ms()
        batch = Batch(now, Layer(self._view), started_at=now)
        self._apply(batch, ShardOpened(), LogRecord(_TIMERS, -1, -1, b"", b"", (), now))
        if batch.rows or batch.outputs:
            await self._commit(batch)

    async def _pass(self) -> None:
        until = min(filter(None, (self.due, self._unchanged_until)), default=None)
        records = self._rest or await self._log.poll(RECORDS_PER_BATCH_MAX, until)
        started = time.perf_counter()
        now = self._clock.now_ms()
        batch = Batch(now, Layer(self._view), started_at=now, offsets=self._unchanged_offsets)
        if self.due is not None and self.due <= batch.now:
            self._fire(batch, self._read_to(records, now))
        self._fold(batch, records)
        started += await self._delay(batch)
        self._count_open(batch)
        committing = time.perf_counter()
        committed = await self._conclude(batch)
        self.due = self._due_after(batch)
        await self._let_others_run(batch)
        if self._observer:
            ended = time.perf_counter()
            commit_s = ended - committing if committed else 0.0
            stats = BatchStats(
                batch.inputs, batch.counts, batch.samples, ended - started, commit_s, batch.applied, batch.events
            )
            self._observer.committed(self._shard, stats)

    async def _let_others_run(self, batch: Batch) -> None:
        """Let other tasks of the process run, for more iterations of the event loop the longer this pass held it.

        A pass may await nothing: an embedded log has the next records at once and commits without waiting. A request
        takes about eight iterations. With one iteration after each pass, it would wait for eight passes.
        """
        held_ms = self._clock.now_ms() - batch.started_at
        self._passes += 1
        if self._rest or held_ms > 0 or self._passes >= _PASSES_PER_ITERATION_MAX:
            self._passes = 0
            for _ in range(1 + min(held_ms // _HELD_MS_PER_ITERATION, _ITERATIONS_MAX)):
                await asyncio.sleep(0)

    async def _delay(self, batch: Batch) -> float:
        """Delay a batch that nothing waits for, and fold what arrives meanwhile; return the delay in seconds.

        Otherwise the first report of a short run would start a commit that the end of the run has to wait for. The
        delay ends at the latest when a timer is due, even a timer of this batch.
        """
        delayed = 0.0
        while batch.can_wait and not self._rest:
            since = time.perf_counter()
            records = await self._log.more(RECORDS_PER_BATCH_MAX, self._due_after(batch))
            delayed += time.perf_counter() - since
            if not records:
                break
            batch.now = self._clock.now_ms()
            self._fold(batch, records)
        return delayed

    def _due_after(self, batch: Batch) -> int | None:
        """Return when the earliest timer is due once a batch is committed; few batches change a timer."""
        return next_due(batch.overlay) if batch.overlay.changes(TIMERS.prefix) else self.due

    def _count_open(self, batch: Batch) -> None:
        """Write the counts of open runs and steps to the tables, so that the next owner need not scan every row."""
        for count, amount in batch.counts.items():
            if amount and count[0].startswith("open_"):
                # Tables that are older than this row have runs that were never counted.
                name, label = count
                now = self._open[name, label] = max(self._open.get((name, label), 0) + amount, 0)
                batch.put(open_count_key(name, label), OpenCount(now) if now else None)

    async def _conclude(self, batch: Batch) -> bool:
        """Commit a batch; return whether it was committed.

        One that changes nothing is left to the next commit: reading its inputs again would change nothing either.
        """
        self._unchanged_inputs += batch.inputs
        late = self._unchanged_inputs >= RECORDS_PER_BATCH_MAX or 0 < self._unchanged_until <= batch.now
        if batch.rows or batch.outputs or batch.replies or late:
            await self._commit(batch)
            if batch.dead_letters:
                moved = "shard %d moved %s to dead-letters: %s"
                records = counted(len(batch.dead_letters), "record")
                logger.warning(moved, self._shard, records, batch.reasons, extra=self._extra)
            self._unchanged_inputs, self._unchanged_offsets, self._unchanged_until = 0, {}, 0
            return True
        if batch.inputs:
            self._unchanged_offsets = batch.offsets
            self._unchanged_until = self._unchanged_until or batch.now + _UNCHANGED_MS_MAX
        return False

    async def _commit(self, batch: Batch) -> None:
        """Make a batch durable, then visible.

        1. Begin a transaction.
        2. Send the outputs and the changelog rows, which include the input offsets, and await every acknowledgement.
        3. Commit the transaction.
        4. Write the rows and the changelog position to the tables, atomically.
        5. Only then answer the callers.
        """
        rows = [(key.encode(), value) for key, value in batch.rows.items()]
        for at, offset in batch.offsets.items():
            rows.append((position_key(*at).encode(), encode_row(Position(offset, self._log.topic_id(at[0])))))
        await self._log.begin()
        await self._log.send(batch.outputs, rows)
        position = await self._log.commit(batch.offsets)
        self._store.write(rows, position)
        self._view.note(batch.rows)
        if self._answer:
            for reply in batch.replies:
                self._answer(reply.to, reply.status)

    def _is_full(self, batch: Batch) -> bool:
        """Return whether a batch must be committed first: each input is bounded, but many of them add up."""
        started = batch.size or batch.inputs
        return batch.full or (started > 0 and self._clock.now_ms() - batch.started_at >= BATCH_MS_MAX)

    def _read_to(self, records: list[LogRecord], now: int) -> int:
        """Return the time (Unix ms) before which the log took no record that is unread, as far as is known.

        For a while after a recovery, the next records may be those of one input, and older ones of another follow.
        """
        if now < self._recovered_at + MINUTE_MS:
            return 0
        return min((record.timestamp for record in records if record.timestamp > 0), default=now)

    def _fire(self, batch: Batch, read_to: int) -> None:
        """Fire the timers that are due until the batch is full; the rest stay due. One that fails fires again later."""
        for key, timer in due_timers(self._view, batch.now):
            if self._is_full(batch):
                return
            origin = LogRecord(_TIMERS, -1, -1, key.sort, encode_row(timer), (), batch.now)
            if not self._apply(batch, Tick(key, read_to), origin):
                batch.retry(key, timer)

    def _fold(self, batch: Batch, records: list[LogRecord]) -> None:
        """Apply records until the batch is full; the rest go into the next one."""
        self._rest = []
        for index, record in enumerate(records):
            if self._is_full(batch):
                self._rest = records[index:]
                return
            batch.inputs += 1
            batch.bytes += len(record.value)
            batch.offsets[record.topic, record.partition] = record.offset + 1
            if record.unreadable:
                batch.dead_letter(record, record.unreadable.reason, unreadable_kind(record.unreadable))
                continue
            try:
                value = _decode(record)
            except (StepstreamError, msgspec.MsgspecError, ValueError, RecursionError) as error:
                batch.dead_letter(record, str(error), kind_of(error))
            else:
                self._apply(batch, value, record)

    def _apply(self, batch: Batch, value: Input, origin: LogRecord) -> bool:
        """Apply an input with all the records that it sends to this shard; return whether that succeeded.

        An input that fails changes nothing and becomes a dead letter.
        """
        effects = Effects(batch.overlay, self._shard)
        queue: deque[Input] = deque([value])
        at, of, limits = self._shard, self._shards, self._limits
        try:
            while queue:
                batch.note(step := queue.popleft())
                changes = transition(effects.layer, step, batch.now, shard=at, shards=of, limits=limits)
                queue.extend(effects.add(changes))
            batch.add(effects)
        except StoreError:
            raise
        except Exception as error:
            failed = "shard %d cannot apply a record of %s, and moves it to dead-letters"
            logger.exception(failed, self._shard, origin.topic, extra=self._extra)
            batch.fail(value, origin, error, of)
            return False
        return True


def _decode(record: LogRecord) -> Input:
    if record.topic == EVENTS:
        own = (ORIGIN_HEADER, ENGINE_ORIGIN) in record.headers
        event = decode_event(record.value, own=own)
        position = f"{record.topic}-{record.partition}-{record.offset}"
        return EventReceived(event, position, record.timestamp, own, _chain_of(record))
    if record.topic == FUNCTIONS:
        return decode_function(record.value)
    inbox_record: InboxRecord = decode_inbox(record.value)
    return inbox_record


def _chain_of(record: LogRecord) -> int:
    """Return how many runs precede an event in its chain; other producers need not know the header."""
    found = next((value for name, value in record.headers if name == CHAIN_HEADER), b"")
    return int(found) if found and len(found) <= _CHAIN_DIGITS_MAX and found.isdigit() else 0
