"""The steps that wait for a signal, an event or a time, as the page of what waits lists them."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

from stepstream.contract.codec import Json
from stepstream.contract.kinds import StepKind
from stepstream.contract.operators.run_requests import REQUEST_SIGNALS
from stepstream.runtime.readmodel.dialect import Database
from stepstream.runtime.readmodel.tables.schema import name_of
from stepstream.runtime.readmodel.views import json_of

# A list does not read larger events.
EVENT_CHARACTERS_MAX = 64 * 1024
_NAME, _PLAIN = name_of("s"), name_of()
# A step that waits for a request waits for a signal with a name of request_signal.
REQUEST: Literal["request"] = "request"
WaitKind = StepKind | Literal["request"]
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


def waiting_steps(db: Database, kind: WaitKind, limit: int, after: tuple[str, str]) -> list[WaitingStep]:
    """Return the waiting steps of a kind after a step (run id and hash); those for signals without approvals, requests.

    They are ordered by what they wait for, and those that wait for the same by the age of their runs.
    """
    found = db.execute(f"SELECT {name_of()} FROM steps WHERE run_id = ? AND step = ?", after).fetchone()
    last = (found[0], *after) if found else ("", "", "")
    # The status is a literal, because a partial index is not used for parameters.
    query = (
        f"SELECT {_COLUMNS} FROM steps s CROSS JOIN runs r USING (run_id) "
        f"WHERE s.kind = ? AND s.status = 'waiting' AND {_NAME} >= ? AND ({_NAME}, s.run_id, s.step) > (?, ?, ?) "
        f"AND {_REQUESTS if kind == REQUEST else _OTHERS} ORDER BY {_NAME}, s.run_id, s.step LIMIT ?"
    )
    step_kind, least = (StepKind.SIGNAL, max(last[0], REQUEST_SIGNALS)) if kind == REQUEST else (kind, last[0])
    steps = [WaitingStep(*row) for row in db.execute(query, (step_kind, least, *last, limit))]
    events = _own_events(db, {step.run_id for step in steps}) if kind == StepKind.WAIT else {}
    return [replace(step, event=events.get(step.run_id)) for step in steps]


_IN = "(SELECT 1 FROM {} t WHERE t.run_id = s.run_id AND t.step = s.step)"
_OTHERS = " AND ".join(f"NOT EXISTS {_IN.format(table)}" for table in ("approvals", "run_requests"))
_REQUESTS = f"{_NAME} < 'request0' AND EXISTS {_IN.format('run_requests')}"


def _own_events(db: Database, run_ids: Set[str]) -> Mapping[str, Json]:
    """Return the first event of each run that has no large events."""
    if not run_ids:
        return {}
    query = f"SELECT run_id, events FROM run_texts WHERE run_id IN ({', '.join('?' * len(run_ids))})"
    rows = db.execute(f"{query} AND length(events) <= ?", (*run_ids, EVENT_CHARACTERS_MAX))
    found = {run_id: json_of(events) for run_id, events in rows}
    return {run_id: events[0] for run_id, events in found.items() if isinstance(events, list) and events}


def count_waiting(db: Database, most: int) -> dict[WaitKind, int]:
    """Return how many steps wait by kind, at most `most`; those for signals without approvals and requests."""
    return {kind: _count(db, kind, names, most) for kind, names in _COUNTED.items()}


_ARE_REQUESTS = f"{_PLAIN} >= 'request/' AND {_PLAIN} < 'request0'"
# Those before, between and after the names of approvals and requests, as approval_signal and request_signal have them.
_OTHER_SIGNALS = (
    f"{_PLAIN} < 'approval/'",
    f"{_PLAIN} >= 'approval0' AND {_PLAIN} < 'request/'",
    f"{_PLAIN} >= 'request0'",
)
_COUNTED: Mapping[WaitKind, Sequence[str]] = {
    StepKind.SIGNAL: _OTHER_SIGNALS,
    REQUEST: (_ARE_REQUESTS,),
    StepKind.WAIT: ("true",),
    StepKind.SLEEP: ("true",),
}


def _count(db: Database, kind: WaitKind, names: Sequence[str], most: int) -> int:
    found = 0
    for condition in names:
        some = f"SELECT 1 FROM steps WHERE kind = ? AND status = 'waiting' AND {condition} LIMIT ?"
        step_kind = StepKind.SIGNAL if kind == REQUEST else kind
        found += int(db.execute(f"SELECT count(*) FROM ({some}) AS s", (step_kind, most - found)).fetchone()[0])
    return found
