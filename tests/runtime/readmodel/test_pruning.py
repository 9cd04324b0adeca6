"""Ended runs are dropped by age and by size, in bounded slices; runs that have not ended stay."""

import asyncio
import itertools
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from stepstream.contract.codec import Raw, dump_json, encode
from stepstream.contract.events import EventRecord, EventRef
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepEnded
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.limits import DAY_MS, MINUTE_MS
from stepstream.contract.logs import LogLine, StepLogged
from stepstream.contract.outcomes import Value
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord, StoreError
from stepstream.runtime.readmodel import pruning
from stepstream.runtime.readmodel.dialect import SqliteDatabase, Tables
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.pruning import FOREVER_MS, DroppedRuns, Retention
from tests.runtime.readmodel.conftest import NewTables

TABLES = ("runs", "run_texts", "run_events", "run_names", "event_waits", "event_cancels", "steps", "dropped_runs")
KB = 1_024


class Folded(RunIndex):
    """A read model that a test fills with runs, one record each at its time."""

    def __init__(
        self,
        place: Path | Tables | None = None,
        retention: Retention | None = None,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(place, retention=retention, now_ms=now_ms)
        self._offsets = itertools.count()

    def put(self, *entries: HistoryEntry) -> None:
        """Fold entries."""
        self.fold([LogRecord(HISTORY, 0, next(self._offsets), b"", encode(each), (), each.at) for each in entries])

    def begin(self, run: str, at: int, size: int = 0) -> None:
        """Add a run that has not ended, with an event of `size` bytes."""
        event = EventRecord("go", dump_json("x" * size, "data"), id=f"e-{run}")
        self.put(RunBegan(run, 1, at, "function", "shop", at, (event,)))

    def add(self, run: str, at: int, steps: int = 1, size: int = 0, waits: int = 0) -> None:
        """Add a run that ended, with steps whose results have `size` bytes, and waits that one event ended."""
        self.begin(run, at)
        result = Value(dump_json("x" * size, "result"))
        self.put(*(StepEnded(run, 2 + n, at, f"s{n}", f"s{n}", StepKind.RUN, result) for n in range(steps)))
        event = Value(Raw(encode(EventRecord("came", id=f"came-{run}"))))
        came = (StepEnded(run, 2 + steps + n, at, f"w{n}", f"w{n}", StepKind.WAIT, event) for n in range(waits))
        self.put(*came, RunEnded(run, 2 + steps + waits, at, RunStatus.COMPLETED, "function"))

    def log(self, run: str, at: int, lines: int) -> None:
        """Add lines of a KiB that a run logged, each a millisecond after the one before."""
        self.add_logs(
            [StepLogged(run, "s", 0, "w", (LogLine(at + n, n, "INFO", "shop", "x" * KB),)) for n in range(lines)]
        )

    def ids(self) -> list[str]:
        """Return the ids of all runs, sorted."""
        return sorted(run.run_id for run in self.list(limit=10_000))

    def rows(self) -> dict[str, int]:
        """Return how many rows each table has."""
        return {name: self._db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES}  # noqa: S608


def pruned(index: RunIndex) -> list[int]:
    """Prune until nothing is left to do; return the rows of each slice."""
    return list(iter(index.prune, 0))


def test_runs_are_dropped_by_age(new_tables: NewTables) -> None:
    """With their steps, events and texts; the age counts from the latest record, and open runs stay."""
    index = Folded(new_tables(), retention=Retention(10 * DAY_MS))
    index.begin("open", DAY_MS)
    index.add("old", DAY_MS, waits=2)
    index.add("kept", 2 * DAY_MS, waits=1)
    assert not pruned(index)
    index.add("new", 11 * DAY_MS + 1)
    assert pruned(index)
    assert index.ids() == ["kept", "new", "open"]
    assert index.list(event_id="e-old") == []
    left = dict.fromkeys(TABLES, 3) | {"event_waits": 1, "event_cancels": 0, "dropped_runs": 0}
    assert index.rows() == left


NOW = 1_000 * DAY_MS


@pytest.mark.parametrize(
    ("latest", "here"),
    [
        ({0: NOW + 91 * DAY_MS}, NOW),
        ({0: NOW + 91 * DAY_MS, 1: NOW}, NOW),
        ({0: NOW + 91 * DAY_MS, 1: NOW, 2: NOW}, NOW + 91 * DAY_MS),
    ],
    ids=["that of the only shard", "that of one engine", "that of this engine"],
)
def test_one_clock_ahead_drops_no_run(latest: dict[int, int], here: int, new_tables: NewTables) -> None:
    """The age of runs counts by the clocks of most shards, and not by a time that this machine has not reached."""
    index = Folded(new_tables(), Retention(90 * DAY_MS), lambda: here)
    index.add("ended", NOW)
    for shard, at in latest.items():
        begun = RunBegan(f"begun-{shard}", 1, at, "f", "shop", at, (EventRecord("go", id="e"),))
        index.fold([LogRecord(HISTORY, shard, 1_000, b"", encode(begun), (), at)])
    assert not pruned(index)
    assert "ended" in index.ids()


def test_what_events_cancelled_is_dropped_with_the_run(new_tables: NewTables) -> None:
    """Other runs that the same event cancelled stay listed."""
    index = Folded(new_tables(), retention=Retention(10 * DAY_MS))
    for run, at in (("old", DAY_MS), ("kept", 2 * DAY_MS)):
        index.begin(run, at)
        event = EventRef("withdrawn", "w-1")
        index.put(RunEnded(run, 2, at, RunStatus.CANCELLED, "function", cancelled_by=event))
    index.add("new", 11 * DAY_MS + 1)
    assert pruned(index)
    assert index._db.execute("SELECT run_id FROM event_cancels").fetchall() == [("kept",)]


def test_nothing_is_dropped_for_its_age_if_age_does_not_count(new_tables: NewTables) -> None:
    """Neither runs nor the lines and timings beside them: in a day of 2013, all of them are old after one event."""
    index = Folded(new_tables(), Retention(FOREVER_MS))
    index.add("old", DAY_MS)
    index.log("old", DAY_MS, lines=2)
    index.add("new", 5_000 * DAY_MS)
    assert not pruned(index)
    assert index.ids() == ["new", "old"]
    assert len(index.logs("old")) == 2
    assert index._db.execute("SELECT count(*) FROM timings WHERE hour < 100").fetchone()[0] > 0


def test_dropped_runs_are_logged_at_growing_intervals(caplog: pytest.LogCaptureFixture) -> None:
    """The first at once; what is dropped within a minute of a line, then within two, is one line."""
    caplog.set_level(logging.INFO)
    dropped = DroppedRuns()
    for minute in range(8):
        dropped.add(minute * DAY_MS)
        dropped.report(minute * MINUTE_MS)
    text = "the list of runs dropped {} that ended up to 1970-01-{}T00:00:00Z: "
    expected = [("1 run", "01"), ("1 run", "02"), ("2 runs", "04"), ("4 runs", "08")]
    why = "they exceed --retention or --retention-bytes"
    assert [each.message for each in caplog.records] == [text.format(*each) + why for each in expected]
    caplog.clear()
    dropped.report(10 * DAY_MS)
    assert not caplog.records


def test_pruning_logs_what_it_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """With the time up to which the runs ended; a pass that drops nothing is silent."""
    caplog.set_level(logging.INFO)
    index = Folded(retention=Retention(10 * DAY_MS))
    index.add("old", DAY_MS)
    assert not pruned(index)
    assert not caplog.records
    index.add("new", 12 * DAY_MS)
    assert pruned(index)
    (line,) = caplog.records
    assert line.message.startswith("the list of runs dropped 1 run that ended up to 1970-01-02T00:00:00Z: ")


def test_all_runs_are_kept_without_a_retention(new_tables: NewTables) -> None:
    """As in tests."""
    index = Folded(new_tables())
    index.add("old", 1)
    index.add("new", 10_000 * DAY_MS)
    assert not pruned(index)
    assert index.ids() == ["new", "old"]


def test_nothing_is_dropped_after_a_restart_without_records(tmp_path: Path) -> None:
    """A laptop that was switched off for a year still shows its last runs."""
    index = Folded(tmp_path / "runs.sqlite")
    index.add("old", DAY_MS)
    index.close()
    index = Folded(tmp_path / "runs.sqlite", Retention(DAY_MS))
    assert not pruned(index)
    assert index.ids() == ["old"]


def test_the_oldest_runs_are_dropped_by_size(tmp_path: Path) -> None:
    """Until the rest fits; the file then returns its free pages to the disk."""
    path = tmp_path / "runs.sqlite"
    index = Folded(path, Retention(366 * DAY_MS, 2_000 * KB))
    for number in range(40):
        index.add(f"r{number:02}", DAY_MS + number, size=100 * KB)
    index.begin("open", 0, size=500 * KB)
    assert pruning.used_bytes(index._db) > 4_000 * KB
    assert pruned(index)
    assert 1_500 * KB < pruning.used_bytes(index._db) <= 2_000 * KB
    left = index.ids()
    assert left == ["open", *(f"r{number}" for number in range(40 - len(left) + 1, 40))]
    index.close()
    assert path.stat().st_size < 3_000 * KB


def test_open_runs_are_kept_above_the_size(caplog: pytest.LogCaptureFixture) -> None:
    """They are never dropped; one warning says that they do not fit."""
    index = Folded(retention=Retention(bytes=500 * KB))
    for number in range(5):
        index.begin(f"r{number}", 1, size=300 * KB)
    for _ in range(3):
        assert not pruned(index)
    assert len(index.ids()) == 5
    assert caplog.text.count("bytes of open runs, which are kept; its limit is 512,000 bytes") == 1


def test_lines_are_dropped_before_newer_runs_by_size() -> None:
    """An open run that logs more than the size allows does not push out the runs that ended since."""
    index = Folded(retention=Retention(bytes=1_000 * KB))
    index.begin("open", 1)
    index.log("open", 1, 2_000)
    for number in range(10):
        index.add(f"r{number}", DAY_MS + number)
    assert pruned(index)
    assert len(index.ids()) == 11
    assert pruning.used_bytes(index._db) <= 1_000 * KB
    left = index.logs("open", limit=2_000)
    assert left
    assert left[-1].at == 2_000


def test_lines_are_dropped_by_size_once_no_run_has_ended() -> None:
    """The oldest runs and lines go first, so the runs that ended before the lines precede them."""
    index = Folded(retention=Retention(bytes=1_000 * KB))
    index.begin("open", 1)
    index.add("old", 1)
    index.log("open", DAY_MS, 2_000)
    assert pruned(index)
    assert index.ids() == ["open"]
    assert pruning.used_bytes(index._db) <= 1_000 * KB
    assert index.logs("open", limit=2_000)


def test_a_slice_has_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch, new_tables: NewTables) -> None:
    """Many runs, and a run with many steps, are dropped in slices; a dropped run is not seen between them."""
    monkeypatch.setattr(pruning, "SLICE_S", 60.0)
    index = Folded(new_tables(), retention=Retention(DAY_MS))
    for number in range(400):
        index.add(f"r{number:03}", 1 + number)
    index.add("large", 1_000, steps=1_000)
    index.add("new", 3 * DAY_MS)
    rows = index.rows()
    slices = pruned(index)
    assert len(slices) > 2
    most = pruning.ROWS_PER_SLICE_MAX + 6
    assert max(slices) <= most
    # Each row of a dropped run, and its row in dropped_runs, is counted once.
    assert sum(slices) == sum(rows.values()) - 5 + 401
    assert index.ids() == ["new"]
    assert index.rows()["steps"] == 1


def test_a_slice_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold up the event loop: a clock that moves a millisecond with each read allows about ten deletions."""
    ticks = itertools.count()
    monkeypatch.setattr("stepstream.runtime.readmodel.pruning.time.perf_counter", lambda: next(ticks) / 1_000)
    index = Folded(retention=Retention(DAY_MS))
    index.add("large", 1, steps=1_000)
    index.add("new", 3 * DAY_MS)
    slices = pruned(index)
    assert len(slices) >= 1_000 / 10
    assert max(slices) <= 10 + 3


def test_pruning_continues_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of a run that was dropped before the crash are deleted after it."""
    monkeypatch.setattr(pruning, "ROWS_PER_SLICE_MAX", 10)
    path = tmp_path / "runs.sqlite"
    index = Folded(path, Retention(DAY_MS))
    index.add("large", 1, steps=100)
    index.add("new", 3 * DAY_MS)
    assert index.prune()
    assert index.rows()["dropped_runs"] == 1
    assert index.ids() == ["new"]
    index.close()
    index = Folded(path, Retention(DAY_MS))
    assert pruned(index)
    left = dict.fromkeys(TABLES, 1) | {"event_waits": 0, "event_cancels": 0, "dropped_runs": 0}
    assert index.rows() == left


def test_history_of_a_dropped_run_is_ignored(new_tables: NewTables) -> None:
    """An entry that is folded again, or arrives late, adds no rows without a run."""
    index = Folded(new_tables(), retention=Retention(DAY_MS))
    index.add("old", 1)
    index.add("new", 3 * DAY_MS)
    pruned(index)
    rows = index.rows()
    index.put(StepEnded("old", 9, 2, "late", "late", StepKind.RUN, Value()))
    assert index.rows() == rows


async def _prune_in_background(prune: Callable[[], Awaitable[int]], passes: int) -> None:
    pruning_task = asyncio.ensure_future(pruning.keep_pruned(prune))
    for _ in range(passes):
        await asyncio.sleep(0)
    pruning_task.cancel()
    await asyncio.gather(pruning_task, return_exceptions=True)


async def test_other_tasks_run_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task pauses after each slice, and looks again after a while, even if the tables were corrupt."""
    monkeypatch.setattr(pruning, "_PAUSE_S", 0)
    monkeypatch.setattr(pruning, "_CHECK_S", 0)
    calls: list[int] = []

    async def prune() -> int:
        calls.append(len(calls))
        if len(calls) == 3:
            raise StoreError("corrupt")
        return len(calls) % 2

    await _prune_in_background(prune, 20)
    assert 8 <= len(calls) <= 20


def test_files_of_an_earlier_release_are_pruned(tmp_path: Path) -> None:
    """They lack the table of dropped runs, and are compacted only on request."""
    path = tmp_path / "runs.sqlite"
    index = Folded(path)
    for number in range(20):
        index.add(f"r{number}", 1, size=100 * KB)
    assert isinstance(index._db, SqliteDatabase)
    index._db.executescript("DROP TABLE dropped_runs; PRAGMA auto_vacuum = NONE; PRAGMA journal_mode = DELETE; VACUUM;")
    index.close()
    before = path.stat().st_size
    index = Folded(path, Retention(DAY_MS))
    index.add("new", 3 * DAY_MS)
    assert pruned(index)
    index.compact()
    index.close()
    assert path.stat().st_size < before / 10
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    db.close()
