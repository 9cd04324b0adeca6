"""Reads of the read model's tables: a run with its steps, counts, sums, and the events that runs wait for."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from stepstream.contract.codec import Json
from stepstream.contract.kinds import OPEN_RUN_STATUSES, StepKind
from stepstream.contract.text.waits import SEVERAL_WORDS, read_several
from stepstream.runtime.readmodel.dialect import Database
from stepstream.runtime.readmodel.failed_attempts import read_attempts
from stepstream.runtime.readmodel.passed_limits import read_decisions
from stepstream.runtime.readmodel.stats import FunctionStats, RunStats
from stepstream.runtime.readmodel.tables.schema import name_of
from stepstream.runtime.readmodel.usage import total_usage
from stepstream.runtime.readmodel.views import RUN_COLUMNS, RunView, json_of, step_of, summary_of

_OPEN = ", ".join("?" * len(OPEN_RUN_STATUSES))
_WHOLE = ", ".join(f"runs.{name}" for name in RUN_COLUMNS.split(", "))
_WHOLE = _WHOLE.replace("runs.events, runs.error,", "run_texts.events, run_texts.error,")
# The names of the waits of a kind: SQLite seeks the next name in the index, however many steps wait for each.
_NAME = name_of()
_AWAITED = f"""
WITH RECURSIVE names (name) AS (
    SELECT min({_NAME}) FROM steps WHERE kind = ? AND status = 'waiting'
    UNION ALL
    SELECT (SELECT min({_NAME}) FROM steps WHERE kind = ? AND status = 'waiting' AND {_NAME} > names.name)
    FROM names WHERE names.name IS NOT NULL
) SELECT name FROM names WHERE name IS NOT NULL
"""
_SEVERAL = f"SELECT DISTINCT detail FROM steps WHERE kind = ? AND status = 'waiting' AND {_NAME} IN (?, ?)"


def show(db: Database, run_id: str) -> RunView | None:
    """Return one run with its steps in order."""
    more = "deadline, continuation, rerun, output, run_texts.state, run_texts.failures, run_texts.limits"
    query = f"SELECT {_WHOLE}, {more} FROM runs JOIN run_texts USING (run_id) WHERE runs.run_id = ?"
    row = db.execute(query, (run_id,)).fetchone()
    if row is None:
        return None
    steps = tuple(map(step_of, db.execute("SELECT * FROM steps WHERE run_id = ? ORDER BY seq", (run_id,))))
    origin = "SELECT run_id FROM runs WHERE origin = ? AND origin != '' ORDER BY run_id"
    reruns = tuple(found for (found,) in db.execute(origin, (run_id,)))
    deadline, continuation, rerun, output, state = map(json_of, row[-7:-2])
    known: dict[str, Any] = {"deadline": deadline, "continuation": continuation, "rerun": rerun, "reruns": reruns}
    known |= {
        "usage": total_usage(step.usage for step in steps),
        "state": state or {},
        "failures": read_attempts(row[-2]),
        "limits": read_decisions(row[-1]),
    }
    return RunView(**summary_of(row), output=output, steps=steps, **known)


def results(db: Database, run_ids: Sequence[str]) -> dict[str, tuple[Json, Json]]:
    """Return the outputs and the errors of these runs; those that do not exist are left out."""
    marks = ", ".join("?" * len(run_ids))
    found = db.execute(f"SELECT run_id, output, error FROM run_texts WHERE run_id IN ({marks})", tuple(run_ids))
    return {run_id: (json_of(output), json_of(error)) for run_id, output, error in found}


def awaited_events(db: Database) -> set[str]:
    """Return the names of the events that runs wait for."""
    names = {name for (name,) in db.execute(_AWAITED, (StepKind.WAIT, StepKind.WAIT))}
    several = db.execute(_SEVERAL, (StepKind.WAIT, *SEVERAL_WORDS)) if names & {*SEVERAL_WORDS} else ()
    waits = (each for (detail,) in several for each in read_several(detail)[1])
    return names | {text.partition(" ")[0] for _, text in waits}


def counts(db: Database, function: str = "") -> dict[str, int]:
    """Return how many runs there are by status, of one function or of all; no run is read for that."""
    query = "SELECT status, sum(runs) FROM run_sums WHERE runs > 0 AND ? IN ('', function) GROUP BY status"
    return dict(db.execute(query, (function,)))


def function_counts(db: Database) -> dict[str, dict[str, int]]:
    """Return how many runs there are by function and status."""
    found: dict[str, dict[str, int]] = {}
    for function, status, runs in db.execute("SELECT function, status, runs FROM run_sums WHERE runs > 0"):
        found.setdefault(function, {})[status] = runs
    return found


def stats(db: Database) -> RunStats:
    """Return the sums of all runs; only open runs are read for that."""
    stats = RunStats(Counter(counts(db)))
    stats.steps, stats.retries, stats.timeouts = db.execute("SELECT steps, retries, timeouts FROM step_sums").fetchone()
    totals = f"SELECT function, sum(runs), sum(total_ms) FROM run_sums WHERE status NOT IN ({_OPEN}) GROUP BY function"
    ended = db.execute(totals, OPEN_RUN_STATUSES)
    stats.functions = {name: FunctionStats(runs, total) for name, runs, total in ended if runs}
    still = f"SELECT run_id, started_at FROM runs WHERE status IN ({_OPEN})"
    stats.open = dict(db.execute(still, OPEN_RUN_STATUSES).fetchall())
    return stats


def has_open_runs(db: Database) -> bool:
    """Return whether a run has not ended."""
    query = f"SELECT 1 FROM runs WHERE status IN ({_OPEN}) LIMIT 1"
    return db.execute(query, OPEN_RUN_STATUSES).fetchone() is not None
