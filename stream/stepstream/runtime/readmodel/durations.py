"""How long the latest runs of a function took, and the latest event that started one."""

from collections.abc import Sequence
from dataclasses import dataclass

from stepstream.contract.codec import Json
from stepstream.contract.events import OWN_PREFIX
from stepstream.contract.kinds import RunStatus
from stepstream.runtime.readmodel.dialect import Database
from stepstream.runtime.readmodel.tables.seen_events import event_of_first_run
from stepstream.runtime.readmodel.views import json_of

# How many of the latest completed runs of a function are measured.
MEASURED_MAX = 1_000
SLOWEST_MAX = 10
# How many runs of each status are searched for an event from outside.
_SEARCHED_MAX = 20
_SHARES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Durations:
    """How long the latest completed runs took (ms), from start to end, with waits.

    `p50_ms`, `p90_ms` and `p99_ms` are percentiles by the nearest rank, 0 without a run. `slowest` has run ids and
    durations (ms), the slowest first.
    """

    runs: int
    p50_ms: int
    p90_ms: int
    p99_ms: int
    slowest: Sequence[tuple[str, int]]


def durations(db: Database, function: str) -> Durations:
    """Return the durations of the latest completed runs of a function, of MEASURED_MAX at most."""
    query = (
        "SELECT run_id, ended_at - started_at FROM runs WHERE function = ? AND status = ? ORDER BY run_id DESC LIMIT ?"
    )
    found = db.execute(query, (function, RunStatus.COMPLETED, MEASURED_MAX)).fetchall()
    ordered = sorted(((run_id, max(length, 0)) for run_id, length in found), key=lambda each: each[1])
    # -(-a // b) is the quotient, rounded up.
    ranks = (max(-(-len(ordered) * round(share * 100) // 100), 1) for share in _SHARES)
    p50, p90, p99 = (ordered[rank - 1][1] if ordered else 0 for rank in ranks)
    return Durations(len(ordered), p50, p90, p99, ordered[: -SLOWEST_MAX - 1 : -1])


def latest_event(db: Database, function: str) -> Json:
    """Return the event of the latest run of a function that an event from outside started; None if there is none.

    A rerun counts only if there is no other run. As it may have other data, the event is
    returned as the first run has it that it started.
    """
    each = "SELECT run_id, events, origin FROM (SELECT run_id, events, origin FROM runs WHERE function = ?"
    each += " AND status = ? ORDER BY run_id DESC LIMIT ?) AS latest"
    values = [value for status in RunStatus for value in (function, status, _SEARCHED_MAX)]
    rows = db.execute(" UNION ALL ".join([each] * len(RunStatus)) + " ORDER BY run_id DESC", values).fetchall()
    for _, events, _ in sorted(rows, key=lambda row: row[2] != ""):
        first = _first(events)
        if isinstance(first, dict) and not str(first.get("name", "")).startswith(OWN_PREFIX):
            found = event_of_first_run(db, str(first.get("id")))
            return found.event if found else None
    return None


def _first(events: str) -> Json:
    found = json_of(events)
    return found[0] if isinstance(found, list) and found else None
