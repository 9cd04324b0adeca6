"""Follow every flight of a day from schedule to gate, with one durable run per flight, and sum up the day.

    python examples/flights_events.py examples/data/flights-2013-01-01.csv flights.jsonl
    stepstream replay examples/flights.py --events flights.jsonl

`follow_flight` waits for the departure and the arrival of its own flight, times out on those that never happen,
notifies the passengers of a late flight, and warns the next flight of the same aircraft. When a flight is closed,
`compensate_passengers` pays for a delay of two hours, and `rebook_passengers` looks for places if the flight did not
arrive, and then waits for a person or for the other airline.

`sum_up_day` counts each flight exactly once. A wait sees one event, and only after it is registered, so a loop of
waits would miss the flights that close between two of them. Instead each flight has its own wait, open before
the first flight departs: the day is opened a day ahead with the ids of its flights, and `sum_up_carrier`, invoked
once per carrier, registers all of its waits in one activation. A flight whose run fails is not ignored, but counted
as lost when its wait times out. One run per carrier (at most 187 flights) stays far below the limit of 1,000 steps
per run, which the busiest day, with 1,014 flights, would exceed.

Nothing is stored outside of the runs: kill the process at any moment, start it again, and the result is the same table.

The services that the steps call are simulated. How long a call takes, whether its first attempts fail, and whether a
payment is declined follow from the id of the flight alone, so each replay of a day has the same failures.
"""

import asyncio
import hashlib
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypedDict

from stepstream import App, Context, Event, NonRetriableError, on
from stepstream.testing import simulate_work

Status = Literal["flown", "never_departed", "diverted"]
RunStats = dict[str, int]

LATE_MIN, COMPENSATED_MIN = 60, 120
TURNAROUND_MS = 45 * 60 * 1_000

# A flight is announced 24 hours ahead. A flight that has not departed a day after its schedule never will (the worst of
# 2013 was 21 hours and 41 minutes late), and one that has not arrived a day after its departure never will (the longest
# took 12 hours and 18 minutes). In the demo on Kafka, which cannot wait that long, FLIGHTS_SPEED hours pass in one.
SPEED = float(os.environ.get("FLIGHTS_SPEED", "1"))
DEPARTURE_TIMEOUT = timedelta(hours=48) / SPEED
ARRIVAL_TIMEOUT = timedelta(hours=24) / SPEED
DAY_TIMEOUT = timedelta(days=7) / SPEED
DECISION_TIMEOUT = timedelta(days=30) / SPEED
BACKOFF = [timedelta(seconds=20) / SPEED, timedelta(minutes=2) / SPEED]

SAME_AIRCRAFT_NOT_BACK_IN_TIME = (
    "async.data.tailnum == event.data.tailnum"
    " && async.data.departs_ms < event.data.departs_ms"
    " && async.data.back_ms > event.data.departs_ms"
)

app = App("flights", lookback="1h")


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the airline, simulated: a call takes from `fastest_s` to `slowest_s`, and most are fast.

    The first attempts of a call fail for the share `flaky` of all flights.
    """

    name: str
    fastest_s: float
    slowest_s: float
    flaky: float

    def draw(self, flight_id: str, what: str) -> float:
        """Return a number from 0 to 1 that follows from the service, the flight and what it decides."""
        digest = hashlib.sha256(f"{self.name}/{what}/{flight_id}".encode()).digest()
        return int.from_bytes(digest[:4]) / 2**32

    def number(self, flight_id: str, attempt: int = 0) -> int:
        """Return the number that the service gave a request."""
        return 10_000 + int(self.draw(flight_id, f"request {attempt}") * 90_000)

    async def call(self, ctx: Context, flight_id: str) -> None:
        """Take the time of a call, or fail as the service does; later attempts of a call succeed."""
        attempt = ctx.attempt
        seconds = self.fastest_s + (self.slowest_s - self.fastest_s) * self.draw(flight_id, f"time {attempt}") ** 3
        await simulate_work(timedelta(seconds=seconds) / SPEED)
        failures = 1 + round(self.draw(flight_id, "failures"))
        if attempt < failures and self.draw(flight_id, "flaky") < self.flaky:
            raise ConnectionError(f"{self.name}: 503 for request {self.number(flight_id, attempt)}, too many requests")


messages = Service("message gateway", 0.3, 9, flaky=0.2)
payments = Service("payment provider", 1.5, 20, flaky=0.2)
bookings = Service("booking system", 25, 420, flaky=0.35)
DECLINED, SOLD_OUT = 0.25, 0.16


class Outcome(TypedDict):
    """How a flight ended; `delay_min` is the delay of the arrival, or of the departure if it was diverted, else 0."""

    flight_id: str
    carrier: str
    status: Status
    delay_min: int
    late: bool
    warned: bool


@app.function(on("flight/scheduled"), backoff=BACKOFF, attributes={"flight_id": "event.data.flight_id"})
async def follow_flight(ctx: Context) -> Outcome:
    """Follow one flight until it has arrived, or has timed out."""
    departed, warned = await wait_for_departure(ctx)
    if departed is None:
        return await close_flight(ctx, "never_departed", 0, warned)
    if departed.data["delay_min"] >= LATE_MIN:
        await warn_next_flight(ctx, departed)
    arrived = await ctx.step.wait_for_event(
        "arrived", event="flight/arrived", match="data.flight_id", timeout=ARRIVAL_TIMEOUT, lookback="1h"
    )
    if arrived is None:
        return await close_flight(ctx, "diverted", departed.data["delay_min"], warned)
    return await close_flight(ctx, "flown", arrived.data["delay_min"], warned)


async def wait_for_departure(ctx: Context) -> tuple[Event | None, bool]:
    """Return the departure (None if there was none), and whether the aircraft was announced as late before it.

    The race cancels the wait that loses. After a warning the code waits for the departure again, with `lookback`, so
    that a departure between the two waits still counts. The same holds for an arrival before its wait is registered.
    """
    first = await ctx.group.race(
        ctx.step.wait_for_event("departed", event="flight/departed", match="data.flight_id", timeout=DEPARTURE_TIMEOUT),
        ctx.step.wait_for_event(
            "aircraft-late", event="aircraft/late", if_=SAME_AIRCRAFT_NOT_BACK_IN_TIME, timeout=DEPARTURE_TIMEOUT
        ),
    )
    if first is None or first.name == "flight/departed":
        return first, False
    await ctx.step.run("notify-expected", notify, ctx, ctx.event.data["flight_id"], "its aircraft is late")
    departed = await ctx.step.wait_for_event(
        "departed-after-warning",
        event="flight/departed",
        match="data.flight_id",
        timeout=DEPARTURE_TIMEOUT,
        lookback="1h",
    )
    return departed, True


async def warn_next_flight(ctx: Context, departed: Event) -> None:
    """Announce when the aircraft can be back in New York: outbound, turnaround, return, turnaround.

    The run of another flight that is due to depart with this aircraft before then receives it.
    """
    flight = ctx.event.data
    there_ms = flight["arrives_ms"] - flight["departs_ms"]
    back_ms = flight["departs_ms"] + departed.data["delay_min"] * 60_000 + 2 * (there_ms + TURNAROUND_MS)
    data = {"tailnum": flight["tailnum"], "departs_ms": flight["departs_ms"], "back_ms": back_ms}
    await ctx.step.send_event("warn-next-flight", Event("aircraft/late", data=data))


async def close_flight(ctx: Context, status: Status, delay_min: int, warned: bool) -> Outcome:
    """Notify the passengers of a late flight, and report the outcome to the run that sums up its carrier."""
    flight = ctx.event.data
    late = delay_min >= LATE_MIN
    if late:
        await ctx.step.run("notify-late", notify, ctx, flight["flight_id"], f"{delay_min} minutes late")
    outcome = Outcome(
        flight_id=flight["flight_id"],
        carrier=flight["carrier"],
        status=status,
        delay_min=delay_min,
        late=late,
        warned=warned,
    )
    await ctx.step.send_event("close", Event("flight/closed", data=dict(outcome)))
    return outcome


async def notify(ctx: Context, flight_id: str, reason: str) -> str:
    """Send a message to the passengers of a flight."""
    await messages.call(ctx, flight_id)
    return f"To the passengers of {flight_id}: {reason}"


def count_passengers(flight_id: str) -> int:
    """Return how many passengers a flight has; a plain function, so it runs in a thread."""
    return 40 + int(bookings.draw(flight_id, "passengers") * 140)


@app.function(
    on("flight/closed", if_=f"event.data.delay_min >= {COMPENSATED_MIN}"),
    backoff=BACKOFF,
    attributes={"flight_id": "event.data.flight_id"},
)
async def compensate_passengers(ctx: Context) -> dict[str, int]:
    """Pay the passengers of a flight that was two hours late or more; some payments are declined for good."""
    flight_id = ctx.event.data["flight_id"]
    passengers = await ctx.step.run("count-passengers", count_passengers, flight_id)
    paid = await ctx.step.run("pay", pay, ctx, flight_id, passengers * 250)
    return {"passengers": passengers, "paid": paid}


async def pay(ctx: Context, flight_id: str, amount: int) -> int:
    """Pay an amount to the passengers of a flight."""
    await payments.call(ctx, flight_id)
    if payments.draw(flight_id, "declined") < DECLINED:
        raise NonRetriableError(f"payment {payments.number(flight_id)} is declined: the account is closed")
    return amount


@dataclass
class Hotel:
    """What a person enters who approves a hotel for stranded passengers."""

    rooms: int
    usd_per_room: int


@app.function(
    on("flight/closed", if_="event.data.status != 'flown'"),
    backoff=BACKOFF,
    attributes={"flight_id": "event.data.flight_id"},
)
async def rebook_passengers(ctx: Context) -> dict[str, int]:
    """Find places for the passengers of a flight that did not arrive; then a person, or another airline, decides."""
    flight_id = ctx.event.data["flight_id"]
    passengers = await ctx.step.run("count-passengers", count_passengers, flight_id)
    places = await ctx.step.run("find-places", find_places, ctx, flight_id, passengers)
    if ctx.event.data["status"] == "diverted":
        title = f"Pay a hotel for {passengers - places} passengers of {flight_id}?"
        hotel = await ctx.step.wait_for_approval("hotel", title=title, form=Hotel, timeout=DECISION_TIMEOUT)
        return {"places": places, "rooms": hotel.values.rooms if hotel and hotel.values else 0}
    confirmed = await ctx.step.wait_for_event(
        "places-confirmed", event="airline/places.confirmed", match="data.flight_id", timeout=DECISION_TIMEOUT
    )
    return {"places": confirmed.data["places"] if confirmed else 0, "rooms": 0}


async def find_places(ctx: Context, flight_id: str, passengers: int) -> int:
    """Return how many places other flights have for the passengers of a flight."""
    await bookings.call(ctx, flight_id)
    share = bookings.draw(flight_id, "places")
    if share < SOLD_OUT:
        raise NonRetriableError(f"query {bookings.number(flight_id)} found no place on any flight of three days")
    return int(passengers * share)


@app.function(on("flight/day.opened"))
async def sum_up_day(ctx: Context) -> dict[str, RunStats]:
    """Return the figures of each carrier, all counted in parallel."""
    carriers: dict[str, list[str]] = ctx.event.data["carriers"]
    figures = await asyncio.gather(
        *(
            ctx.step.invoke(carrier, function=sum_up_carrier, data={"flights": flights})
            for carrier, flights in carriers.items()
        )
    )
    return dict(zip(carriers, figures, strict=True))


@app.function()
async def sum_up_carrier(ctx: Context) -> RunStats:
    """Wait until all flights of a carrier are closed and count them; only started by invoke.

    The expressions name a position in the list, not a flight, so that the same few serve every carrier of every day.
    """
    flights: list[str] = ctx.event.data["flights"]
    answers = await asyncio.gather(
        *(
            ctx.step.wait_for_event(
                flight_id,
                event="flight/closed",
                if_=f"async.data.flight_id == event.data.flights[{place}]",
                timeout=DAY_TIMEOUT,
            )
            for place, flight_id in enumerate(flights)
        )
    )
    closed = [answer.data for answer in answers if answer is not None]
    return {
        "scheduled": len(flights),
        "flown": sum(flight["status"] == "flown" for flight in closed),
        "never_departed": sum(flight["status"] == "never_departed" for flight in closed),
        "diverted": sum(flight["status"] == "diverted" for flight in closed),
        "late": sum(flight["late"] for flight in closed),
        "warned": sum(flight["warned"] for flight in closed),
        "lost": len(flights) - len(closed),
    }
