"""What the read model says of a request: whether a step waits for it, a run has taken it, and what was replied."""

import pytest

from stepstream.contract.codec import NULL, Json, Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepEnded, StepPlanned
from stepstream.contract.ids import run_hash, run_id_at, step_hash
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.operators.run_requests import (
    AcceptedRequest,
    RunRequest,
    encode_request,
    reply_step_id,
    request_signal,
)
from stepstream.contract.outcomes import TimedOut, Value
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.tables.run_requests import RequestState
from tests.runtime.readmodel.conftest import NewTables

RUN = run_id_at(1_000, run_hash("f", "e"))
FIRST, SECOND = step_hash("add", 0), step_hash("add", 1)
FORM = Raw(b'{"type":"integer"}')


def planned(seq: int, step: str) -> StepPlanned:
    """Return the start of a wait for a request."""
    detail = request_signal(RUN, step)
    return StepPlanned(RUN, seq, seq, step, "add", StepKind.SIGNAL, detail, 9_000, None, AcceptedRequest(FORM))


def taken(seq: int, step: str, id: str) -> StepEnded:
    """Return that a step took a request."""
    return StepEnded(RUN, seq, seq, step, "add", StepKind.SIGNAL, Value(encode_request(RunRequest(id, Raw(b"1")))))


def replied(seq: int, id: str) -> StepEnded:
    """Return that the run replied to a request."""
    step_id = reply_step_id("add", id)
    return StepEnded(RUN, seq, seq, step_hash(step_id, 0), step_id, StepKind.RUN, Value(Raw(b'{"total":1}')))


ENTRIES: list[HistoryEntry] = [
    RunBegan(RUN, 1, 1_000, "f", "a", 1_000, (EventRecord("go", id="e", ts=1_000),)),
    planned(2, FIRST),
    taken(3, FIRST, "r.1"),
    replied(4, "r.1"),
    planned(5, SECOND),
    StepEnded(RUN, 6, 6, SECOND, "add", StepKind.SIGNAL, TimedOut()),
    RunEnded(RUN, 7, 7, RunStatus.COMPLETED, "f", NULL),
]
FORM_JSON: Json = {"type": "integer"}
NOTHING = RequestState("running")


@pytest.mark.parametrize(
    ("count", "id", "state"),
    [
        (1, "r.1", NOTHING),
        (2, "r.1", RequestState("running", FIRST, FORM_JSON)),
        (3, "r.1", RequestState("running", is_taken=True)),
        (3, "r.2", NOTHING),
        (3, "r", NOTHING),
        (4, "r.1", RequestState("running", is_taken=True, has_reply=True, reply={"total": 1})),
        (5, "r.1", RequestState("running", SECOND, FORM_JSON, is_taken=True, has_reply=True, reply={"total": 1})),
        (5, "r.2", RequestState("running", SECOND, FORM_JSON)),
        (6, "r.2", NOTHING),
        (7, "r.2", RequestState("completed")),
        (7, "r.1", RequestState("completed", is_taken=True, has_reply=True, reply={"total": 1})),
    ],
)
async def test_a_request_has_the_state_of_its_run(
    count: int, id: str, state: RequestState, new_tables: NewTables
) -> None:
    """Each entry of history changes what is known of the request; an id that is the start of another one is not it."""
    index = RunIndex(new_tables())
    assert await index.queries.run_request(RUN, "add", id) is None
    records = [LogRecord(HISTORY, 0, at, b"", encode(entry), (), 1_000) for at, entry in enumerate(ENTRIES[:count])]
    index.fold(records)
    assert await index.queries.run_request(RUN, "add", id) == state
    other = await index.queries.run_request(RUN, "other", id)
    assert other == RequestState(state.status)
