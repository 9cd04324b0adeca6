"""The approvals in the read model: what waits for a person's decision, and what was asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stepstream.contract.codec import Json, load_json
from stepstream.contract.history import StepPlanned
from stepstream.contract.kinds import StepStatus
from stepstream.contract.operators.approvals import ApprovalRequest
from stepstream.runtime.readmodel.dialect import Database
from stepstream.runtime.readmodel.tables.schema import name_of, text_of

_COLUMNS = "a.run_id, a.step, s.id, r.function, s.status, s.first_at, s.until, a.request"
_WAITING = "steps s JOIN approvals a USING (run_id, step)"
_FROM = f"{_WAITING} JOIN runs r USING (run_id)"
# As literals, because a partial index is not used for parameters. The names are those of approval_signal.
_OPEN = f"s.kind = 'signal' AND s.status = 'waiting' AND {name_of('s')} >= 'approval/' AND {name_of('s')} < 'approval0'"


@dataclass(frozen=True, slots=True)
class ApprovalView:
    """A step that asks a person; times in Unix ms, `form` a JSON schema or None, `status` a StepStatus."""

    run_id: str
    step: str
    id: str
    function: str
    status: str
    asked_at: int
    until: int
    title: str
    description: str
    to: tuple[str, ...]
    form: Json

    @property
    def is_open(self) -> bool:
        """Return whether the step waits for a decision."""
        return self.status == StepStatus.WAITING


def ask(db: Database, entry: StepPlanned, request: ApprovalRequest) -> None:
    """Store what a step asks."""
    row = (entry.run_id, entry.step, text_of(request))
    db.execute("INSERT INTO approvals VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row)


def open_approvals(db: Database, limit: int, after: tuple[str, str] = ("", "")) -> list[ApprovalView]:
    """Return the approvals that wait for a decision, the oldest first: those after a step (run id and hash)."""
    asked = "coalesce((SELECT first_at FROM steps WHERE run_id = ? AND step = ?), -1)"
    where = f"{_OPEN} AND (s.first_at, s.run_id, s.step) > ({asked}, ?, ?)"
    query = f"SELECT {_COLUMNS} FROM {_FROM} WHERE {where} ORDER BY s.first_at, s.run_id, s.step LIMIT ?"
    return [_view(row) for row in db.execute(query, (*after, *after, limit))]


def count_open_approvals(db: Database, most: int) -> int:
    """Return how many approvals wait for a decision; `most` if there are more."""
    query = f"SELECT count(*) FROM (SELECT 1 FROM {_WAITING} WHERE {_OPEN} LIMIT ?) AS waiting"
    return int(db.execute(query, (most,)).fetchone()[0])


def find_approval(db: Database, run_id: str, step: str) -> ApprovalView | None:
    """Return what a step asks or asked, None if it is no approval."""
    query = f"SELECT {_COLUMNS} FROM {_FROM} WHERE a.run_id = ? AND a.step = ?"
    row = db.execute(query, (run_id, step)).fetchone()
    return _view(row) if row else None


def _view(row: Sequence[Any]) -> ApprovalView:
    run_id, step, id, function, status, asked_at, until, request = row
    asked: Any = load_json(request.encode(), own=True)
    title, description, to = asked["title"], asked.get("description", ""), tuple(asked.get("to", ()))
    return ApprovalView(run_id, step, id, function, status, asked_at, until, title, description, to, asked.get("form"))
