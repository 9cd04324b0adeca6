"""The app of chaos runs: the one of the chaos tests, and a function for each kind of limit.

Bodies that a limit counts log their start and their end by a clock that all processes of a machine share.
"""

import asyncio
import os
import time

from stepstream import Batch, Concurrency, Context, Debounce, Limit, Singleton, Throttle, on
from tests.kafka.chaos.chaos_app import FLAKY_EVERY, app, effect

BODIES = os.environ.get("CHAOS_BODIES", "/dev/null")
BODY_S = 0.25
KEY = "event.data.key"
BATCH_SIZE = 3
THROTTLE_BURST, THROTTLE_NS = 2, 100_000_000
# How many steps, or runs, of a value of the key may be running; `shared` has one value for all.
STEPS_MAX, SHARED_MAX, RUNS_MAX = 2, 2, 1
_STARTED, _ENDED = "started", "ended"
_sessions = Limit("sessions", SHARED_MAX, fair=KEY)
_tokens = Limit("tokens", 1_200, "1m", burst=20, counts="units")
_failed: set[str] = set()


def _log(edge: str, function: str, key: str, run_id: str, step: str) -> None:
    """Append a line with the time (monotonic ns), the process, and the body that starts or ends."""
    line = f"{edge} {time.monotonic_ns()} {os.getpid()} {function} {key} {run_id} {step}\n".encode()
    file = os.open(BODIES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line)
    finally:
        os.close(file)


async def _body(function: str, key: str, run_id: str, step: str) -> str:
    _log(_STARTED, function, key, run_id, step)
    try:
        await effect(run_id, step)
        await asyncio.sleep(BODY_S)
    finally:
        _log(_ENDED, function, key, run_id, step)
    return step


async def _flaky_body(function: str, key: str, run_id: str, step: str) -> str:
    """Run a body that fails on the first attempt in this process."""
    done = await _body(function, key, run_id, step)
    if run_id not in _failed:
        _failed.add(run_id)
        raise ValueError("once")
    return done


async def _first_and_last(ctx: Context, function: str) -> dict[str, object]:
    """Run two steps, with a sleep in between."""
    of = function, ctx.event.data["key"], ctx.run_id
    first = await ctx.step.run("first", _body, *of, "first")
    await ctx.step.sleep("nap", "200ms")
    return {"n": ctx.event.data["n"], "steps": [first, await ctx.step.run("last", _body, *of, "last")]}


@app.function(on("limited/steps"), concurrency=Concurrency(STEPS_MAX, key=KEY), backoff="1s")
async def steps(ctx: Context) -> dict[str, object]:
    """Run three steps in parallel, of which two of a key may be running; in some runs one fails at first."""
    number, of = ctx.event.data["n"], ("steps", ctx.event.data["key"], ctx.run_id)
    done = await asyncio.gather(
        ctx.step.options(retries=20).run("left", _body if number % FLAKY_EVERY else _flaky_body, *of, "left"),
        ctx.step.run("middle", _body, *of, "middle"),
        ctx.step.run("right", _body, *of, "right"),
    )
    return {"n": number, "steps": list(done)}


@app.function(on("limited/runs"), concurrency=Concurrency(RUNS_MAX, counts="runs", key=KEY), backoff="1s")
async def runs(ctx: Context) -> dict[str, object]:
    """Be the only open run of a key."""
    return await _first_and_last(ctx, "runs")


@app.function(on("limited/shared"), backoff="1s")
async def shared(ctx: Context) -> dict[str, object]:
    """Run two steps of which two of all keys may be running, and which use more units than they asked for."""

    async def body(step: str) -> str:
        ctx.settle(2)
        return await _body("shared", "all", ctx.run_id, step)

    limited = ctx.step.options(limit=[_sessions, _tokens], units=1)
    done = await asyncio.gather(*(limited.run(step, body, step) for step in ("left", "right")))
    return {"n": ctx.event.data["n"], "steps": list(done)}


@app.function(on("limited/throttled"), throttle=Throttle(10, "1s", burst=THROTTLE_BURST), backoff="1s")
async def throttled(ctx: Context) -> dict[str, object]:
    """Start at most ten times a second."""
    return await _first_and_last(ctx, "throttled")


@app.function(on("limited/single"), singleton=Singleton("skip", key=KEY), backoff="1s")
async def single(ctx: Context) -> dict[str, object]:
    """Be the only open run of a key: others are skipped."""
    return await _first_and_last(ctx, "single")


@app.function(on("limited/debounced"), debounce=Debounce("500ms", key=KEY, timeout="5s"), backoff="1s")
async def debounced(ctx: Context) -> dict[str, object]:
    """Run for the last event of a key."""
    return await _first_and_last(ctx, "debounced")


@app.function(on("limited/batched"), batch=Batch(BATCH_SIZE, "500ms", key=KEY), backoff="1s")
async def batched(ctx: Context) -> dict[str, object]:
    """Run for several events of a key."""
    done = await _first_and_last(ctx, "batched")
    return {**done, "batch": [event.data["n"] for event in ctx.events]}
