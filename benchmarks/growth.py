"""The CPU time of one more of something as the number of it doubles: a cost that is constant is a curve that is flat.

CPU time of the process is measured, not the time on the wall, so other programs on the machine hardly change a curve.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from benchmarks.functions import Figure, app, chosen, run_three_steps, work
from benchmarks.laptop import Bench, bench
from stepstream import App, Context, Event, ThreadedContext, on
from stepstream.sdk.event import to_record

_STEPS = (25, 50, 100, 200, 400, 800)
_NUMBERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_MANY = (500, 1_000, 2_000, 4_000, 8_000)
_RUNS, _ROUNDS = 100, 4
_STEPS_IN_ALL = 3_200
# Runs that proceed at once share batches. As many of each length do, or a curve would show that instead.
_AT_ONCE = 4
_BAR = 24

growing = App("growing")


@growing.function(on("grow/row"))
async def in_a_row(ctx: Context) -> int:
    """Run steps one after the other."""
    total = 0
    for number in range(ctx.event.data["n"]):
        total += await ctx.step.run(f"step-{number}", work, number)
    return total


@growing.function(on("grow/parallel"))
async def in_parallel(ctx: Context) -> int:
    """Run steps at once."""
    return sum(await asyncio.gather(*(ctx.step.run(f"step-{n}", work, n) for n in range(ctx.event.data["n"]))))


def _next(number: int) -> int:
    return number + 1


@growing.function(on("grow/plain"))
def in_a_plain_function(ctx: ThreadedContext) -> int:
    """Wait in a plain function, each time for nothing."""
    for number in range(ctx.event.data["n"]):
        ctx.step.sleep(f"sleep-{number}", 0)
    return ctx.step.run("last", _next, 0)


@growing.function(on("grow/asleep"))
async def asleep(ctx: Context) -> None:
    """Sleep longer than the benchmark takes."""
    await ctx.step.sleep("long", "1d")


@growing.function(on("grow/woken"))
async def woken(ctx: Context) -> None:
    """Wait for the event that all wait for."""
    await ctx.step.wait_for_event("go", event="grow/go", timeout="1d")


@growing.function(on("grow/output"))
async def large_output(ctx: Context) -> str:
    """Return a text of some KiB by one step."""
    return await ctx.step.run("text", lambda: "x" * 1_024 * ctx.event.data["n"])


async def _send(made: Bench, name: str, data: Sequence[dict[str, object]]) -> None:
    for start in range(0, len(data), 100):
        await made.engine.send([to_record(Event(name, each)) for each in data[start : start + 100]])


async def _us_per_run(made: Bench, name: str, data: Sequence[dict[str, object]], runs: int = 0) -> float:
    """Return the CPU time (us) of each run that events of this name start, until the process is idle."""
    await made.engine.until_idle()
    due = made.ended + (runs or len(data))
    begun = time.process_time()
    await _send(made, name, data)
    await made.until_ended(due)
    await made.engine.until_idle()
    return (time.process_time() - begun) / (runs or len(data)) * 1e6


async def _steps(name: str, counts: Sequence[int]) -> AsyncIterator[tuple[int, float]]:
    for count in counts:
        async with bench(growing) as made:
            await _us_per_run(made, name, [{"n": 5}] * 20)
            rounds = _STEPS_IN_ALL // count // _AT_ONCE
            taken = [await _us_per_run(made, name, [{"n": count}] * _AT_ONCE) for _ in range(rounds)]
            yield count, sum(taken) / rounds / count


async def _three_steps(made: Bench) -> float:
    """Return the least of some measurements: a compaction of RocksDB takes CPU time in any of them."""
    data: list[dict[str, object]] = [{"n": number} for number in range(_RUNS)]
    return min([await _us_per_run(made, "bench/three", data) for _ in range(_ROUNDS)])


def _served(functions: int = 1, queues: int = 0) -> App:
    """Return the app of the other benchmarks with more functions, each with its own event, and some queues."""
    served = App("growing-app", queues=[f"queue-{number}" for number in range(queues)])
    for number in range(functions):
        name = "bench/three" if not number else f"grow/event-{number}"
        served.function(on(name), id=f"function-{number}")(run_three_steps)
    return served


async def steps_in_a_row() -> AsyncIterator[tuple[int, float]]:
    """A step of a run that has this many, one after the other."""
    async for point in _steps("grow/row", _STEPS):
        yield point


async def steps_in_parallel() -> AsyncIterator[tuple[int, float]]:
    """A step of a run that has this many at once."""
    async for point in _steps("grow/parallel", _STEPS):
        yield point


async def waits_of_a_plain_function() -> AsyncIterator[tuple[int, float]]:
    """A wait of a plain function that has this many."""
    async for point in _steps("grow/plain", _STEPS[:-1]):
        yield point


async def functions() -> AsyncIterator[tuple[int, float]]:
    """A three-step run of an app with this many functions."""
    for count in _NUMBERS:
        async with bench(_served(functions=count)) as made:
            yield count, await _three_steps(made)


async def queues() -> AsyncIterator[tuple[int, float]]:
    """A three-step run of an app with this many queues."""
    for count in _NUMBERS[:6]:
        async with bench(_served(queues=count)) as made:
            yield count, await _three_steps(made)


async def shards() -> AsyncIterator[tuple[int, float]]:
    """A three-step run in a process with this many shards."""
    for count in _NUMBERS[:7]:
        async with bench(shards=count) as made:
            await _three_steps(made)
            yield count, await _three_steps(made)


async def event_names() -> AsyncIterator[tuple[int, float]]:
    """A three-step run after events of this many names that start nothing."""
    async with bench() as made:
        await _three_steps(made)
        sent = 0
        for count in _MANY:
            names = [Event(f"other/{number}", {}) for number in range(sent, count)]
            for start in range(0, len(names), 100):
                await made.engine.send([to_record(event) for event in names[start : start + 100]])
            await made.engine.until_idle()
            sent = count
            yield count, await _three_steps(made)


async def open_runs() -> AsyncIterator[tuple[int, float]]:
    """A three-step run beside this many runs that sleep."""
    async with bench(app, growing) as made:
        await _three_steps(made)
        sent = 0
        for count in _MANY:
            await _send(made, "grow/asleep", [{"n": number} for number in range(sent, count)])
            await made.engine.until_idle()
            sent = count
            yield count, await _three_steps(made)


async def ended_runs() -> AsyncIterator[tuple[int, float]]:
    """A three-step run after this many that have ended, which the list of runs keeps."""
    async with bench() as made:
        for count in _MANY:
            await _us_per_run(made, "bench/once", [{"n": number} for number in range(count - made.ended)])
            yield count, await _three_steps(made)


async def woken_runs() -> AsyncIterator[tuple[int, float]]:
    """A run that one event resumes with this many others."""
    for count in _MANY[:4]:
        async with bench(growing) as made:
            await _send(made, "grow/woken", [{"n": number} for number in range(count)])
            await made.engine.until_idle()
            yield count, await _us_per_run(made, "grow/go", [{}], runs=count)


async def output_size() -> AsyncIterator[tuple[int, float]]:
    """A KiB of the result of a step that has this many."""
    for count in (8, 16, 32, 64, 128, 256, 512, 1_024):
        async with bench(growing) as made:
            await _us_per_run(made, "grow/output", [{"n": 1}] * 20)
            data: list[dict[str, object]] = [{"n": count}] * max(8_192 // count, 4)
            yield count, await _us_per_run(made, "grow/output", data) / count


_Curve = Callable[[], AsyncIterator[tuple[int, float]]]
ALL: tuple[_Curve, ...] = (
    steps_in_a_row,
    steps_in_parallel,
    waits_of_a_plain_function,
    functions,
    queues,
    shards,
    event_names,
    open_runs,
    ended_runs,
    woken_runs,
    output_size,
)


async def _points(curve: _Curve) -> list[tuple[int, float]]:
    return [point async for point in curve()]


def main(requested: set[str]) -> Iterator[Figure]:
    """Yield the points of each curve, and how its last one compares with its first."""
    for curve in chosen(ALL, requested):
        name = getattr(curve, "__name__", "").replace("_", " ")
        points = asyncio.run(_points(curve))
        most = max(us for _, us in points)
        for count, us in points:
            yield Figure(f"{name}, {count:,}: CPU", us, "us", bar="#" * round(_BAR * us / most))
        yield Figure(f"{name}: last against first", points[-1][1] / points[0][1], "x", "<= 1.2")
