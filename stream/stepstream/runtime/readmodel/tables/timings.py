"""How long steps and runs took, and how many failed, by hour: counts of bands of durations, so no step is read again.

A band ends 9 % above the one before it. That is the precision of percentiles; the slowest one is exact.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, groupby
from typing import Any

from stepstream.contract.limits import DAY_MS, HOUR_MS
from stepstream.runtime.readmodel.dialect import Database

KEPT_MS = 7 * DAY_MS
# The oldest hours are dropped above this: ids of steps may differ in what is not recognised as a value.
ROWS_MAX = 50_000
# An entry of an index of PostgreSQL has at most 2,704 bytes, which the id of a function needs too.
PATTERN_CHARACTERS_MAX = 300
_BANDS_PER_DOUBLING = 8
_MS_DIGITS = 15
# UUIDs, and long words with a digit: ULIDs and hashes.
_ID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|(?=[A-Za-z]*\d)[0-9A-Za-z]{12,}")
_NUMBER = re.compile(r"\d+")
TABLE = """
CREATE TABLE IF NOT EXISTS timings (
    hour INTEGER, function TEXT, step TEXT, band INTEGER, ended INTEGER, failed INTEGER, slowest TEXT,
    PRIMARY KEY (hour, function, step, band)
) WITHOUT ROWID;
"""


class TimingOrder(StrEnum):
    """What comes first in a list of timings."""

    P95 = "p95"
    SLOWEST = "slowest"
    FAILED = "failed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the steps of one id, or the runs of a function (`step` is ""), took that ended in some hours (ms).

    A step takes as long as its last attempt. Numbers in ids of steps are `#`, and long ids in them `…`. `p50_ms` and
    `p95_ms` are at most 9 % too large. Cancelled runs do not count. `run_id` is the run of the slowest.
    """

    function: str
    step: str
    ended: int
    failed: int
    p50_ms: int
    p95_ms: int
    slowest_ms: int
    run_id: str


@dataclass(frozen=True, slots=True)
class Rate:
    """How many runs of a function completed or failed in some hours, and how many of them failed."""

    ended: int = 0
    failed: int = 0


def pattern_of(step: str) -> str:
    """Return the id of a step without what differs between the rounds of a loop."""
    return _NUMBER.sub("#", _ID.sub("…", step))[:PATTERN_CHARACTERS_MAX]


class Timings:
    """The durations of a batch of history, added to the table by `write`."""

    def __init__(self) -> None:
        self._added: dict[tuple[int, str, str, int], tuple[int, int, str]] = {}

    def add(self, function: str, step: str, run_id: str, started_at: int, ended_at: int, *, failed: bool) -> None:
        """Add a step, or the run itself if `step` is ""; times in Unix ms."""
        length = max(ended_at - started_at, 0)
        key = (ended_at // HOUR_MS, function, pattern_of(step), _band(length))
        ended, failures, slowest = self._added.get(key, (0, 0, ""))
        self._added[key] = (ended + 1, failures + failed, max(slowest, f"{length:0{_MS_DIGITS}}{run_id}"))

    def write(self, db: Database) -> None:
        """Add the durations to the table."""
        db.executemany(
            "INSERT INTO timings VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hour, function, step, band) DO UPDATE SET "
            "ended = timings.ended + excluded.ended, failed = timings.failed + excluded.failed, slowest = "
            "CASE WHEN excluded.slowest > timings.slowest THEN excluded.slowest ELSE timings.slowest END",
            ((*key, *values) for key, values in self._added.items()),
        )


def list_timings(
    db: Database, *, since: int, steps: bool, function: str, order: TimingOrder, limit: int, offset: int = 0
) -> list[Timing]:
    """Return the timings of steps, or of whole runs, since the hour of a time (Unix ms), of one function or of all."""
    query = (
        "SELECT function, step, band, sum(ended), sum(failed), max(slowest) FROM timings "
        f"WHERE hour >= ? AND step {'!=' if steps else '='} '' AND (? = '' OR function = ?) "
        "GROUP BY function, step, band ORDER BY function, step, band"
    )
    rows = db.execute(query, (since // HOUR_MS, function, function))
    found = [_timing(*key, list(bands)) for key, bands in groupby(rows, key=lambda row: (row[0], row[1]))]
    found.sort(key=lambda each: (-_ORDERS[order](each), each.function, each.step))
    return found[offset : offset + limit]


def list_rates(db: Database, since: int) -> dict[str, Rate]:
    """Return the rates of all functions of which a run ended since the hour of a time (Unix ms)."""
    query = "SELECT function, sum(ended), sum(failed) FROM timings WHERE hour >= ? AND step = '' GROUP BY function"
    rows = db.execute(query, (since // HOUR_MS,))
    return {function: Rate(int(ended), int(failed)) for function, ended, failed in rows}


_ORDERS: Mapping[TimingOrder, Any] = {
    TimingOrder.P95: lambda each: each.p95_ms,
    TimingOrder.SLOWEST: lambda each: each.slowest_ms,
    TimingOrder.FAILED: lambda each: each.failed,
    TimingOrder.ENDED: lambda each: each.ended,
}


def drop_timings(db: Database, latest: int) -> int:
    """Delete hours that are older than KEPT_MS before a time (Unix ms), and what exceeds ROWS_MAX; return how many."""
    deleted = db.execute("DELETE FROM timings WHERE hour < ?", ((latest - KEPT_MS) // HOUR_MS,)).rowcount
    (rows,) = db.execute("SELECT count(*) FROM timings").fetchone()
    if rows > ROWS_MAX:
        key = "hour, function, step, band"
        oldest = f"SELECT {key} FROM timings ORDER BY {key} LIMIT ?"
        deleted += db.execute(f"DELETE FROM timings WHERE ({key}) IN ({oldest})", (rows - ROWS_MAX,)).rowcount
    return deleted


def _band(length_ms: int) -> int:
    return math.ceil(_BANDS_PER_DOUBLING * math.log2(length_ms)) + 1 if length_ms else 0


def _upper(band: int) -> int:
    return math.floor(2 ** ((band - 1) / _BANDS_PER_DOUBLING)) if band else 0


def _timing(function: str, step: str, bands: Sequence[Any]) -> Timing:
    """Return the sum of the bands of a step, which are in order."""
    counts = {band: int(ended) for _, _, band, ended, _, _ in bands}
    ended, slowest = sum(counts.values()), max(row[5] for row in bands)
    slowest_ms = int(slowest[:_MS_DIGITS])

    def percentile(share: float) -> int:
        rank, below = math.ceil(ended * share), accumulate(counts.values())
        band = next(band for band, reached in zip(counts, below, strict=True) if reached >= rank)
        return min(_upper(band), slowest_ms)

    failed = sum(int(row[4]) for row in bands)
    return Timing(function, step, ended, failed, percentile(0.5), percentile(0.95), slowest_ms, slowest[_MS_DIGITS:])
