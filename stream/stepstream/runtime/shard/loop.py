"""The loop of one shard: the only place where the order of a commit is written down."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from stepstream.contract.errors import StepstreamError, TooLarge
from stepstream.contract.events import ENGINE_ORIGIN, ORIGIN_HEADER, decode_event
from stepstream.contract.functions import FunctionRegistered, decode_function
from stepstream.contract.inbox import InboxRecord, decode_inbox
from stepstream.contract.limits import (
    BATCH_MS_MAX,
    DEFAULT_LIMITS,
    RECORDS_PER_BATCH_MAX,
    Limits,
)
from stepstream.contract.topics import EVENTS, FUNCTIONS
from stepstream.engine.state.changes import Count, Sample
from stepstream.engine.state.records import EventReceived, Input, Tick
from stepstream.engine.state.rows import OpenCount, Position
from stepstream.engine.state.tables import (
    OPEN_COUNTS,
    POSITIONS,
    REGISTRATIONS,
    encode_row,
    open_count_key,
    open_count_of,
    position_key,
    position_of,
)
from stepstream.engine.state.view import Layer, scan_table
from stepstream.engine.transition import due_timers, next_due, transition
from stepstream.runtime.dead_letters import kind_of
from stepstream.runtime.ports import Clock, Log, LogRecord, Offsets, Store, StoreError
from stepstream.runtime.shard.batch import Batch, Part
from stepstream.runtime.shard.tables import StoreView, open_tables

logger = logging.getLogger(__name__)
# After so long the places of records that changed nothing are committed, for those who watch how far the reading is.
_IDLE_MS_MAX = 1_000
# Where the letter of a timer says that it came from: no topic has it.
_TIMERS = "timers"


class Taken(NamedTuple):
    """A batch: it took `seconds`, of which the commit took `commit_seconds`, 0 where there was nothing to commit."""

    records: int
    counts: Mapping[Count, int]
    samples: Sequence[Sample]
    seconds: float
    commit_seconds: float


class Observer(Protocol):
    """Who watches a shard; called once a committed batch."""

    def recovered(self, shard: int, open_counts: Mapping[tuple[str, str], int], functions: Sequence[str]) -> None:
        """The shard serves; so many runs and steps are open in its tables, and it knows these functions."""

    def committed(self, shard: int, taken: Taken) -> None:
        """A batch was committed, or changed nothing."""

    def left(self, shard: int) -> None:
        """The shard does not serve any more."""


class Shard:
    """One shard served by one owner: fence, recover, then fold the log, batch by batch."""

    def __init__(
        self,
        log: Log,
        store: Store,
        clock: Clock,
        *,
        shard: int = 0,
        shards: int = 1,
        limits: Limits = DEFAULT_LIMITS,
        answer: Callable[[str, str], object] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._log = log
        self._store = store
        self._clock = clock
        self._shard = shard
        self._shards = shards
        self._limits = limits
        self._answer = answer
        self._observer = observer
        self._view = StoreView(store)
        self._rest: list[LogRecord] = []
        self._idle_records = 0
        self._idle_offsets: Offsets = {}
        self._idle_until = 0
        self._open: dict[tuple[str, str], int] = {}
        self.serving = False
        self.due: int | None = None
        self.rows_read = 0

    async def serve(self) -> None:
        """Serve until cancelled or until the log is in doubt; then the caller begins again with fresh ports.

        1. Open the log: this fences an older owner and ends its open transaction.
        2. Open the tables and read their changelog position; those of another changelog are thrown away.
        3. Recover: write the changelog from that position to its end.
        4. Seek the inputs to the offsets that the tables have, and only then read.
        """
        try:
            begun = time.monotonic()
            await self._log.open()
            position = await open_tables(self._store, self._log.origin)
            logger.info(
                "shard %d recovers from changelog position %d", self._shard, position, extra={"shard": self._shard}
            )
            async for rows, after in self._log.changelog(position):
                self._store.write(rows, after)
                self.rows_read += len(rows)
            self._open = {open_count_of(key): row.count for key, row in scan_table(self._view, OPEN_COUNTS)}
            await self._log.seek({position_of(key): row.offset for key, row in scan_table(self._view, POSITIONS)})
            self.serving = True
            if self._observer:
                self._observer.recovered(self._shard, self._open, [function.id for function in self.functions()])
            took = time.monotonic() - begun
            logger.info(
                "shard %d serves after %.2f s and %d rows of its changelog",
                self._shard,
                took,
                self.rows_read,
                extra={"shard": self._shard},
            )
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

    def functions(self) -> list[FunctionRegistered]:
        """Return all functions that the shard knows, also those that are retired; only while it serves."""
        return [row for _, row in scan_table(self._view, REGISTRATIONS)]

    async def _pass(self) -> None:
        self.due = next_due(self._view)
        until = min(filter(None, (self.due, self._idle_until)), default=None)
        records = self._rest or await self._log.poll(RECORDS_PER_BATCH_MAX, until)
        begun = time.perf_counter()
        now = self._clock.now_ms()
        batch = Batch(now, Layer(self._view), begun_at=now, offsets=self._idle_offsets)
        if self.due is not None and self.due <= batch.now:
            self._fire(batch)
        self._fold(batch, records)
        begun += await self._hold(batch)
        self._count_open(batch)
        committing = time.perf_counter()
        committed = await self._conclude(batch)
        if self._rest:
            await asyncio.sleep(0)  # No reading waits; else those who share the process might have no turn.
        if self._observer:
            ended = time.perf_counter()
            commit_s = ended - committing if committed else 0.0
            taken = Taken(batch.taken, batch.counts, batch.samples, ended - begun, commit_s)
            self._observer.committed(self._shard, taken)

    async def _hold(self, batch: Batch) -> float:
        """Hold a batch back for a moment if nobody waits for it, and fold what comes; return for how many seconds.

        Else the first report of a short run would begin a commit that the end of the run has to wait for. What is due
        meanwhile, also by this batch itself, is not held up.
        """
        held = 0.0
        while batch.can_wait and not self._rest:
            since = time.perf_counter()
            records = await self._log.more(RECORDS_PER_BATCH_MAX, next_due(batch.overlay))
            held += time.perf_counter() - since
            if not records:
                break
            batch.now = self._clock.now_ms()
            self._fold(batch, records)
        return held

    def _count_open(self, batch: Batch) -> None:
        """Keep what is open with the tables, so that it is known after a move without a look at every row."""
        for count, amount in batch.counts.items():
            if amount and count[0].startswith("open_"):
                # Nothing counted the runs of tables that are older than this row.
                name, label = count
                now = self._open[name, label] = max(self._open.get((name, label), 0) + amount, 0)
                batch.put(open_count_key(name, label), OpenCount(now) if now else None)

    async def _conclude(self, batch: Batch) -> bool:
        """Commit a batch; one that changes nothing waits for the next: were it read again, it would change nothing.

        Return whether it was committed.
        """
        self._idle_records += batch.taken
        late = self._idle_records >= RECORDS_PER_BATCH_MAX or 0 < self._idle_until <= batch.now
        if batch.rows or batch.outputs or batch.replies or late:
            await self._commit(batch)
            if told := batch.count_dead_letters:
                extra = {"shard": self._shard}
                logger.warning("%d put aside in dead-letters: %s", len(batch.letters), told, extra=extra)
            self._idle_records, self._idle_offsets, self._idle_until = 0, {}, 0
            return True
        if batch.taken:
            self._idle_offsets = batch.offsets
            self._idle_until = self._idle_until or batch.now + _IDLE_MS_MAX
        return False

    async def _commit(self, batch: Batch) -> None:
        """Make a batch durable, then known.

        1. Begin. 2. Send outputs and changelog rows, those of the inputs' offsets among them, and await every
        acknowledgement. 3. Commit. 4. Write rows and changelog position as one. 5. Only then answer those who wait.
        """
        rows = [(key.encode(), value) for key, value in batch.rows.items()]
        rows += [(position_key(*at).encode(), encode_row(Position(offset))) for at, offset in batch.offsets.items()]
        await self._log.begin()
        await self._log.send(batch.outputs, rows)
        position = await self._log.commit(batch.offsets)
        self._store.write(rows, position)
        if self._answer:
            for reply in batch.replies:
                self._answer(reply.to, reply.status)

    def _is_full(self, batch: Batch) -> bool:
        """Tell whether a batch is to be committed before more is done: each input is bounded, and many add up."""
        begun = batch.size or batch.taken
        return batch.full or (begun > 0 and self._clock.now_ms() - batch.begun_at >= BATCH_MS_MAX)

    def _fire(self, batch: Batch) -> None:
        """Let time come to the timers that are due until the batch is full; the others are due still."""
        for key, timer in due_timers(self._view, batch.now):
            if self._is_full(batch):
                return
            origin = LogRecord(_TIMERS, -1, -1, key.sort, encode_row(timer), (), batch.now)
            if not self._apply(batch, Tick(key), origin):
                batch.put(key, None)

    def _fold(self, batch: Batch, records: list[LogRecord]) -> None:
        """Apply records until the batch is full; the rest is for the next one."""
        self._rest = []
        for taken, record in enumerate(records):
            if self._is_full(batch):
                self._rest = records[taken:]
                return
            batch.taken += 1
            batch.bytes += len(record.value)
            batch.offsets[record.topic, record.partition] = record.offset + 1
            try:
                value = _decode(record, self._limits)
            except (StepstreamError, msgspec.MsgspecError, ValueError, RecursionError) as error:
                batch.dead_letter(record, str(error), kind_of(error))
            else:
                self._apply(batch, value, record)

    def _apply(self, batch: Batch, value: Input, origin: LogRecord) -> bool:
        """Apply an input and all that follows from it in this shard; what cannot be done is put aside, all undone.

        Return whether it was done.
        """
        part = Part(batch.overlay, self._shard)
        queue: deque[Input] = deque([value])
        try:
            while queue:
                changes = transition(
                    part.layer,
                    queue.popleft(),
                    batch.now,
                    shard=self._shard,
                    shards=self._shards,
                    limits=self._limits,
                )
                queue.extend(part.take(changes))
            batch.add(part)
        except StoreError:
            raise
        except Exception as error:
            extra = {"shard": self._shard}
            logger.exception("a record of %s could not be applied and is put aside", origin.topic, extra=extra)
            kind = "too-large" if isinstance(error, TooLarge) else "not-applicable"
            batch.dead_letter(origin, f"{type(error).__name__}: {error}", kind)
            return False
        return True


def _decode(record: LogRecord, limits: Limits) -> Input:
    if record.topic == EVENTS:
        own = (ORIGIN_HEADER, ENGINE_ORIGIN) in record.headers
        event = decode_event(record.value, limits, own=own)
        position = f"{record.topic}-{record.partition}-{record.offset}"
        return EventReceived(event, position, record.timestamp, own)
    if record.topic == FUNCTIONS:
        return decode_function(record.value)
    inbox_record: InboxRecord = decode_inbox(record.value)
    return inbox_record
