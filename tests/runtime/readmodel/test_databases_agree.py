"""SQLite and PostgreSQL answer each query of the read model alike."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from stepstream.contract.codec import dump_json, encode
from stepstream.contract.events import EventRecord, EventRef
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepAttemptFailed, StepEnded, StepPlanned
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.operators.run_requests import AcceptedRequest, request_signal
from stepstream.contract.outcomes import ErrorInfo, Failure, Value
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.postgresql_tables import PostgresqlTables
from stepstream.runtime.readmodel.queries import RunQueries
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.tables.timings import TimingOrder
from stepstream.runtime.readmodel.tables.waiting import REQUEST
from tests.postgresql import PostgresqlServer

RUNS = 12


def id_of(number: int) -> str:
    """Return the id of a run."""
    return run_id_at(1_000_000 + number, run_hash("f", str(number)))


def history() -> list[HistoryEntry]:
    """Return runs that end, fail, retry, and wait for an event or a signal.

    Two of the events end several waits or runs.
    """
    entries: list[HistoryEntry] = []
    came = Value(dump_json({"name": "paid", "id": "paid-1", "data": {}}))
    for number in range(RUNS):
        run, at, error = id_of(number), 1_000_000 + number, ErrorInfo("IOError", f"order {number} refused")
        event = EventRecord(f"order/{number % 3}", dump_json({"n": number}), f"e-{number}", at)
        function = f"f{number % 2}"
        began = RunBegan(run, 1, at, function, "shop", at, (event,), attributes={"n": number, "half": number / 2})
        entries += [began, StepEnded(run, 2, at + 5, "s1", "pick", StepKind.RUN, Value(dump_json("ok")), 0, at)]
        match number % 4:
            case 0:
                entries.append(StepPlanned(run, 3, at + 6, "s2", "paid", StepKind.WAIT, "paid data.n", at + 100))
                entries.append(StepEnded(run, 4, at + 7, "s2", "paid", StepKind.WAIT, came))
                entries.append(RunEnded(run, 5, at + 9, RunStatus.COMPLETED, function, dump_json({"n": number})))
            case 1:
                entries.append(StepAttemptFailed(run, 3, at + 6, "s2", "pay", 0, error, at + 50))
                entries.append(StepEnded(run, 4, at + 60, "s2", "pay", StepKind.RUN, Failure(error), 1, at + 50))
                entries.append(RunEnded(run, 5, at + 61, RunStatus.FAILED, function, error=error))
            case 2:
                entries.append(StepPlanned(run, 3, at + 6, "s2", "ok", StepKind.SIGNAL, f"sign/{number}", at + 100))
                waits = (StepKind.SIGNAL, request_signal(run, "s3"), at + 100, None, AcceptedRequest())
                entries.append(StepPlanned(run, 4, at + 6, "s3", "ask", *waits))
            case _:
                entries.append(StepPlanned(run, 3, at + 6, "s2", "paid", StepKind.WAIT, "paid data.n", at + 100))
                if number > 3:
                    withdrawn = EventRef("withdrawn", "w-1")
                    entries.append(RunEnded(run, 4, at + 9, RunStatus.CANCELLED, function, cancelled_by=withdrawn))
    return entries


SEARCHED = ("", "status:open,failed", "event:order*", "half=2.5", "event_id:paid-1,w-1", "-event_id:paid-1", "w-1")
# The arguments with which each query is asked, once or several times.
ASKED: Mapping[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "search": [((Filter.parse(text),), {"limit": 5}) for text in SEARCHED],
    "find_runs": [(([id_of(1), id_of(3), "none"],), {})],
    "count": [((Filter.parse("function:f*"),), {})],
    "count_statuses": [((Filter.parse(text),), {}) for text in ("", "function:f0", "event:order*", "half=2.5")],
    "show": [((id_of(1),), {}), (("none",), {})],
    "results": [(([id_of(0), id_of(1), id_of(2), "none"],), {})],
    "recorded": [((id_of(1),), {})],
    "recorded_all": [(([id_of(0), id_of(1), "none"],), {})],
    "open_approvals": [((5,), {})],
    "logs": [((id_of(1),), {}), ((id_of(1),), {"step": "s1"})],
    "approval": [((id_of(2), "s2"), {})],
    "run_request": [((id_of(2), "ask", "r1"), {}), (("none", "ok", "r1"), {})],
    "accepting": [((id_of(2), "s3"), {}), ((id_of(2), "s2"), {}), (("none", "s3"), {})],
    "waiting": [((kind, 2), {}) for kind in (StepKind.WAIT, StepKind.SIGNAL, StepKind.SLEEP, REQUEST)]
    + [((StepKind.WAIT, 5, (id_of(3), "s2")), {})],
    "count_waiting": [((), {})],
    "bulk": [(("none",), {})],
    "bulks": [((5,), {})],
    "counts": [((), {})],
    "function_counts": [((), {})],
    "rates": [((0,), {}), ((10**13,), {})],
    "durations": [(("f0",), {})],
    "latest_event": [(("f0",), {})],
    "timings": [((0,), {}), ((0,), {"steps": False, "function": "f1"}), ((0,), {"order": TimingOrder.FAILED})],
    "starting_events": [((), {"limit": 5}), (("order/1",), {"limit": 5}), ((), {"before": id_of(3)})],
    "resuming_events": [((), {}), (("paid",), {}), (("none",), {})],
    "cancelling_events": [((), {}), (("withdrawn",), {"limit": 1}), (("none",), {})],
    "event": [(("e-1",), {}), (("paid-1",), {}), (("w-1",), {}), (("none",), {})],
    "error_groups": [((), {}), (("f1",), {"since": 1, "limit": 2, "offset": 0})],
}
QUERIES = [name for name, query in inspect.getmembers(RunQueries, inspect.iscoroutinefunction) if name[0] != "_"]


@pytest.mark.long
@pytest.mark.parametrize("name", QUERIES)
async def test_both_databases_give_the_same_answer(name: str, both: list[RunIndex]) -> None:
    """A query that is added needs arguments in ASKED, and statements that both databases accept."""
    assert name in ASKED, f"add the arguments of {name} to ASKED"
    for arguments, options in ASKED[name]:
        answers = [await getattr(index.queries, name)(*arguments, **options) for index in both]
        assert answers[0] == answers[1]


@pytest.fixture(scope="module")
def both(postgresql: PostgresqlServer) -> Iterator[list[RunIndex]]:
    """A read model in each database, with the same history."""
    indexes = [RunIndex(), RunIndex(PostgresqlTables(postgresql.database()))]
    for index in indexes:
        index.fold([LogRecord(HISTORY, 0, at, b"", encode(entry), (), 1) for at, entry in enumerate(history())])
    yield indexes
    for index in indexes:
        index.close()
