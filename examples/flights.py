"""Follow every flight of a day from schedule to gate, one durable run a flight, and sum up the day.

    python examples/flights_events.py examples/data/flights-2013-01-01.csv flights.jsonl
    stepstream replay examples/flights.py --events flights.jsonl

`follow_flight` waits for the departure and the arrival of its own flight, gives up on those that never come, notifies
the passengers when it is late, and tells the next flight of the same aircraft that it will be late too.

`sum_up_day` counts each flight exactly once. A wait sees one event, and only after it is registered, so a loop of waits
would lose the flights that close between two of them. Instead each flight has a wait of its own, open before the first
one leaves: the day is opened a day ahead with the ids of its flights, `sum_up_carrier`, invoked for each carrier, plans
all its waits in one turn, and each wait is answered once and for good. A flight whose run fails is not passed over in
silence, but counted as lost when its wait runs out. One run a carrier (187 flights at most) keeps far from the limit of
1,000 steps a run, which the busiest day, with 1,014 flights, would break.

Nothing is kept outside the runs: kill the process at any moment, start it again, and the same table comes out.
"""

import asyncio
import os
from datetime import timedelta
from typing import Literal, TypedDict

from stepstream import App, Context, Event, on

Status = Literal["flown", "never_departed", "diverted"]
RunStats = dict[str, int]

LATE_MIN = 60
TURNAROUND_MS = 45 * 60 * 1_000

# A flight is announced 24 hours ahead. One that has not left a day after its schedule never will (the worst of 2013 was
# 21 hours and 41 minutes late), nor will one arrive a day after it left (the longest took 12 hours and 18 minutes).
# Where nobody has a day to wait, as in the demo on Kafka, FLIGHTS_SPEED hours pass in one.
SPEED = float(os.environ.get("FLIGHTS_SPEED", "1"))
DEPARTURE_TIMEOUT = timedelta(hours=48) / SPEED
ARRIVAL_TIMEOUT = timedelta(hours=24) / SPEED
DAY_TIMEOUT = timedelta(days=7) / SPEED

SAME_AIRCRAFT_NOT_BACK_IN_TIME = (
    "async.data.tailnum == event.data.tailnum"
    " && async.data.departs_ms < event.data.departs_ms"
    " && async.data.back_ms > event.data.departs_ms"
)

app = App("flights", lookback="1h")


class Outcome(TypedDict):
    """How a flight ended. `delay_min` is that of the arrival, or of the departure when it was diverted, or else 0."""

    flight_id: str
    carrier: str
    status: Status
    delay_min: int
    late: bool
    warned: bool


@app.function(on("flight/scheduled"))
async def follow_flight(ctx: Context) -> Outcome:
    """Follow one flight until it has arrived, or is given up."""
    departed, warned = await wait_for_departure(ctx)
    if departed is None:
        return await close_flight(ctx, "never_departed", 0, warned)
    if departed.data["delay_min"] >= LATE_MIN:
        await tell_next_flight(ctx, departed)
    arrived = await ctx.step.wait_for_event(
        "arrived", event="flight/arrived", match="data.flight_id", timeout=ARRIVAL_TIMEOUT, lookback="1h"
    )
    if arrived is None:
        return await close_flight(ctx, "diverted", departed.data["delay_min"], warned)
    return await close_flight(ctx, "flown", arrived.data["delay_min"], warned)


async def wait_for_departure(ctx: Context) -> tuple[Event | None, bool]:
    """Return the departure, None if there was none, and whether the aircraft was announced as late before it.

    The race drops the wait that loses. After a warning the departure is awaited anew, with `lookback`, so that one that
    came between the two waits still counts; the same goes for an arrival that comes before its wait stands.
    """
    first = await ctx.group.race(
        ctx.step.wait_for_event("departed", event="flight/departed", match="data.flight_id", timeout=DEPARTURE_TIMEOUT),
        ctx.step.wait_for_event(
            "aircraft-late", event="aircraft/late", if_=SAME_AIRCRAFT_NOT_BACK_IN_TIME, timeout=DEPARTURE_TIMEOUT
        ),
    )
    if first is None or first.name == "flight/departed":
        return first, False
    await ctx.step.run("notify-expected", notify, ctx.event.data["flight_id"], "its aircraft is late")
    departed = await ctx.step.wait_for_event(
        "departed-after-warning",
        event="flight/departed",
        match="data.flight_id",
        timeout=DEPARTURE_TIMEOUT,
        lookback="1h",
    )
    return departed, True


async def tell_next_flight(ctx: Context, departed: Event) -> None:
    """Say when the aircraft can be back in New York: there, turned around, back and turned around again.

    The run of another flight picks this up, if it is to leave with this aircraft before then.
    """
    flight = ctx.event.data
    there_ms = flight["arrives_ms"] - flight["departs_ms"]
    back_ms = flight["departs_ms"] + departed.data["delay_min"] * 60_000 + 2 * (there_ms + TURNAROUND_MS)
    data = {"tailnum": flight["tailnum"], "departs_ms": flight["departs_ms"], "back_ms": back_ms}
    await ctx.step.send_event("tell-next-flight", Event("aircraft/late", data=data))


async def close_flight(ctx: Context, status: Status, delay_min: int, warned: bool) -> Outcome:
    """Notify when the flight was late, and report the outcome to the run that sums up its carrier."""
    flight = ctx.event.data
    late = delay_min >= LATE_MIN
    if late:
        await ctx.step.run("notify-late", notify, flight["flight_id"], f"{delay_min} minutes late")
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


def notify(flight_id: str, reason: str) -> str:
    """Stand in for the airline's messages to its passengers; a plain function, so it runs in a thread."""
    return f"To the passengers of {flight_id}: {reason}"


@app.function(on("flight/day.opened"))
async def sum_up_day(ctx: Context) -> dict[str, RunStats]:
    """Return the tally of each carrier, all counted in parallel."""
    carriers: dict[str, list[str]] = ctx.event.data["carriers"]
    tallies = await asyncio.gather(
        *(
            ctx.step.invoke(carrier, function=sum_up_carrier, data={"flights": flights})
            for carrier, flights in carriers.items()
        )
    )
    return dict(zip(carriers, tallies, strict=True))


@app.function()
async def sum_up_carrier(ctx: Context) -> RunStats:
    """Wait until all flights of a carrier are closed and count them; started by invoke alone.

    The expressions name a place in the list, not a flight, so that the same few serve every carrier of every day.
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
