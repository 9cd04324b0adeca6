"""How long one event or one run delays everything else in its process, and how much memory large results take."""

import asyncio
import multiprocessing
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.functions import Figure
from benchmarks.laptop import bench
from stepstream import App, Context, Event, on
from stepstream.contract.inbox import RunReturned
from stepstream.contract.limits import BODIES_STARTED_PER_ITERATION_MAX
from stepstream.sdk.event import to_record
from tests.fakes.waiting import until
from tests.runtime.worker.harness import served, started

_WAITS, _TRIGGERS = 1_000, 200
_FAN_OUT_RUNS, _FAN_OUT_STEPS = 20, 1_000
_LARGE_RUNS, _LARGE_STEPS, _LARGE_BYTES = 40, 8, 4_000_000
# Each condition compares every pair of items.
_COSTLY = "async.data.items.all(a, async.data.items.all(b, a + b >= 0))"
_ITEMS = list(range(60))
_S_MAX = 300.0


class Iterations:
    """Measures each iteration of the event loop; `longest_s` is the longest one since it was set to 0."""

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


async def costly_waits() -> Iterator[Figure]:
    """Compare one event with many waits whose conditions are costly."""
    app = App("shop")

    @app.function(on("go"))
    async def wait(ctx: Context) -> None:
        await ctx.step.wait_for_event("paid", event="paid", if_=f"{_COSTLY} && async.data.n < 0", timeout="1d")

    return await _after_one_event(app, _WAITS, f"{_WAITS:,} waits")


async def costly_triggers() -> Iterator[Figure]:
    """Compare one event with many triggers whose conditions are costly."""
    app, condition = App("shop"), _COSTLY.replace("async.", "event.")
    for number in range(_TRIGGERS):

        @app.function(on("paid", if_=f"{condition} && event.data.n < -{number}"), id=f"function-{number}")
        async def never(ctx: Context) -> None:
            """Never start."""

    return await _after_one_event(app, 0, f"{_TRIGGERS:,} triggers")


async def _after_one_event(app: App, runs: int, against: str) -> Iterator[Figure]:
    async with bench(app) as made:
        await made.engine.send([to_record(Event("go", {"n": number})) for number in range(runs)])
        await made.engine.until_idle()
        async with measured() as iterations:
            began = time.process_time()
            await made.engine.send([to_record(Event("paid", {"n": 1, "items": _ITEMS}))])
            await made.engine.until_idle()
            cpu_s = time.process_time() - began
            return iter(
                (
                    Figure(f"an event against {against}, CPU", cpu_s, "s"),
                    Figure(f"an event against {against}, longest iteration", iterations.longest_s, "s", "< 0.25"),
                )
            )


async def fan_outs() -> Iterator[Figure]:
    """Start runs that gather many steps each, on one worker."""
    app, bodies = App("shop"), Counter[int]()
    async with measured() as iterations:

        async def body() -> None:
            bodies[iterations.number] += 1

        app.function(on("go"), id="function")(_gathering(_FAN_OUT_STEPS, body))
        await _serve(app, _FAN_OUT_RUNS)
    most = max(bodies.values())
    name = f"{_FAN_OUT_RUNS} runs that gather {_FAN_OUT_STEPS:,} steps"
    return iter(
        (
            Figure(f"{name}, longest iteration", iterations.longest_s, "s", "< 0.25"),
            Figure(f"{name}, bodies at once", most, "", f"<= {BODIES_STARTED_PER_ITERATION_MAX}"),
        )
    )


async def large_results() -> Iterator[Figure]:
    """Gather large results in many runs, from bodies that return at once, and from bodies that end together."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes:
        peaks = [processes.submit(_peak_mib, together=together).result() for together in (False, True)]
    name = f"{_LARGE_RUNS} runs of {_LARGE_STEPS} results of {_LARGE_BYTES // 1_000_000} MB, peak"
    return iter((Figure(name, peaks[0], "MiB"), Figure(f"{name} when all end together", peaks[1], "MiB")))


def _peak_mib(*, together: bool) -> float:
    asyncio.run(_gather_large(together=together))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _gather_large(*, together: bool) -> None:
    app, running, ready = App("shop"), 0, asyncio.Event()

    async def body() -> str:
        nonlocal running
        running += 1
        if running == _LARGE_RUNS * _LARGE_STEPS:
            ready.set()
        if together:
            await ready.wait()
        return "x" * _LARGE_BYTES

    app.function(on("go"), id="function")(_gathering(_LARGE_STEPS, body))
    await _serve(app, _LARGE_RUNS)


def _gathering(steps: int, body: Callable[[], Any]) -> Callable[[Context], Any]:
    async def gather(ctx: Context) -> int:
        return len(await asyncio.gather(*(ctx.step.run(f"step-{number}", body) for number in range(steps))))

    return gather


async def _serve(app: App, runs: int) -> None:
    async with served(app) as harness:
        harness.log.give(*(started(f"run-{number}") for number in range(runs)))
        await until(lambda: len(harness.log.reports_of(RunReturned)) == runs, _S_MAX)


ALL = (costly_waits, costly_triggers, fan_outs, large_results)


def main(requested: set[str]) -> Iterator[Figure]:
    """Yield the figures of the requested benchmarks, or of all."""
    for measure in ALL:
        if not requested or measure.__name__ in requested:
            yield from asyncio.run(measure())
