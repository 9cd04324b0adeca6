"""Derive the figures of a day of flights from its CSV alone, sharing no code with the examples that they check.

Where the events maker reasons from points in time, this counts minutes on New York's clock from the day's midnight,
which is right for any day but the two on which that clock is changed.
"""

import csv
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from zoneinfo import ZoneInfo

LATE_MIN, COMPENSATED_MIN = 60, 120
TURNAROUND_MIN = 45
COLUMNS = ("scheduled", "flown", "never_departed", "diverted", "late", "warned", "lost")


def day_figures(flights: Path, airports: Path) -> dict[str, dict[str, int]]:
    """Return the columns of each carrier, as the table of the day must show them.

    late: an hour or more behind at arrival, or at departure for a flight that departed and was diverted.
    warned: its aircraft left New York late by an hour or more with an earlier flight, before this one left, and
    too late to be back in time. lost: none, whatever happens.
    """
    zones = {row["airport"]: row["zone"] for row in _read(airports)}
    rows = _read(flights)
    table = {row["carrier"]: dict.fromkeys(COLUMNS, 0) for row in rows}
    for row in rows:
        figures = table[row["carrier"]]
        figures["scheduled"] += 1
        figures[_fate(row)] += 1
        figures["late"] += _delay(row) >= LATE_MIN
        figures["warned"] += any(_holds_up(other, row, zones) for other in rows)
    return table


def notifications(table: Mapping[str, Mapping[str, int]]) -> int:
    """Return how often passengers are notified: once for a warning, once for being late."""
    return sum(figures["late"] + figures["warned"] for figures in table.values())


def disruptions(flights: Path) -> dict[str, dict[str, int]]:
    """Return how the runs for disrupted flights must end, or wait, by function and status.

    A payment is declined for a quarter of the flights, and no places are found for 16 %, by the hashes of their ids.
    """
    found = {"compensate-passengers": Counter[str](), "rebook-passengers": Counter[str]()}
    for row in _read(flights):
        if _fate(row) != "flown":
            found["rebook-passengers"]["failed" if _chance(row, "booking system/places") < 0.16 else "running"] += 1
        if _delay(row) >= COMPENSATED_MIN:
            is_declined = _chance(row, "payment provider/declined") < 0.25
            found["compensate-passengers"]["failed" if is_declined else "completed"] += 1
    return {function: dict(sorted(counts.items())) for function, counts in found.items()}


def failed_attempts(flights: Path, airports: Path) -> int:
    """Return how many attempts of steps fail that are repeated."""
    zones = {row["airport"]: row["zone"] for row in _read(airports)}
    rows, total = _read(flights), 0
    for row in rows:
        is_warned = any(_holds_up(other, row, zones) for other in rows)
        for service, flaky, calls in (
            ("message gateway", 0.2, is_warned + (_delay(row) >= LATE_MIN)),
            ("payment provider", 0.2, int(_delay(row) >= COMPENSATED_MIN)),
            ("booking system", 0.35, int(_fate(row) != "flown")),
        ):
            if _chance(row, f"{service}/flaky") < flaky:
                total += calls * (1 + round(_chance(row, f"{service}/failures")))
    return total


def _chance(row: Mapping[str, str], of: str) -> float:
    day = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
    flight = f"{day}-{row['carrier']}{row['flight']}-{row['origin']}"
    return int(sha256(f"{of}/{flight}".encode()).hexdigest()[:8], 16) / 16**8


def _delay(row: Mapping[str, str]) -> int:
    delay = row["arr_delay"] if row["arr_delay"] != "NA" else row["dep_delay"]
    return 0 if delay == "NA" else int(delay)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def _fate(row: Mapping[str, str]) -> str:
    if row["dep_time"] == "NA":
        return "never_departed"
    return "diverted" if row["arr_delay"] == "NA" else "flown"


def _minutes(clock: str) -> int:
    return int(clock[:-2] or 0) * 60 + int(clock[-2:])


def _holds_up(other: Mapping[str, str], row: Mapping[str, str], zones: Mapping[str, str]) -> bool:
    if other["tailnum"] != row["tailnum"] or row["tailnum"] == "NA" or other["dep_delay"] == "NA":
        return False
    scheduled, due = _minutes(other["sched_dep_time"]), _minutes(row["sched_dep_time"])
    left = scheduled + int(other["dep_delay"])
    if int(other["dep_delay"]) < LATE_MIN or not scheduled < due < left + 2 * (_flight(other, zones) + TURNAROUND_MIN):
        return False
    return row["dep_delay"] == "NA" or left < due + int(row["dep_delay"])


def _flight(row: Mapping[str, str], zones: Mapping[str, str]) -> int:
    """Return the minutes from gate to gate by the schedule."""
    noon = datetime(int(row["year"]), int(row["month"]), int(row["day"]), 12)
    here, there = (noon.replace(tzinfo=ZoneInfo(zone)).utcoffset() for zone in ("America/New_York", zones[row["dest"]]))
    assert here is not None
    assert there is not None
    behind = int((here - there).total_seconds()) // 60
    return (_minutes(row["sched_arr_time"]) - _minutes(row["sched_dep_time"]) + behind) % 1_440
