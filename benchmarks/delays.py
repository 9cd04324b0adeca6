"""How long one event or one run delays everything else in its process."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from benchmarks.functions import Figure, chosen
from benchmarks.laptop import bench
from stepstream import App, Context, Event, on
from stepstream.contract.inbox import RunReturned
from stepstream.contract.limits import BODIES_STARTED_PER_ITERATION_MAX
from stepstream.sdk.event import to_record
from tests.fakes.waiting import until
from tests.runtime.worker.harness import served, started

_WAITS, _TRIGGERS = 1_000, 200
_FAN_OUT_RUNS, _FAN_OUT_STEPS = 20, 1_000
# Each condition compares every pair of items.
_COSTLY = "async.data.items.all(a, async.data.items.all(b, a + b >= 0))"
_ITEMS = list(range(60))
_S_MAX = 300.0


class Iterations:
    """Counts the iterations of the event loop; `longest_s` is how long the longest one took."""

    def __init__(self) -> None:
        self.number = 0
        self.longest_s = 0.0

    async def measure(self) -> None:
        """Measure without end."""
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0)
            self.number += 1
            self.longest_s = max(self.longest_s, time.perf_counter() - began)


@asynccontextmanager
async def measured() -> AsyncIterator[Iterations]:
    """Measure the iterations of this event loop."""
    iterations = Iterations()
    measuring = asyncio.ensure_future(iterations.measure())
    try:
        yield iterations
    finally:
        measuring.cancel()


async def costly_waits() -> list[Figure]:
    """Compare one event with many waits whose conditions are costly."""
    app = App("shop")

    @app.function(on("go"))
    async def wait(ctx: Context) -> None:
        await ctx.step.wait_for_event("paid", event="paid", if_=f"{_COSTLY} && async.data.n < 0", timeout="1d")

    return await _after_one_event(app, _WAITS, f"{_WAITS:,} waits")


async def costly_triggers() -> list[Figure]:
    """Compare one event with many triggers whose conditions are costly."""
    app, condition = App("shop"), _COSTLY.replace("async.", "event.")
    for number in range(_TRIGGERS):

        @app.function(on("paid", if_=f"{condition} && event.data.n < -{number}"), id=f"function-{number}")
        async def never(ctx: Context) -> None:
            """Never start."""

    return await _after_one_event(app, 0, f"{_TRIGGERS:,} triggers")


async def _after_one_event(app: App, runs: int, against: str) -> list[Figure]:
    async with bench(app) as made:
        await made.engine.send([to_record(Event("go", {"n": number})) for number in range(runs)])
        await made.engine.until_idle()
        async with measured() as iterations:
            began = time.process_time()
            await made.engine.send([to_record(Event("paid", {"n": 1, "items": _ITEMS}))])
            await made.engine.until_idle()
            cpu_s = time.process_time() - began
            return [
                Figure(f"an event against {against}, CPU", cpu_s, "s"),
                Figure(f"an event against {against}, longest iteration", iterations.longest_s, "s", "< 0.25"),
            ]


async def fan_outs() -> list[Figure]:
    """Start runs that gather many steps each, on one worker."""
    app, bodies = App("shop"), Counter[int]()
    async with measured() as iterations:

        async def body() -> None:
            bodies[iterations.number] += 1

        @app.function(on("go"))
        async def function(ctx: Context) -> int:
            return len(await asyncio.gather(*(ctx.step.run(f"step-{at}", body) for at in range(_FAN_OUT_STEPS))))

        async with served(app) as harness:
            harness.log.give(*(started(f"run-{number}") for number in range(_FAN_OUT_RUNS)))
            await until(lambda: len(harness.log.reports_of(RunReturned)) == _FAN_OUT_RUNS, _S_MAX)
    most = max(bodies.values())
    name = f"{_FAN_OUT_RUNS} runs that gather {_FAN_OUT_STEPS:,} steps"
    return [
        Figure(f"{name}, longest iteration", iterations.longest_s, "s", "< 0.25"),
        Figure(f"{name}, bodies at once", most, "", f"<= {BODIES_STARTED_PER_ITERATION_MAX}"),
    ]


ALL = (costly_waits, costly_triggers, fan_outs)


def main(requested: set[str]) -> Iterator[Figure]:
    """Yield the figures of the requested benchmarks, or of all."""
    for measure in chosen(ALL, requested):
        yield from asyncio.run(measure())
