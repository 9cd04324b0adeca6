"""The list of open approvals reads what is open, whatever was decided before, and goes with its run."""

from collections.abc import Iterator

import pytest

from stepstream.contract.codec import NULL, Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepEnded, StepPlanned
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.operators.approvals import ApprovalRequest
from stepstream.contract.outcomes import Value
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.dialect import SqliteDatabase
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.queries import OPEN_APPROVALS
from stepstream.runtime.readmodel.tables.approvals import open_approvals
from tests.runtime.readmodel.conftest import NewTables

REQUEST = ApprovalRequest("Refund?", to=("ann",), form=Raw(b'{"type":"object"}'))


def begun(run: str, at: int) -> list[HistoryEntry]:
    """Return the entries of a run that asks."""
    began = RunBegan(run, 1, at, "refund", "shop", at, (EventRecord("go", id=f"e-{run}"),))
    return [began, StepPlanned(run, 2, at, "s1", "ok", StepKind.SIGNAL, "approval/x", at + 10, REQUEST)]


def decided(run: str, at: int) -> list[HistoryEntry]:
    """Return the entries after a decision."""
    ended = StepEnded(run, 3, at, "s1", "ok", StepKind.SIGNAL, Value(NULL))
    return [ended, RunEnded(run, 4, at, RunStatus.COMPLETED, "refund")]


@pytest.fixture
def index(new_tables: NewTables) -> Iterator[RunIndex]:
    """A read model with one decided approval, a cancelled one, and two open ones, the older one folded last."""
    made = RunIndex(new_tables())
    entries = [*begun("A", 1), *decided("A", 2), *begun("B", 9), *begun("C", 5), *begun("D", 3)]
    entries.append(RunEnded("D", 3, 6, RunStatus.CANCELLED, "refund"))
    made.fold([LogRecord(HISTORY, 0, at, b"", encode(entry), (), 9) for at, entry in enumerate(entries)])
    yield made
    made.close()


async def test_open_ones_are_listed_the_oldest_first(index: RunIndex) -> None:
    """Decided and cancelled approvals are not listed, and can still be found."""
    assert [(each.run_id, each.title, each.to, each.until) for each in index.open_approvals()] == [
        ("C", "Refund?", ("ann",), 15),
        ("B", "Refund?", ("ann",), 19),
    ]
    assert [each.run_id for each in index.open_approvals(1)] == ["C"]
    pages = [await index.queries.open_approvals(1, after) for after in (("C", "s1"), ("B", "s1"))]
    assert [[each.run_id for each in page] for page in pages] == [["B"], []]
    assert (await index.queries.counts())[OPEN_APPROVALS] == 2
    found = index.approval("A", "s1")
    assert found is not None
    assert (found.status, found.form) == ("completed", {"type": "object"})
    assert index.approval("A", "other") is None


def test_list_reads_no_decided_approval(index: RunIndex) -> None:
    """The list reads the index of waiting steps, so a million decisions cost it nothing."""
    if not isinstance(db := index._db, SqliteDatabase):
        # The few rows here are no reason for PostgreSQL to read an index.
        return
    queries: list[str] = []
    db.set_trace_callback(queries.append)
    open_approvals(db, 10)
    db.set_trace_callback(None)
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {queries[0]}")]
    assert plan[0] == "SEARCH s USING INDEX steps_waiting (kind=? AND <expr>>? AND <expr><?)"
    assert not any(line.startswith("SCAN") for line in plan)


def test_dropped_runs_take_their_approvals_with_them(index: RunIndex) -> None:
    """Pruning leaves no row of a dropped run."""
    while index.drop(ended_before=100):
        pass
    left = index._db.execute("SELECT run_id FROM approvals ORDER BY run_id")
    assert [run for (run,) in left] == ["B", "C"]
