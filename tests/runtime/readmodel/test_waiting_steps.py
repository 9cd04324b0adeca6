"""The list of waiting steps, and that of the events they wait for, read their index only, in its order."""

import sqlite3
from pathlib import Path

from stepstream.contract.codec import encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import HistoryEntry, RunBegan, StepPlanned
from stepstream.contract.kinds import StepKind
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.dialect import SqliteDatabase
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.reading import awaited_events
from stepstream.runtime.readmodel.tables.waiting import waiting_steps


def test_waiting_steps_are_read_in_the_order_of_the_index(tmp_path: Path) -> None:
    """No step is sorted, and none that has ended is read, however many there are; nor is each that waits for a name."""
    index = RunIndex(tmp_path / "runs.sqlite")
    entries: list[HistoryEntry] = []
    for run, detail in (("A", "two x == 1"), ("B", "one"), ("C", "two y == 1"), ("D", "")):
        kind = StepKind.WAIT if detail else StepKind.SLEEP
        entries.append(RunBegan(run, 1, 1, "f", "shop", 1, (EventRecord("go", id=f"e-{run}"),)))
        entries.append(StepPlanned(run, 2, 1, "s1", "ok", kind, detail, 9))
    index.fold([LogRecord(HISTORY, 0, at, b"", encode(entry), (), 9) for at, entry in enumerate(entries)])
    with sqlite3.connect(tmp_path / "runs.sqlite", factory=SqliteDatabase) as db:
        queries: list[str] = []
        db.set_trace_callback(queries.append)
        found = [step.run_id for step in waiting_steps(db, StepKind.WAIT, 10, ("", ""))]
        db.set_trace_callback(None)
        (query,) = (each for each in queries if "ORDER BY" in each)
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}")]
        db.set_trace_callback(queries.append)
        awaited = awaited_events(db)
        db.set_trace_callback(None)
        names = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {queries[-1]}")]
        pages = [[step.run_id for step in waiting_steps(db, StepKind.WAIT, 1, (run, "s1"))] for run in found]
    db.close()
    index.close()
    assert awaited == {"one", "two"}
    reads = [line for line in names if " steps " in line]
    assert all(line.startswith("SEARCH steps USING ") and " steps_waiting " in line for line in reads)
    # The first name, and then the next one each time.
    assert [line.partition(" (")[2] for line in reads] == ["kind=?)", "kind=? AND <expr>>?)"]
    assert (found, pages) == (["B", "A", "C"], [["A"], ["C"], []])
    assert plan[0] == "SEARCH s USING INDEX steps_waiting (kind=? AND <expr>>?)"
    assert not any(line.startswith(("SCAN", "USE TEMP B-TREE")) for line in plan)
