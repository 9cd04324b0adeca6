"""Follow every flight of a day from schedule to gate, with one durable run per flight, and sum up the day.

    python examples/flights_events.py examples/data/flights-2013-01-01.csv flights.jsonl
    stepstream replay examples/flights.py --events flights.jsonl

`follow_flight` waits for the departure and the arrival of its own flight, times out on those that never happen,
notifies the passengers of a late flight, and warns the next flight of the same aircraft.

`sum_up_day` counts each flight exactly once. A wait sees one event, and only after it is registered, so a loop of
waits would miss the flights that close between two of them. Instead each flight has its own wait, open before
the first flight departs: the day is opened a day ahead with the ids of its flights, and `sum_up_carrier`, invoked
once per carrier, registers all of its waits in one activation. A flight whose run fails is not ignored, but counted
as lost when its wait times out. One run per carrier (at most 187 flights) stays far below the limit of 1,000 steps
per run, which the busiest day, with 1,014 flights, would exceed.

Nothing is stored outside of the runs: kill the process at any moment, start it again, and the result is the same table.
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

# A flight is announced 24 hours ahead. A flight that has not departed a day after its schedule never will (the worst of
# 2013 was 21 hours and 41 minutes late), and one that has not arrived a day after its departure never will (the longest
# took 12 hours and 18 minutes). In the demo on Kafka, which cannot wait that long, FLIGHTS_SPEED hours pass in one.
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
    """How a flight ended; `delay_min` is the delay of the arrival, or of the departure if it was diverted, else 0."""

    flight_id: str
    carrier: str
    status: Status
    delay_min: int
    late: bool
    warned: bool


@app.function(on("flight/scheduled"), attributes={"flight_id": "event.data.flight_id"})
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
    await ctx.step.run("notify-expected", notify, ctx.event.data["flight_id"], "its aircraft is late")
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
    """Replace the airline's messages to its passengers; a plain function, so it runs in a thread."""
    return f"To the passengers of {flight_id}: {reason}"


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
