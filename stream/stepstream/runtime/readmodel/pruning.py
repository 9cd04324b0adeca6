"""Drops the runs that ended long ago from the read model, in slices that hold up the event loop for milliseconds."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from stepstream.contract.codec import Json, load_json
from stepstream.contract.events import decode_stored_events
from stepstream.contract.limits import DAY_MS, MINUTE_MS
from stepstream.contract.text.wording import counted
from stepstream.runtime.ports import StoreError
from stepstream.runtime.readmodel.dialect import Database, SqliteDatabase, lock_sums
from stepstream.runtime.readmodel.tables.logged_lines import drop_lines_before, drop_lines_of
from stepstream.runtime.readmodel.tables.schema import attribute_text

logger = logging.getLogger(__name__)
RETENTION_DAYS = 90
RETENTION_DAYS_MAX = 366
# The age of a retention that drops nothing because it is old.
FOREVER_MS = 2**62
RETENTION_BYTES_MIN = 1024 * 1024

# A slice ends after either. A run may have a thousand steps, which are deleted one by one: a result of 4 MiB takes
# 20 ms of CPU time.
SLICE_S = 0.01
ROWS_PER_SLICE_MAX = 1_000
# The event loop has four fifths of the time for its other tasks.
_PAUSE_S = 4 * SLICE_S
_CHECK_S = 60.0
# Free pages are used again; above this share of the file they are returned to the disk, a megabyte per slice.
_FREE_SHARE_MAX = 0.25
_PAGES_PER_SLICE = 256
# What is deleted at a time where that does not hold up the event loop.
STEPS_PER_STATEMENT = 100
_LINES_PER_STATEMENT = 50
_NEVER = 2**62
# The tables with one row for a run, or few, that have an index by run.
_BY_RUN = ("run_texts", "approvals", "run_requests", "event_cancels", "runs")


@dataclass(frozen=True, slots=True)
class Retention:
    """Which runs are kept after their end: those of the last `ms`, and the newest that fit into `bytes` (0: all).

    Runs that have not ended are always kept. If the tables exceed `bytes`, the lines that any run logged before the
    end of the oldest ended run are dropped before that run.
    """

    ms: int = RETENTION_DAYS * DAY_MS
    bytes: int = 0

    @property
    def by_age(self) -> bool:
        """Whether anything is dropped because it is old."""
        return self.ms < FOREVER_MS


class DroppedRuns:
    """Counts the runs that are dropped, and logs how many: at once, then at intervals from a minute to a day."""

    def __init__(self) -> None:
        self._runs = self._latest = self._due = 0
        self._interval_ms = MINUTE_MS

    def add(self, ended_at: int) -> None:
        """Count a run that ended at this time (Unix ms)."""
        self._runs += 1
        self._latest = max(self._latest, ended_at)

    def report(self, now_ms: int) -> None:
        """Log the runs that were dropped since the last report, if one is due."""
        if not self._runs or now_ms < self._due:
            return
        ended = datetime.fromtimestamp(self._latest / 1_000, UTC)
        text = "the list of runs dropped %s that ended up to %s: they exceed --retention or --retention-bytes"
        logger.info(text, counted(self._runs, "run"), f"{ended:%Y-%m-%dT%H:%M:%SZ}")
        self._runs, self._due = 0, now_ms + self._interval_ms
        self._interval_ms = min(2 * self._interval_ms, DAY_MS)


def drop_slice(db: Database, ended_before: Callable[[], int], dropped: DroppedRuns, steps_max: int = 1) -> int:
    """Delete the first rows of the runs that ended before a time (Unix ms); return how many, 0 if none is left.

    A run disappears at once, and its steps follow, `steps_max` at a time: `dropped_runs` has the runs whose steps are
    left. The time is asked for before each run, because it may depend on the size of what is left.
    """
    lock_sums(db)
    deadline = time.perf_counter() + SLICE_S
    deleted = 0
    while deleted < ROWS_PER_SLICE_MAX and time.perf_counter() < deadline:
        steps = _drop_steps(db, min(steps_max, ROWS_PER_SLICE_MAX - deleted))
        rows = steps or _drop_oldest(db, ended_before(), dropped)
        if not rows:
            break
        deleted += rows
    return deleted


def _drop_steps(db: Database, most: int) -> int:
    found = db.execute("SELECT run_id FROM dropped_runs LIMIT 1").fetchone()
    if found is None:
        return 0
    # The output of a wait has the events that ended it.
    query = (
        "SELECT CASE WHEN kind = 'wait' AND status = 'completed' THEN output END, run_id, step "
        "FROM steps WHERE run_id = ? LIMIT ?"
    )
    steps = db.execute(query, (*found, most)).fetchall()
    if not steps:
        ended = "DELETE FROM dropped_runs WHERE run_id = ?"
        return drop_lines_of(db, *found) or db.execute(ended, found).rowcount
    waits = [
        (event.id, *step)
        for output, *step in steps
        if output
        for event in decode_stored_events(output.encode()).values()
    ]
    db.executemany("DELETE FROM event_waits WHERE event_id = ? AND run_id = ? AND step = ?", waits)
    return db.executemany("DELETE FROM steps WHERE run_id = ? AND step = ?", [step for _, *step in steps]).rowcount


def _drop_oldest(db: Database, ended_before: int, dropped: DroppedRuns) -> int:
    if ended_before == _NEVER:
        # The tables are too large. Lines of open runs must not push out the runs that ended since.
        (first,) = db.execute("SELECT min(ended_at) FROM runs WHERE ended_at > 0").fetchone()
        if lines := drop_lines_before(db, _NEVER if first is None else first, _LINES_PER_STATEMENT):
            return lines
    return _drop_run(db, ended_before, dropped)


def _drop_run(db: Database, ended_before: int, dropped: DroppedRuns) -> int:
    query = (
        "SELECT run_id, events, attributes, ended_at, function, status, ended_at - started_at FROM runs "
        "WHERE ended_at > 0 AND ended_at < ? ORDER BY ended_at LIMIT 1"
    )
    if (found := db.execute(query, (ended_before,)).fetchone()) is None:
        return 0
    run_id, events, attributes, ended_at, function, status, took = found
    dropped.add(ended_at)
    db.execute("INSERT INTO dropped_runs VALUES (?)", (run_id,))
    summed = "UPDATE run_sums SET runs = runs - 1, total_ms = total_ms - ? WHERE function = ? AND status = ?"
    db.execute(summed, (max(took, 0), function, status))
    indexed = _indexed(run_id, load_json(events.encode(), own=True), load_json(attributes.encode(), own=True))
    statements = [
        *indexed,
        *((f"DELETE FROM {table} WHERE run_id = ?", (run_id,)) for table in _BY_RUN),
    ]
    return sum(db.execute(*statement).rowcount for statement in statements)


def _indexed(run_id: str, events: Json, attributes: Json) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the statements that delete what a run has in the indexes of events and attributes."""
    for event in events if isinstance(events, list) else ():
        if isinstance(event, dict):
            yield "DELETE FROM run_events WHERE event_id = ? AND run_id = ?", (str(event.get("id", "")), run_id)
            yield "DELETE FROM run_names WHERE name = ? AND run_id = ?", (str(event["name"]), run_id)
    for name, value in attributes.items() if isinstance(attributes, dict) else ():
        key = (attribute_text(value), name, run_id)
        yield "DELETE FROM run_attributes WHERE value = ? AND name = ? AND run_id = ?", key


def limit_of(used_bytes: Callable[[], int], kept: Retention, now: int) -> int:
    """Return the time (Unix ms) before which runs must have ended to be dropped now: _NEVER to reduce the size."""
    return _NEVER if kept.bytes and used_bytes() > kept.bytes else now - kept.ms


def used_bytes(db: Database) -> int:
    """Return the size of the tables, without the free pages of their file."""
    pages, free, size = _pages(db)
    return (pages - free) * size


def return_free_pages(db: SqliteDatabase) -> int:
    """Return some free pages of the file to the disk if it has many; return how many.

    A file of an earlier release keeps its size, and uses its free pages again.
    """
    pages, free, _ = _pages(db)
    if free < _PAGES_PER_SLICE or free < _FREE_SHARE_MAX * pages:
        return 0
    # The statement frees one page per step, and only a script is stepped to its end.
    db.executescript(f"PRAGMA incremental_vacuum({_PAGES_PER_SLICE})")
    return pages - _pages(db)[0]


def _pages(db: Database) -> tuple[int, int, int]:
    pages, free, size = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    )
    return pages, free, size


async def keep_pruned(prune: Callable[[], Awaitable[int]], *, beside_loop: bool = False) -> None:
    """Call `prune`, which deletes one slice and returns its rows, as long as it finds any; then again every minute.

    After a slice it pauses, unless `prune` works `beside_loop`, in a thread.
    """
    while True:
        pause_s = _CHECK_S
        # Corrupt tables are rebuilt from history.
        with suppress(StoreError):
            if await prune():
                pause_s = 0 if beside_loop else _PAUSE_S
        await asyncio.sleep(pause_s)
