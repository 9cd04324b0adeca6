"""What each open run waits for: found when its history is folded, so that lists show and filter it by their index."""

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from stepstream.contract.codec import encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import (
    HistoryEntry,
    RunAttemptFailed,
    RunBegan,
    RunEnded,
    RunPaused,
    StepAttemptFailed,
    StepCancelled,
    StepEnded,
    StepPlanned,
    StepProgressed,
)
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.operators.control import Pause
from stepstream.contract.outcomes import ErrorInfo, TimedOut
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.activity import Activity
from stepstream.runtime.readmodel.dialect import SqliteDatabase
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.search.search import search
from stepstream.runtime.readmodel.tables.waits import find_waits
from tests.runtime.readmodel.conftest import NewTables

ERROR = ErrorInfo("IOError", "refused")
NOW = 1_000


def sleep(run: str, seq: int = 2, step: str = "s", until: int = 9_000) -> StepPlanned:
    """Return the plan of a sleep."""
    return StepPlanned(run, seq, 5, step, f"nap {step}", StepKind.SLEEP, "", until)


def planned(run: str, kind: StepKind, detail: str, seq: int = 2, step: str = "s") -> StepPlanned:
    """Return the plan of a step that waits for an hour."""
    return StepPlanned(run, seq, 5, step, "it", kind, detail, 3_600_000)


def ended(run: str, seq: int, step: str = "s") -> StepEnded:
    """Return the end of a step."""
    return StepEnded(run, seq, 6, step, "it", StepKind.SLEEP, TimedOut())


# What happens to a run after its beginning, and what its list then shows at NOW.
CASES: dict[str, tuple[list[HistoryEntry], str]] = {
    "began": ([], "running"),
    "sleep": ([sleep("r")], "sleeping until 9000"),
    "sleep-ended": ([sleep("r"), ended("r", 3)], "running"),
    "sleep-cancelled": ([sleep("r"), StepCancelled("r", 3, 6, "s", "nap")], "running"),
    "first-of-two-sleeps": ([sleep("r"), sleep("r", 3, "t", until=8_000)], "sleeping until 8000"),
    "event": ([planned("r", StepKind.WAIT, "paid data.id")], "waiting for event paid"),
    "signal": ([planned("r", StepKind.SIGNAL, "go/1")], "waiting for signal go/1"),
    "approval": ([planned("r", StepKind.SIGNAL, "approval/r/s")], "waiting for an approval"),
    "child": ([planned("r", StepKind.INVOKE, "refund")], "waiting for run of refund"),
    "event-before-sleep": ([sleep("r"), planned("r", StepKind.WAIT, "paid", 3, "t")], "waiting for event paid"),
    "queue": ([planned("r", StepKind.RUN, "queue gpu")], "running"),
    "queue-beside-sleep": ([sleep("r"), planned("r", StepKind.RUN, "queue gpu", 3, "t")], "running"),
    "retry": ([StepAttemptFailed("r", 2, 5, "s", "pay", 0, ERROR, 4_000)], "retrying at 4000"),
    "running-body-beside-sleep": ([sleep("r"), StepProgressed("r", 3, 5, "t", "copy", 0)], "running"),
    "running-after-retry": (
        [StepAttemptFailed("r", 2, 5, "s", "pay", 0, ERROR, 4_000), StepProgressed("r", 3, 6, "s", "pay", 1)],
        "running",
    ),
    "retry-whose-time-has-come": ([StepAttemptFailed("r", 2, 5, "s", "pay", 0, ERROR, NOW)], "running"),
    "retry-of-the-code": ([RunAttemptFailed("r", 2, 5, 0, ERROR, 4_000)], "retrying at 4000"),
    "step-after-that-retry": ([RunAttemptFailed("r", 2, 5, 0, ERROR, 5), sleep("r", 3)], "sleeping until 9000"),
    "paused": (
        [sleep("r"), RunPaused("r", 3, 6, Pause(7_000, "ann", "fix"))],
        "paused until 7000, sleeping until 9000",
    ),
    "ended": ([sleep("r"), RunEnded("r", 3, 6, RunStatus.CANCELLED, "f")], "cancelled"),
}


def fold(index: RunIndex, entries: list[HistoryEntry], size: int = 100) -> None:
    """Fold history in batches."""
    records = [LogRecord(HISTORY, 0, at, b"", encode(entry), (), 1) for at, entry in enumerate(entries)]
    for at in range(0, len(records), size):
        index.fold(records[at : at + size])


def began(run: str) -> RunBegan:
    """Return the beginning of a run."""
    return RunBegan(run, 1, 1, "f", "shop", 1, (EventRecord("go", id=f"e-{run}"),))


def shown(each: Activity) -> str:
    """Return what a list shows of a run."""
    until = f" {each.word} {each.until}" if each.until else ""
    return f"{each.state} for {each.name}{until}" if each.name else f"{each.state}{until}"


@pytest.mark.parametrize("size", [1, 100], ids=["one-by-one", "at-once"])
def test_a_list_shows_what_a_run_does(new_tables: NewTables, size: int) -> None:
    """Its status alone says `running` of a run that sleeps, waits or retries."""
    index = RunIndex(new_tables())
    entries: list[HistoryEntry] = []
    for name, (happened, _) in CASES.items():
        entries += [began(name), *(replace(each, run_id=name) for each in happened)]
    fold(index, entries, size)
    found = {run.run_id: ", ".join(map(shown, run.activities(NOW))) for run in index.list()}
    assert found == {name: expected for name, (_, expected) in CASES.items()}
    index.close()


def id_of(number: int) -> str:
    """Return the id of a run."""
    return run_id_at(1_000_000 + number, run_hash("f", str(number)))


WAITING: list[tuple[str, set[int]]] = [
    ("status:sleeping", {0, 4}),
    ("status:waiting", {1}),
    ("status:retrying", {2}),
    ("status:running", {0, 1, 2, 3, 4, 5}),
    ("status:running -status:sleeping,waiting,retrying", {3, 5}),
    ("status:sleeping,completed", {0, 4, 6}),
    ("status:sleeping function:f", {0, 4}),
    ("status:sleeping,completed function:f app:shop", {0, 4, 6}),
]


@pytest.mark.parametrize(("text", "expected"), WAITING, ids=[text for text, _ in WAITING])
def test_a_filter_finds_what_waits(new_tables: NewTables, text: str, expected: set[int]) -> None:
    """By itself, excluded, and with other terms; a retry whose time has come is none."""
    index = RunIndex(new_tables())
    runs = [id_of(number) for number in range(7)]
    entries: list[HistoryEntry] = [began(run) for run in runs]
    entries += [sleep(runs[0]), planned(runs[1], StepKind.WAIT, "paid"), sleep(runs[4])]
    entries += [
        StepAttemptFailed(run, 2, 5, "s", "pay", 0, ERROR, at) for run, at in ((runs[2], 4_000), (runs[3], 900))
    ]
    entries.append(RunEnded(runs[6], 2, 6, RunStatus.COMPLETED, "f"))
    fold(index, entries)
    for size in (2, 100):
        found, before = set[str](), ""
        while True:
            page = search(index._db, Filter.parse(text), NOW, before=before, limit=size)
            found |= {run.run_id for run in page.runs}
            if not (before := page.next):
                break
        assert found == {runs[number] for number in expected}
    index.close()


def test_a_step_that_is_retried_has_its_last_error(new_tables: NewTables) -> None:
    """Lists show it without reading steps: its name, and a bounded first line of its message."""
    index = RunIndex(new_tables())
    failed = [
        StepAttemptFailed("r", 2, 5, "s", "pay", 0, ERROR, 4_000),
        StepAttemptFailed("r", 3, 6, "s", "pay", 1, ErrorInfo("OSError", f"{'x' * 300}\nsecond"), 5_000),
    ]
    fold(index, [began("r"), *failed])
    (run,) = index.list()
    assert run.last_error == {"name": "OSError", "message": "x" * 200}
    fold(index, [StepProgressed("r", 4, 7, "s", "pay", 2)])
    (run,) = index.list()
    assert run.last_error == {}
    index.close()


def test_no_step_is_read_that_does_not_decide(tmp_path: Path) -> None:
    """Of a run with many open steps the index has the one that decides first; the filter reads its index only."""
    index = RunIndex(tmp_path / "runs.sqlite")
    fold(index, [began("r"), *(sleep("r", seq, f"s{seq}") for seq in range(2, 50))])
    with sqlite3.connect(tmp_path / "runs.sqlite", factory=SqliteDatabase) as db:
        queries: list[str] = []
        db.set_trace_callback(queries.append)
        assert find_waits(db, ["r", "none"])["r"]["step"] == "nap s10"
        search(db, Filter.parse("status:sleeping"), NOW)
        db.set_trace_callback(None)
        plans = ["; ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {each}")) for each in queries[:2]]
    db.close()
    index.close()
    assert "SEARCH o USING INDEX steps_open (run_id=?)" in plans[0]
    assert "SEARCH runs USING INDEX runs_by_wait (<expr>=?)" in plans[1]
    assert not any("TEMP B-TREE" in plan for plan in plans)
