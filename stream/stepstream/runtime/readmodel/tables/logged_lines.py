"""What runs logged, in the read model: lines by run, bounded by age and number."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import DAY_MS
from stepstream.contract.logs import StepLogged
from stepstream.runtime.readmodel.dialect import Database, lock_sums

LOG_KEPT_MS = 7 * DAY_MS
LOG_LINES_MAX = 1_000_000
_LINES_PER_SLICE = 500
_EVER = 2**62
_COLUMNS = "at, source, number, step, attempt, level, logger, text"


@dataclass(frozen=True, slots=True)
class LoggedLine:
    """A line that a run logged: at a time (Unix ms), in an attempt (from 0) of a step by its hash, "" between steps.

    `after` is what `after` of a query must be to get the lines that follow.
    """

    at: int
    step: str
    attempt: int
    level: str
    logger: str
    text: str
    after: str


def add_lines(db: Database, entries: Iterable[StepLogged]) -> None:
    """Add lines; those that the table has are replaced, so adding them again changes nothing."""
    rows = [
        (each.run_id, line.at, each.source, line.number, each.step, each.attempt, line.level, line.logger, line.text)
        for each in entries
        for line in each.lines
    ]
    known = db.executemany(
        "DELETE FROM logs WHERE run_id = ? AND at = ? AND source = ? AND number = ?", (row[:4] for row in rows)
    ).rowcount
    db.executemany("INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    if rows:
        lock_sums(db)
        db.execute("UPDATE log_sums SET lines = lines + ?", (len(rows) - max(known, 0),))


def read_lines(
    db: Database, run_id: str, *, step: str | None = None, after: str = "", limit: int = 1_000
) -> list[LoggedLine]:
    """Return lines of a run, or of one step of it (a hash, or "" for the code between steps), in order of time.

    Raise InvalidInput if `after` is not of a line.
    """
    query = f"SELECT {_COLUMNS} FROM logs WHERE run_id = ? AND (at, source, number) > (?, ?, ?)"
    values: list[object] = [run_id, *_cursor(after)]
    if step is not None:
        query += " AND step = ?"
        values.append(step)
    found = db.execute(f"{query} ORDER BY at, source, number LIMIT ?", (*values, limit))
    return [
        LoggedLine(at, hash, attempt, level, logger, text, f"{at}-{source}-{number}")
        for at, source, number, hash, attempt, level, logger, text in found
    ]


def _cursor(after: str) -> tuple[int, str, int]:
    if not after:
        return 0, "", -1
    at, _, rest = after.partition("-")
    source, _, number = rest.rpartition("-")
    if not (at.isascii() and at.isdecimal() and number.isascii() and number.isdecimal() and len(after) < 100):
        raise InvalidInput(f"{after!r} is not the `after` of a line", "after")
    return int(at), source, int(number)


def drop_lines(db: Database, now: int) -> int:
    """Delete some lines that are older than LOG_KEPT_MS or exceed LOG_LINES_MAX, the oldest first; return how many."""
    (lines,) = db.execute("SELECT lines FROM log_sums").fetchone()
    limit = _EVER if lines > LOG_LINES_MAX else now - LOG_KEPT_MS
    return drop_lines_before(db, limit, _LINES_PER_SLICE)


def drop_lines_before(db: Database, at: int, most: int) -> int:
    """Delete at most so many lines that are older than a time (Unix ms), the oldest first; return how many."""
    return _drop(db, "at < ? ORDER BY at", (at,), most)


def drop_lines_of(db: Database, run_id: str) -> int:
    """Delete some lines of a run; return how many, 0 if none is left."""
    return _drop(db, "run_id = ?", (run_id,), _LINES_PER_SLICE)


def _drop(db: Database, where: str, values: Sequence[object], most: int) -> int:
    key = "run_id, at, source, number"
    some = f"SELECT {key} FROM logs WHERE {where} LIMIT {most}"
    dropped = db.execute(f"DELETE FROM logs WHERE ({key}) IN ({some})", values).rowcount
    if dropped:
        lock_sums(db)
        db.execute("UPDATE log_sums SET lines = lines - ?", (dropped,))
    return dropped
