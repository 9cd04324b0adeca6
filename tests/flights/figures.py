"""Derive the figures of a day of flights from its CSV alone, sharing no code with the examples that they check.

Where the events maker reasons from points in time, this counts minutes on New York's clock from the day's midnight,
which is right for any day but the two on which that clock is changed.
"""

import csv
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

LATE_MIN = 60
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
        delay = row["arr_delay"] if row["arr_delay"] != "NA" else row["dep_delay"]
        figures["late"] += delay != "NA" and int(delay) >= LATE_MIN
        figures["warned"] += any(_holds_up(other, row, zones) for other in rows)
    return table


def notifications(table: Mapping[str, Mapping[str, int]]) -> int:
    """Return how often passengers are notified: once for a warning, once for being late."""
    return sum(figures["late"] + figures["warned"] for figures in table.values())


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
