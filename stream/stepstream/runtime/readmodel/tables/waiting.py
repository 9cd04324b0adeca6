"""The steps that wait for a signal, an event or a time, as the page of what waits lists them."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

from stepstream.contract.codec import Json
from stepstream.contract.kinds import StepKind
from stepstream.runtime.readmodel.dialect import Database
from stepstream.runtime.readmodel.tables.schema import name_of
from stepstream.runtime.readmodel.views import json_of

# A list does not read larger events.
EVENT_CHARACTERS_MAX = 64 * 1024
_NAME, _PLAIN = name_of("s"), name_of()
_COLUMNS = "s.run_id, s.step, s.id, r.function, s.detail, s.first_at, s.until"


@dataclass(frozen=True, slots=True)
class WaitingStep:
    """A step that waits; times in Unix ms, `until` 0 for no limit.

    `detail` is a signal, or an event and a condition. Of a step that waits for an event, `event` is the event that
    started its run, None if that is large.
    """

    run_id: str
    step: str
    id: str
    function: str
    detail: str
    since: int
    until: int
    event: Json = None


def waiting_steps(db: Database, kind: StepKind, limit: int, after: tuple[str, str]) -> list[WaitingStep]:
    """Return the waiting steps of a kind after a step (run id and hash), without approvals.

    They are ordered by what they wait for, and those that wait for the same by the age of their runs.
    """
    found = db.execute(f"SELECT {name_of()} FROM steps WHERE run_id = ? AND step = ?", after).fetchone()
    last = (found[0], *after) if found else ("", "", "")
    # The status is a literal, because a partial index is not used for parameters.
    query = (
        f"SELECT {_COLUMNS} FROM steps s CROSS JOIN runs r USING (run_id) "
        f"WHERE s.kind = ? AND s.status = 'waiting' AND {_NAME} >= ? AND ({_NAME}, s.run_id, s.step) > (?, ?, ?) "
        "AND NOT EXISTS (SELECT 1 FROM approvals a WHERE a.run_id = s.run_id AND a.step = s.step) "
        f"ORDER BY {_NAME}, s.run_id, s.step LIMIT ?"
    )
    steps = [WaitingStep(*row) for row in db.execute(query, (kind, last[0], *last, limit))]
    events = _own_events(db, {step.run_id for step in steps}) if kind == StepKind.WAIT else {}
    return [replace(step, event=events.get(step.run_id)) for step in steps]


def _own_events(db: Database, run_ids: Set[str]) -> Mapping[str, Json]:
    """Return the first event of each run that has no large events."""
    if not run_ids:
        return {}
    query = f"SELECT run_id, events FROM run_texts WHERE run_id IN ({', '.join('?' * len(run_ids))})"
    rows = db.execute(f"{query} AND length(events) <= ?", (*run_ids, EVENT_CHARACTERS_MAX))
    found = {run_id: json_of(events) for run_id, events in rows}
    return {run_id: events[0] for run_id, events in found.items() if isinstance(events, list) and events}


def count_waiting(db: Database, most: int) -> dict[StepKind, int]:
    """Return how many steps of each kind wait for a signal, an event or a time, without approvals; at most `most`."""
    return {kind: _count(db, kind, names, most) for kind, names in _COUNTED.items()}


# Those before and after the names of approvals, as approval_signal has them.
_NOT_APPROVALS = (f"{_PLAIN} < 'approval/'", f"{_PLAIN} >= 'approval0'")
_COUNTED = {StepKind.SIGNAL: _NOT_APPROVALS, StepKind.WAIT: ("true",), StepKind.SLEEP: ("true",)}


def _count(db: Database, kind: StepKind, names: Sequence[str], most: int) -> int:
    found = 0
    for condition in names:
        some = f"SELECT 1 FROM steps WHERE kind = ? AND status = 'waiting' AND {condition} LIMIT ?"
        found += int(db.execute(f"SELECT count(*) FROM ({some}) AS s", (kind, most - found)).fetchone()[0])
    return found
