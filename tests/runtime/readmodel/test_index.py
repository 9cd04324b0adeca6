"""The read model folds history: a repeat changes nothing, and a new one from the start is the same."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from stepstream import App, Context, Event, on
from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import (
    HistoryEntry,
    RunAdmitted,
    RunAttemptFailed,
    RunBatched,
    RunBegan,
    RunEnded,
    StepAttemptFailed,
    StepEnded,
)
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.outcomes import ErrorInfo, Value
from stepstream.contract.topics import HISTORY, LOGS
from stepstream.runtime.ports import LogRecord, StoreError
from stepstream.runtime.readmodel.folding import Batch
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.views import RunView, UnreadableRuns
from stepstream.testing import VirtualEngine
from tests.fakes.indexes import dumped
from tests.runtime.readmodel.conftest import NewTables


async def history_of_a_day() -> tuple[list[HistoryEntry], list[RunView]]:
    """Return the history of runs with each outcome, and the engine's own views of them."""
    app = App("shop")

    @app.function(on("go"), retries=1, backoff="1m")
    async def function(ctx: Context) -> object:
        def broken() -> None:
            ctx.heartbeat({"page": 7})
            raise ValueError("no")

        await asyncio.gather(ctx.step.run("run", int), ctx.step.sleep("nap", "1h"))
        await ctx.step.wait_for_event("wait", event="never", timeout="1h")
        if ctx.event.data.get("fail"):
            await ctx.step.run("broken", broken)
        return {"n": 1}

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"), Event("go", {"fail": True}), Event("go", id="cancel-me"))
        await engine.cancel(engine.index.list(event_id="cancel-me")[0].run_id)
        await engine.advance("1d")
        return list(engine.history), sorted(engine.runs(), key=lambda run: run.run_id)


def records_of(history: list[HistoryEntry]) -> list[LogRecord]:
    """Return history as records of the log."""
    return [
        LogRecord(HISTORY, 0, offset, entry.run_id.encode(), encode(entry), (), entry.at)
        for offset, entry in enumerate(history)
    ]


def shown(index: RunIndex) -> list[RunView]:
    """Return all runs of a read model."""
    views = [index.show(run.run_id) for run in index.list(limit=100)]
    return sorted((view for view in views if view), key=lambda run: run.run_id)


async def test_read_model_is_rebuilt_from_history(new_tables: NewTables) -> None:
    """Folded in any batches, one by one or twice, the runs are the same, and the position is at the end."""
    history, expected = await history_of_a_day()
    assert sorted(run.status for run in expected) == ["cancelled", "completed", "failed"]
    records = records_of(history)
    for batches in ([records], [[record] for record in records], [records, records], [records[:9], records[3:]]):
        index = RunIndex(new_tables())
        for batch in batches:
            index.fold(batch)
        assert shown(index) == expected
        assert index.position(HISTORY, 0) == len(records)
        index.close()


async def test_tables_do_not_depend_on_batches(new_tables: NewTables) -> None:
    """Sums and groups of errors too: each entry counts once, in whatever batch it is."""
    history, _ = await history_of_a_day()
    records = records_of(history)
    whole = RunIndex(new_tables())
    whole.fold(records)
    scanned = "SELECT status, count(*) FROM runs GROUP BY status"
    assert whole.counts() == dict(whole._db.execute(scanned)) == {"cancelled": 1, "completed": 1, "failed": 1}
    for size in (1, 2, 3, 5, 8):
        index = RunIndex(new_tables())
        for start in range(0, len(records), size):
            index.fold(records[start : start + size])
            if start % 3 == 0:
                index.fold(records[: start + size])
        index.fold(records[-1:])
        assert dumped(index) == dumped(whole)
        index.close()
    whole.close()


BEGAN = RunBegan("r", 1, 1_000, "function", "shop", 1_000, (EventRecord("go", Raw(b'{"n":1}'), "e"),))
ERROR = ErrorInfo("ValueError", "no", stack="a line\n" * 9)


async def test_repeated_entry_changes_nothing(new_tables: NewTables) -> None:
    """Also the first entry of a run that has ended."""
    history, expected = await history_of_a_day()
    records = records_of(history)
    index = RunIndex(new_tables())
    index.fold(records)
    for record in records:
        index.fold([record])
        assert shown(index) == expected
    index.close()


def test_retried_step_is_cancelled_with_its_run(new_tables: NewTables) -> None:
    """It has the number of attempts and the time of the next one, until the run ends."""
    index = RunIndex(new_tables())
    failed = [
        StepAttemptFailed("r", 2 + attempt, 1_000, "s", "s", attempt, ERROR, 9_000 + attempt) for attempt in (0, 1)
    ]
    index.fold(records_of([BEGAN, *failed]))
    view = index.show("r")
    assert view
    (step,) = view.steps
    assert (step.status, step.attempts, step.until) == ("retrying", 2, 9_001)
    index.fold(records_of([RunEnded("r", 4, 5_000, RunStatus.CANCELLED, "function")]))
    view = index.show("r")
    assert view
    (step,) = view.steps
    assert (view.status, step.status, step.ended_at, step.attempts) == ("cancelled", "cancelled", 5_000, 2)
    index.close()


@pytest.mark.parametrize("size", [1, 3])
def test_the_run_of_a_batch_has_all_its_events(new_tables: NewTables, size: int) -> None:
    """In lists and in full, for a rerun, and as what each of the events started."""
    index = RunIndex(new_tables())
    events = (*BEGAN.events, EventRecord("come", Raw(b'{"n":2}'), "e2"))
    records = records_of([BEGAN, RunBatched("r", 2, 1_500, events), RunAdmitted("r", 3, 1_500, 500)])
    for start in range(0, len(records), size):
        index.fold(records[start : start + size])
    view, recorded = index.show("r"), index.recorded("r")
    assert view
    assert recorded
    assert view.events == [{"name": "go", "data": {"n": 1}, "id": "e"}, {"name": "come", "data": {"n": 2}, "id": "e2"}]
    assert recorded.events == events
    for run in (*index.list(event_id="e"), *index.list(event_id="e2")):
        assert run.events == [{"name": "go", "id": "e"}, {"name": "come", "id": "e2"}]
    assert [len(index.list(event_id=id)) for id in ("e", "e2")] == [1, 1]
    index.close()


def test_batch_is_folded_atomically(monkeypatch: pytest.MonkeyPatch, new_tables: NewTables) -> None:
    """A failure leaves neither rows nor a position, and the same batch can be folded again."""
    index = RunIndex(new_tables())
    records = records_of([BEGAN, RunEnded("r", 2, 5_000, RunStatus.COMPLETED, "function")])

    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(Batch, "_end_run", broken)
        with pytest.raises(RuntimeError):
            index.fold(records)
    assert (index.list(), index.position(HISTORY, 0)) == ([], 0)
    index.fold(records)
    assert [run.status for run in index.list()] == ["completed"]
    index.close()


@pytest.mark.parametrize(
    "poison",
    [
        b"",
        b"\xff\xfe",
        b'{"type":"run.paused","run_id":"r","seq":2,"at":1}',
        b"[" * 100_000,
        encode(RunEnded("r", 2**63, 1, RunStatus.FAILED, "function")),
    ],
    ids=range(5),
)
def test_undecodable_entry_is_skipped(poison: bytes, caplog: pytest.LogCaptureFixture, new_tables: NewTables) -> None:
    """The rest of the batch is folded, the position moves past it, and it is logged."""
    index = RunIndex(new_tables())
    first, last = records_of([BEGAN, RunEnded("r", 2, 5_000, RunStatus.COMPLETED, "function")])
    entries = index.fold([first, LogRecord(HISTORY, 0, 1, b"", poison, (), 0), last._replace(offset=2)])
    assert [type(entry) for entry in entries] == [RunBegan, RunEnded]
    assert [run.status for run in index.list()] == ["completed"]
    assert (index.position(HISTORY, 0), index.skipped) == (3, 1)
    assert "skipped record history-0-1" in caplog.text
    index.close()


def test_skipped_entry_leaves_no_rows(monkeypatch: pytest.MonkeyPatch, new_tables: NewTables) -> None:
    """Its changes are rolled back, and the other entries of the batch are folded once."""
    index, begin = RunIndex(new_tables()), Batch._begin

    def begin_half(batch: Batch, entry: RunBegan) -> None:
        begin(batch, entry)
        if entry.run_id == "half":
            raise OverflowError("an integer is too large")

    monkeypatch.setattr(Batch, "_begin", begin_half)
    half = replace(BEGAN, run_id="half")
    entries = index.fold(records_of([half, BEGAN, half, RunEnded("r", 2, 5_000, RunStatus.COMPLETED, "function")]))
    assert [entry.run_id for entry in entries] == ["r", "r"]
    assert [(run.run_id, run.status) for run in index.list()] == [("r", "completed")]
    assert (index.position(HISTORY, 0), index.skipped) == (4, 2)
    index.close()


LINES = b'{"type":"step.logged","run_id":"r","step":"","attempt":0,"source":"s","lines":[%s]}'
LINE = b'{"at":%d,"number":%d,"level":"INFO","logger":"shop","text":"%s"}'
UNSTORABLE = [LINE % (2**63, 1, b"too late"), LINE % (1, 1, b"\\ud800"), b"5"]


@pytest.mark.parametrize("poison", UNSTORABLE, ids=["time", "text", "type"])
def test_lines_that_cannot_be_stored_are_skipped(poison: bytes, new_tables: NewTables) -> None:
    """The other records of the batch are added, and the position moves past it."""
    index = RunIndex(new_tables())
    values = [LINES % (LINE % (1, 1, b"first")), LINES % poison, LINES % (LINE % (2, 2, b"last"))]
    index.fold_logs([LogRecord(LOGS, 0, offset, b"", value, (), 0) for offset, value in enumerate(values)])
    assert [line.text for line in index.logs("r")] == ["first", "last"]
    assert (index.position(LOGS, 0), index.skipped) == (3, 1)
    index.close()


def test_error_after_all_entries_ends_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is of no entry, so skipping one does not help: the caller reads the batch again later."""
    index = RunIndex()

    def commit(*_: object) -> None:
        raise OverflowError("a notice is too large")

    monkeypatch.setattr(index, "_commit", commit)
    with pytest.raises(OverflowError):
        index.fold(records_of([BEGAN]))


def test_long_run_id_of_another_producer_is_listed(new_tables: NewTables) -> None:
    """It is longer than a notice of PostgreSQL may be."""
    index = RunIndex(new_tables())
    index.fold(
        records_of([replace(BEGAN, run_id="r" * 2_000), *(replace(BEGAN, run_id=f"{n:050}") for n in range(200))])
    )
    assert sum(index.counts().values()) == 201
    index.close()


def test_lists_read_no_large_values(new_tables: NewTables) -> None:
    """Event data, stacks and outputs are in other tables, and only the view of a single run has them."""
    index = RunIndex(new_tables())
    large = Raw(b'{"text":"' + b"x" * 400_000 + b'"}')
    began = RunBegan("r", 1, 1_000, "function", "shop", 1_000, (EventRecord("go", large, "e", 7, user=large),))
    failed = RunAttemptFailed("r", 2, 1_000, 0, ERROR, 9_000)
    index.fold(records_of([began, failed, StepEnded("r", 3, 2_000, "s", "s", StepKind.RUN, Value(large))]))
    (run,) = index.list()
    assert run.events == [{"name": "go", "id": "e", "ts": 7}]
    assert run.error == {"name": "ValueError", "message": "no", "stack": "", "code": ""}
    view = index.show("r")
    assert view
    assert isinstance(view.error, dict)
    assert view.error["stack"] == ERROR.stack
    assert "xxx" in str(view.events)
    index.fold(records_of([RunEnded("r", 4, 5_000, RunStatus.FAILED, "function", error=ERROR)]))
    assert index.list()[0].error == {"name": "ValueError", "message": "no", "stack": "", "code": ""}
    rows = index._db.execute("SELECT sum(length(events) + length(coalesce(error, ''))) FROM runs")
    assert rows.fetchone()[0] < 200
    index.close()


def corrupt(path: Path) -> None:
    """Overwrite a file except for its header."""
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xa5" * (len(content) - 100))


def older(path: Path) -> None:
    """Replace the file by tables of an older version."""
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE runs (run_id TEXT PRIMARY KEY, function TEXT, status TEXT) WITHOUT ROWID")
    db.close()


@pytest.mark.parametrize("damage", [corrupt, older, lambda path: path.write_bytes(b"garbage" * 1_000)])
def test_unusable_tables_are_replaced(
    tmp_path: Path, damage: Callable[[Path], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """They are renamed, and history is read from its beginning; a reader leaves them unchanged."""
    path = tmp_path / "runs.sqlite"
    index = RunIndex(path)
    index.fold(records_of([BEGAN]))
    index.close()
    damage(path)
    damaged = path.read_bytes()
    with pytest.raises(UnreadableRuns, match="cannot be read"):
        RunIndex(path, keep=True)
    assert path.read_bytes() == damaged
    index = RunIndex(path)
    assert (tmp_path / "runs.sqlite.aside").read_bytes() == damaged
    assert "renamed to" in caplog.text
    assert (index.list(), index.position(HISTORY, 0)) == ([], 0)
    index.fold(records_of([BEGAN]))
    assert [run.run_id for run in index.list()] == ["r"]
    index.close()
    again = RunIndex(path)
    assert again.position(HISTORY, 0) == 1
    again.close()


def test_tables_of_other_topics_are_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another namespace in the same folder has other runs, and its positions would skip entries."""
    path = tmp_path / "runs.sqlite"
    theirs, ours = RunEnded("theirs", 1, 5, RunStatus.COMPLETED, "f"), BEGAN
    for origin, entry, known in (("a", theirs, 0), ("a", theirs, 1), ("b", ours, 0), ("b", ours, 1)):
        index = RunIndex(path, origin=origin)
        assert index.position(HISTORY, 0) == known
        index.fold(records_of([entry]))
        index.close()
    assert caplog.text.count("its runs are from other topics") == 1
    index = RunIndex(path, keep=True)
    assert [run.run_id for run in index.list()] == ["r"]
    index.close()


def test_tables_found_corrupt_later_are_replaced(tmp_path: Path) -> None:
    """The next fold fails, so that history is read again from its first position, without a gap."""
    path = tmp_path / "runs.sqlite"
    records = records_of([BEGAN, RunEnded("r", 2, 5_000, RunStatus.COMPLETED, "function")])
    index = RunIndex(path)
    index.fold(records[:1])
    index._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    index.close()
    index = RunIndex(path)
    corrupt(path)
    with pytest.raises(StoreError, match="rebuilt from history"):
        index.show("r")
    with pytest.raises(StoreError, match="was replaced"):
        index.fold(records[1:])
    assert index.position(HISTORY, 0) == 0
    index.fold(records)
    assert [run.status for run in index.list()] == ["completed"]
    index.close()


def test_open_runs_are_found_without_reading_the_others(new_tables: NewTables) -> None:
    """A replay asks before each timer that it fires, and may have replayed any number of runs."""
    index = RunIndex(new_tables())
    assert not index.has_open_runs()
    index.fold(records_of([BEGAN]))
    assert index.has_open_runs()
    index.fold(records_of([BEGAN, RunEnded("r", 2, 5_000, RunStatus.COMPLETED, "function")])[1:])
    assert not index.has_open_runs()
    index.close()


@pytest.mark.parametrize("size", [1, 7, 100])
def test_failed_attempts_of_a_step_are_kept(size: int, new_tables: NewTables) -> None:
    """Each has its start and its error without further lines; the step may succeed later, and the list is bounded."""
    stack = f'{"y" * 9_000}\n  File "app.py", line 7\n  File "/{"x" * 400}.py", line 42, in pay'
    error = ErrorInfo("ConnectionError", f"bank is down {'x' * 300}\nat line 2", stack)
    failed = [
        StepAttemptFailed("r", 2 + n, 2_000 + n, "s", "pay", n, error, 3_000 + n, started_at=1_000 + n)
        for n in range(25)
    ]
    ended = StepEnded("r", 27, 9_000, "s", "pay", StepKind.RUN, Value(Raw(b"1")), 25, 8_000)
    index, records = RunIndex(new_tables()), records_of([BEGAN, *failed, ended])
    for start in range(0, len(records), size):
        index.fold(records[start : start + size])
    run = index.show("r")
    assert run is not None
    (step,) = run.steps
    assert (step.status, step.attempts, step.error) == ("completed", 26, None)
    assert [(each.attempt, each.started_at, each.at, each.retry_at) for each in step.failures] == [
        (n, 1_000 + n, 2_000 + n, 3_000 + n) for n in range(20)
    ]
    assert {each.stack for each in step.failures} == {stack[-4_000:]}
    assert {each.place for each in step.failures} == {f"{'x' * 294}.py:42"}
    assert {(each.name, each.message) for each in step.failures} == {("ConnectionError", f"bank is down {'x' * 187}")}
    index.close()
