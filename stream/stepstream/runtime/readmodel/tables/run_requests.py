"""The requests in the read model: what the steps of a run accept, and the reply to each request."""

from dataclasses import dataclass

from stepstream.contract.codec import Json
from stepstream.contract.history import StepPlanned
from stepstream.contract.ids import step_hash
from stepstream.contract.kinds import ENDED_RUN_STATUSES, StepStatus
from stepstream.contract.operators.run_requests import AcceptedRequest, reply_step_id, request_start
from stepstream.runtime.readmodel.dialect import Database
from stepstream.runtime.readmodel.views import json_of

_OF_NAME = "FROM run_requests q JOIN steps s USING (run_id, step) WHERE q.run_id = ? AND s.id = ?"


@dataclass(frozen=True, slots=True)
class RequestState:
    """What a run, whose status is `status`, has done with a request.

    A `step` waits for a request of the name, "" if none does; it accepts data that fit the JSON schema `form`, None for
    any data. The run has taken the request if `is_taken`, and replied with `reply` if `has_reply`.
    """

    status: str
    step: str = ""
    form: Json = None
    is_taken: bool = False
    has_reply: bool = False
    reply: Json = None

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended."""
        return self.status in ENDED_RUN_STATUSES


@dataclass(frozen=True, slots=True)
class AcceptingStep:
    """A step that accepts requests of the name `name`, or did; times in Unix ms, `form` a JSON schema or None."""

    run_id: str
    step: str
    name: str
    function: str
    status: str
    since: int
    until: int
    form: Json

    @property
    def is_open(self) -> bool:
        """Return whether the step waits for a request."""
        return self.status == StepStatus.WAITING


def accept(db: Database, entry: StepPlanned, accepted: AcceptedRequest) -> None:
    """Store what a step accepts."""
    row = (entry.run_id, entry.step, bytes(accepted.form).decode())
    db.execute("INSERT INTO run_requests VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row)


def find_accepting(db: Database, run_id: str, step: str) -> AcceptingStep | None:
    """Return what a step accepts or accepted, None if it accepts no requests."""
    query = (
        "SELECT s.step, s.id, r.function, s.status, s.first_at, s.until, q.form FROM run_requests q "
        "JOIN steps s USING (run_id, step) JOIN runs r USING (run_id) WHERE q.run_id = ? AND q.step = ?"
    )
    row = db.execute(query, (run_id, step)).fetchone()
    if row is None:
        return None
    id, name, function, status, since, until, form = row
    return AcceptingStep(run_id, id, name, function, status, since, until, json_of(form))


def find_request(db: Database, run_id: str, name: str, id: str) -> RequestState | None:
    """Return what a run has done with the request that has this name and id, None if there is no such run.

    A batch may be folded between the queries. So the step that waits is read first: if it began to wait after another
    one took the request, the later query finds that one.
    """
    run = db.execute("SELECT status FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if run is None:
        return None
    waits = f"SELECT s.step, q.form {_OF_NAME} AND s.status = 'waiting' ORDER BY s.seq LIMIT 1"
    step, form = db.execute(waits, (run_id, name)).fetchone() or ("", None)
    start = request_start(id)
    taken = f"SELECT 1 {_OF_NAME} AND s.status = 'completed' AND substr(s.output, 1, {len(start)}) = ?"
    is_taken = db.execute(taken, (run_id, name, start)).fetchone() is not None
    replied = "SELECT output FROM steps WHERE run_id = ? AND step = ? AND status = 'completed'"
    reply = db.execute(replied, (run_id, step_hash(reply_step_id(name, id), 0))).fetchone()
    return RequestState(run[0], step, json_of(form), is_taken, bool(reply), json_of(reply[0]) if reply else None)
