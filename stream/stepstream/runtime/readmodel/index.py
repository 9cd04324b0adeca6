"""The read model: history folded into tables, which answer where a run is and what it waits for."""

import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from stepstream.contract.history import HistoryEntry, HistoryRecord, decode_history_record
from stepstream.contract.logs import StepLogged, decode_logged
from stepstream.contract.operators.bulk import BulkChanged
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord, Offsets, StoreError, TopicPartition
from stepstream.runtime.readmodel import reading
from stepstream.runtime.readmodel.changes import RunChanges
from stepstream.runtime.readmodel.dialect import Database, Tables, lock_sums
from stepstream.runtime.readmodel.folding import write_entries
from stepstream.runtime.readmodel.pruning import STEPS_PER_STATEMENT, DroppedRuns, Retention, drop_slice, limit_of
from stepstream.runtime.readmodel.queries import RunQueries
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.search.search import list_runs, search
from stepstream.runtime.readmodel.sqlite_tables import SqliteTables
from stepstream.runtime.readmodel.stats import RunStats
from stepstream.runtime.readmodel.tables.approvals import ApprovalView, find_approval, open_approvals
from stepstream.runtime.readmodel.tables.error_groups import drop_groups
from stepstream.runtime.readmodel.tables.folded_positions import position_of, put_position
from stepstream.runtime.readmodel.tables.logged_lines import LoggedLine, add_lines, drop_lines, read_lines
from stepstream.runtime.readmodel.tables.recorded import RecordedRun, recorded_run
from stepstream.runtime.readmodel.tables.timings import drop_timings
from stepstream.runtime.readmodel.views import RunSummary, RunView

logger = logging.getLogger(__name__)
# The file of a data directory that has the read model.
RUNS_FILE = "runs.sqlite"
_PAGE = 1_000
E = TypeVar("E", bound=HistoryRecord | StepLogged)
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, OverflowError, RecursionError)


def _wall_ms() -> int:
    return round(time.time() * 1_000)


def _run_ids(entries: Sequence[HistoryRecord | StepLogged]) -> Iterator[str]:
    """Yield the runs that entries are about."""
    return (entry.run_id for entry in entries if not isinstance(entry, BulkChanged))


class _NotFolded(Exception):
    """A record that the tables cannot store."""

    def __init__(self, record: LogRecord) -> None:
        super().__init__(record)
        self.record = record


class RunIndex:
    """Runs and their steps, indexed by run, function, status and event. Folding an entry again changes nothing.

    The tables are in the file `place` (None: in memory), or where other Tables have them. `keep`, `origin` and
    `is_synced` are those of SqliteTables. `prune` drops the runs that exceed `retention`; without it, all are kept.
    `now_ms` returns the time, by default that of the wall clock.
    """

    def __init__(
        self,
        place: Path | Tables | None = None,
        *,
        keep: bool = False,
        retention: Retention | None = None,
        origin: str = "",
        is_synced: bool = False,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        if place is None or isinstance(place, Path):
            place = SqliteTables(place, keep=keep, origin=origin, is_synced=is_synced)
        self._tables: Tables = place
        self._retention = retention
        self._dropped = DroppedRuns()
        self._now_ms = now_ms or _wall_ms
        # The time of the latest record of each partition (Unix ms). Without new ones nothing is dropped for its age.
        self._latest: dict[int, int] = {}
        self._warned = False
        # The positions from which this process reads, moved by what it folded.
        self._expected: Offsets = {}
        # The ids of the topics that are read, if they are known.
        self._ids: dict[str, str] = {}
        self.skipped = 0
        # What the last batches changed, for live pages.
        self.changes = RunChanges()
        self._queries = RunQueries(self._tables.ask, self._now_ms)

    @property
    def is_shared(self) -> bool:
        """Whether other processes fold into the tables too."""
        return self._tables.shared

    @property
    def _db(self) -> Database:
        return self._tables.db

    def identify(self, topic: str, id: str) -> None:
        """Note the id of a topic that is read from now on: positions in a deleted topic of the same name do not count.

        Without an id, the topic is assumed to be the same.
        """
        self._ids[topic] = id

    def position(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that is not folded yet."""
        self._tables.restart(topic)
        with self._tables.checked():
            found = self._expected[topic, partition] = self._stored(topic, partition)
        return found

    async def positions(self, partitions: Sequence[TopicPartition]) -> Offsets:
        """Return the offset of the first record of each partition that is not folded yet."""
        return await self._tables.call(lambda: {at: self.position(*at) for at in partitions})

    async def folded(self, records: Sequence[LogRecord]) -> None:
        """Fold records of `history` or `logs`, as `fold` and `fold_logs` do, without holding up the event loop."""
        fold = self.fold if records[0].topic == HISTORY else self.fold_logs
        await self._tables.call(lambda: fold(records))

    def _stored(self, topic: str, partition: int) -> int:
        return position_of(self._db, (topic, partition), self._ids.get(topic, ""))

    def fold(self, records: Sequence[LogRecord]) -> list[HistoryEntry]:
        """Fold records of a partition of `history` and store the position after them; return their entries of runs.

        A record that cannot be decoded is skipped, and so is one that another process folded since `position` was
        called. Raise StoreError if the tables were replaced since then: history must be read again from there.
        """
        found = self._fold(records, decode_history_record, write_entries)
        last = records[-1]
        self._latest[last.partition] = max(self._latest.get(last.partition, 0), last.timestamp)
        return [entry for entry in found if not isinstance(entry, BulkChanged)]

    def _check(self, topic: str) -> None:
        if self._tables.must_restart(topic):
            raise StoreError("the read model was replaced, and must be read from its first position")

    def _new(self, records: Sequence[LogRecord]) -> Sequence[LogRecord]:
        """Return the records of a partition that no process has folded, once no other process folds it.

        A process that lost a shard and has not noticed reads on for a while: what it folds was folded already, or is
        the next of the history of its shard, which has one order.
        """
        at = (records[0].topic, records[0].partition)
        if (expected := self._expected.get(at)) is None:
            return records
        if records[0].offset < expected and self._ids.get(at[0]):
            raise StoreError(f"{at[0]}-{at[1]} was deleted and created again; it is read from its beginning")
        self._db.lock(f"{at[0]}-{at[1]}")
        if (stored := self._stored(*at)) < expected:
            raise StoreError(
                f"the read model was restored from an older copy: {at[0]}-{at[1]} must be read again from {stored:,}"
            )
        return [record for record in records if record.offset >= stored]

    def _fold(
        self, records: Sequence[LogRecord], decode: Callable[[bytes], E], write: Callable[[Database, list[E]], None]
    ) -> list[E]:
        """Write the entries of the new records of a partition, and the position after them; return the entries."""
        self._check(records[0].topic)
        skipped, singly = set[LogRecord](), False
        while True:
            try:
                with self._tables.transaction():
                    new = self._new(records)
                    found = self._decoded(new, decode, skipped)
                    self._write(found, write, singly=singly)
                    entries = [entry for _, entry in found]
                    self._commit(new, entries)
                break
            except _NotFolded as error:
                # The transaction is rolled back; the other records are folded again without this one.
                skipped.add(error.record)
                self._skip(error.record, error.__cause__)
            except _UNREADABLE:
                # An entry cannot be stored; written one by one, the record that it is from is known.
                if singly:
                    raise
                singly = True
        self._note(records, entries)
        return entries

    def _write(
        self, found: list[tuple[LogRecord, E]], write: Callable[[Database, list[E]], None], *, singly: bool
    ) -> None:
        """Write entries, all at a time or `singly`: then raise _NotFolded for the one that cannot be stored."""
        if not singly:
            write(self._db, [entry for _, entry in found])
            return
        for record, entry in found:
            try:
                write(self._db, [entry])
            except _UNREADABLE as error:
                raise _NotFolded(record) from error

    def _decoded(
        self, records: Sequence[LogRecord], decode: Callable[[bytes], E], skipped: set[LogRecord]
    ) -> list[tuple[LogRecord, E]]:
        """Return the records that are not `skipped`, with their entries; skip those that cannot be decoded."""
        found: list[tuple[LogRecord, E]] = []
        for record in records:
            if record not in skipped:
                try:
                    found.append((record, decode(record.value)))
                except _UNREADABLE as error:
                    skipped.add(record)
                    self._skip(record, error)
        return found

    def fold_logs(self, records: Sequence[LogRecord]) -> None:
        """Add records of a partition of `logs`, and store the position after them; otherwise as `fold`."""
        self._fold(records, decode_logged, add_lines)

    def add_logs(self, entries: Sequence[StepLogged]) -> None:
        """Add what runs logged."""
        with self._tables.transaction():
            add_lines(self._db, entries)
        self._note([], entries)

    def _commit(self, records: Sequence[LogRecord], entries: Sequence[HistoryRecord | StepLogged]) -> None:
        """Store the position after records, and publish which runs they changed, in the transaction that folds them."""
        if records:
            last = records[-1]
            put_position(self._db, (last.topic, last.partition), self._ids.get(last.topic, ""), last.offset + 1)
            self._tables.publish(set(_run_ids(entries)))

    def _note(self, records: Sequence[LogRecord], entries: Sequence[HistoryRecord | StepLogged]) -> None:
        """Note what was committed."""
        if records and (at := (records[-1].topic, records[-1].partition)) in self._expected:
            self._expected[at] = max(self._expected[at], records[-1].offset + 1)
        if not self._tables.shared:
            self.changes.add(_run_ids(entries))

    async def follow(self) -> None:
        """Note what any process changes, until cancelled."""
        async for run_ids in self._tables.changed():
            if run_ids is None:
                self.changes.forget()
            else:
                self.changes.add(run_ids)

    def _skip(self, record: LogRecord, error: BaseException | None) -> None:
        self.skipped += 1
        origin = f"{record.topic}-{record.partition}-{record.offset}"
        reason = record.unreadable.reason if record.unreadable else error
        logger.error("read model skipped record %s, which cannot be decoded: %s", origin, reason)

    def find(self, filter: Filter, limit: int) -> list[RunSummary]:
        """Return the newest runs of a filter, however many must be examined; a limit of 0 returns all."""
        found: list[RunSummary] = []
        now_ms, before = self._now_ms(), ""
        while True:
            size = _PAGE if not limit else min(limit - len(found), _PAGE)
            with self._tables.checked():
                page = search(self._db, filter, now_ms, before=before, limit=size)
            found += page.runs
            before = page.next
            if not before or len(found) == limit:
                return found

    def list(
        self,
        *,
        function: str = "",
        status: str = "",
        event_id: str = "",
        tail: str = "",
        before: str = "",
        limit: int = 50,
    ) -> list[RunSummary]:
        """Return runs, newest first: those before the run id `before`, and whose id ends with `tail` (6 or more)."""
        values = {"function": function, "status": status, "event_id": event_id, "run_id": tail}
        with self._tables.checked():
            return list_runs(self._db, Filter().having_all(values), before, limit)

    @property
    def queries(self) -> RunQueries:
        """Queries that do not hold up the event loop."""
        return self._queries

    def show(self, run_id: str) -> RunView | None:
        """Return one run with its steps in order."""
        with self._tables.checked():
            return reading.show(self._db, run_id)

    def logs(self, run_id: str, *, step: str | None = None, limit: int = 1_000) -> Sequence[LoggedLine]:
        """Return lines that a run logged, or one step of it, in order of time."""
        with self._tables.checked():
            return read_lines(self._db, run_id, step=step, limit=limit)

    def recorded(self, run_id: str) -> RecordedRun | None:
        """Return what a rerun of a run needs, None if there is no such run."""
        with self._tables.checked():
            return recorded_run(self._db, run_id)

    def open_approvals(self, limit: int = 1_000) -> Sequence[ApprovalView]:
        """Return the approvals that wait for a decision, the oldest first."""
        with self._tables.checked():
            return open_approvals(self._db, limit)

    def approval(self, run_id: str, step: str) -> ApprovalView | None:
        """Return what a step asks or asked a person, None if it asked nothing."""
        with self._tables.checked():
            return find_approval(self._db, run_id, step)

    def awaited_events(self) -> set[str]:
        """Return the names of the events that runs wait for."""
        return reading.awaited_events(self._db)

    def counts(self) -> dict[str, int]:
        """Return how many runs there are by status."""
        return reading.counts(self._db)

    def stats(self) -> RunStats:
        """Return the sums of all runs."""
        return reading.stats(self._db)

    def has_open_runs(self) -> bool:
        """Return whether a run has not ended."""
        return reading.has_open_runs(self._db)

    def sync(self) -> None:
        """Make what was folded so far survive a power failure, if its tables are synced."""
        if isinstance(self._tables, SqliteTables):
            self._tables.sync()

    def prune(self) -> int:
        """Delete one slice of what exceeds the retention; return how many rows or pages, 0 if none.

        Runs that have not ended stay, also if they exceed the size of the retention.
        """
        if self._retention is None:
            return 0
        now = self._time() if self._retention.by_age else 0
        if deleted := self._drop(functools.partial(limit_of, self._tables.used_bytes, self._retention, now)):
            return deleted
        self._dropped.report(self._now_ms())
        with self._tables.transaction():
            lock_sums(self._db)
            drop_groups(self._db, now - self._retention.ms)
            drop_timings(self._db, now)
            if dropped := drop_lines(self._db, now):
                return dropped
        size, limit = self._tables.used_bytes(), self._retention.bytes
        if 0 < limit < size and not self._warned:
            self._warned = True
            kept = "the list of runs has %s bytes of open runs, which are kept; its limit is %s bytes"
            logger.warning(kept, f"{size:,}", f"{limit:,}")
        return self._tables.shrink()

    def _time(self) -> int:
        """Return the time from which ages count: that of half of the partitions, or of this machine if it is earlier.

        One clock that is ahead, of another engine or of this machine, must not make all runs old.
        """
        latest = sorted(self._latest.values())
        return min(latest[len(latest) // 2], self._now_ms()) if latest else 0

    async def server_bytes(self) -> int | None:
        """Return the size of the tables on the server that has them; None if they are in a file of this process."""
        return await self._tables.server_bytes()

    async def pruned(self) -> int:
        """Delete one slice, as `prune` does, without holding up the event loop."""
        return await self._tables.call(self.prune)

    def drop(self, ended_before: int, bytes_max: int = 0) -> int:
        """Delete one slice of the runs that ended before a time (Unix ms); return how many rows, 0 if none is left.

        While the tables have more than `bytes_max` (0: any size), the oldest ended runs and lines are dropped too.
        """
        kept = Retention(ms=0, bytes=bytes_max)
        return self._drop(functools.partial(limit_of, self._tables.used_bytes, kept, ended_before))

    def _drop(self, ended_before: Callable[[], int]) -> int:
        with self._tables.transaction():
            return drop_slice(self._db, ended_before, self._dropped, STEPS_PER_STATEMENT if self.is_shared else 1)

    def ended(self, before: int) -> int:
        """Return how many runs ended before a time (Unix ms)."""
        query = "SELECT count(*) FROM runs WHERE ended_at > 0 AND ended_at < ?"
        return int(self._db.execute(query, (before,)).fetchone()[0])

    def compact(self) -> None:
        """Rewrite the file without its free pages; this takes time and space in proportion to its size."""
        if isinstance(self._tables, SqliteTables):
            self._tables.compact()

    def close(self) -> None:
        """Close the database."""
        self._tables.close()
