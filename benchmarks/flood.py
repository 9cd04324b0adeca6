"""How long tenants wait for an API that they share with one that floods it, compared with the time before.

    [TENANTS=100] [EVENTS=2000] python -m benchmarks flood [in_order] [fair]

The waiting time is virtual: it is that of the limits. How fast the engine takes in the flood is measured as CPU.
"""

import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.functions import Figure, chosen
from stepstream import App, Concurrency, Context, Event, Limit, on
from stepstream.sdk.event import to_record
from stepstream.testing import VirtualEngine

# A call a second; the others need four fifths of them, 4 calls each.
CALLS_EACH, LOAD = 4, 0.8
_EVENTS_PER_REQUEST = 1_000
_SEED = 17
_TENANTS, _EVENTS = int(os.environ.get("TENANTS", "100")), int(os.environ.get("EVENTS", "2000"))


@dataclass(slots=True)
class Waits:
    """How long the others waited from their event to the start of their body (s), and what the flood took."""

    waits_s: list[float] = field(default_factory=list)
    flood_calls: int = 0
    flood_cpu_s: float = 0.0


def _app(engine_of: list[VirtualEngine], waits: Waits, fair: str) -> App:
    app, api = App("flood"), Limit("api", 60, "1m", fair=fair)
    by_tenant = Concurrency(1, counts="runs", key="event.data.tenant")

    @app.function(on("call"), concurrency=by_tenant)
    async def call(ctx: Context) -> None:
        await ctx.step.options(limit=api).run("call", note, ctx.event.data["tenant"], ctx.event.ts)

    async def note(tenant: int, sent_ms: int) -> None:
        if tenant:
            waits.waits_s.append((engine_of[0].now_ms - sent_ms) / 1_000)
        else:
            waits.flood_calls += 1

    return app


async def _measured(flood: int, fair: str) -> Waits:
    """Let the others send events at random times, behind a flood of so many events of tenant 0."""
    waits, engines = Waits(), list[VirtualEngine]()
    count = (_TENANTS - 1) * CALLS_EACH
    chosen = random.Random(_SEED)
    times = sorted(chosen.uniform(0, count / LOAD) for _ in range(count))
    with tempfile.TemporaryDirectory() as folder:
        async with VirtualEngine(_app(engines, waits, fair), data_dir=Path(folder)) as engine:
            engines.append(engine)
            began, start_ms = time.process_time(), engine.now_ms
            for _ in range(0, flood, _EVENTS_PER_REQUEST):
                await engine.engine.send([to_record(Event("call", {"tenant": 0}))] * _EVENTS_PER_REQUEST)
                await engine.until_idle()
            waits.flood_cpu_s = time.process_time() - began
            for number, at in enumerate(times):
                await engine.advance_to(start_ms + int(at * 1_000))
                await engine.send(Event("call", {"tenant": 1 + number % (_TENANTS - 1)}))
            await engine.advance("2m")
    return waits


async def in_order() -> list[Figure]:
    """Measure a queue in order of arrival."""
    return await _compared("")


async def fair() -> list[Figure]:
    """Measure a queue that tenants share equally."""
    return await _compared("event.data.tenant")


async def _compared(fair: str) -> list[Figure]:
    """Measure the waiting time of the others without the flood and behind it."""
    without, behind = await _measured(0, fair), await _measured(_EVENTS, fair)
    figures = [Figure("calls of the others", len(behind.waits_s), ""), Figure("of the flood", behind.flood_calls, "")]
    for name, cut in (("median", 49), ("p99", 98)):
        before, after = (statistics.quantiles(each.waits_s, n=100)[cut] for each in (without, behind))
        figures += [
            Figure(f"wait without the flood, {name}", before, "s"),
            Figure(f"wait behind the flood, {name}", after, "s"),
            Figure(f"the same compared, {name}", after / before, "x", "<= 2"),
        ]
    cpu_us = behind.flood_cpu_s / _EVENTS * 1_000_000
    return [*figures, Figure("an event of the flood, until its run is queued, CPU", cpu_us, "µs")]


ALL = (in_order, fair)


def main(requested: set[str]) -> Iterator[Figure]:
    """Yield the figures of the requested benchmarks, or of all."""
    for measure in chosen(ALL, requested):
        yield from asyncio.run(measure())
