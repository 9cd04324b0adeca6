"""The programs of the simulation: each is an app, a script of events and time, and how the runs must end."""

import asyncio
from collections.abc import Callable

from stepstream import App, Context, Event, NonRetriableError, StepError, Wait, cron, on
from stepstream.contract.limits import Limits
from stepstream.testing import START_MS
from tests.sim.cancel_programs import CANCEL_PROGRAMS
from tests.sim.control_programs import BULK_PROGRAMS, CONTROL_PROGRAMS, PAUSED_PROGRAMS
from tests.sim.gate_programs import GATE_PROGRAMS
from tests.sim.heartbeat_programs import HEARTBEAT_PROGRAMS
from tests.sim.program import Program
from tests.sim.world import World

HOUR_MS = 3_600_000


def sequence() -> Program:
    """Sequential steps, and a sleep between them."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(Event("go", {"n": 1}))
        await world.advance("2m")

    program = Program(app, script, {("sequence", "completed"): 1})

    @app.function(on("go"), backoff="5s")
    async def sequence(ctx: Context) -> list[str]:
        found = [await ctx.step.run("a", program.body, ctx, "a"), await ctx.step.run("b", program.body, ctx, "b")]
        await ctx.step.sleep("nap", "1m")
        return [*found, await ctx.step.run("c", program.body, ctx, "c")]

    return program


def parallel() -> Program:
    """Two runs that each fan out: to a step that fails once, a steady one and a sleep, and then to two more steps."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(Event("go"), Event("go"))
        await world.advance("5m")

    program = Program(app, script, {("parallel", "completed"): 2})

    @app.function(on("go"), backoff="5s")
    async def parallel(ctx: Context) -> list[object]:
        both = await asyncio.gather(
            ctx.step.run("flaky", program.body_that_fails_once, ctx, "flaky"),
            ctx.step.run("steady", program.body, ctx, "steady"),
            ctx.step.sleep("nap", "1m"),
        )
        return [*both, *await ctx.group.parallel(*(ctx.step.run(at, program.body, ctx, at) for at in "xy"))]

    return program


def conversation() -> Program:
    """Waits for events and a signal, a timeout, a look-back, a race, and events that the run sends to itself."""
    app = App("sim", lookback="10m")

    async def script(world: World) -> None:
        await world.send(Event("go", {"id": 7}))
        await world.send(Event("answer", {"id": 8}), Event("answer", {"id": 7, "n": 1}))
        await world.signal("approval", "yes")
        await world.advance("3h")

    program = Program(app, script, {("conversation", "completed"): 1})

    @app.function(on("go"), backoff="5s")
    async def conversation(ctx: Context) -> list[object]:
        answer = await ctx.step.wait_for_event("answer", event="answer", match="data.id", timeout="1h")
        approval = await ctx.step.wait_for_signal("approval", signal="approval", timeout="1h")
        unsent = await ctx.step.wait_for_event("unsent", event="unsent", if_="async.data.n > 3", timeout="10m")
        # These events belong to several shards.
        first, second, third, _ = await asyncio.gather(
            ctx.step.wait_for_event("first", event="echo", timeout="1h"),
            ctx.step.wait_for_event("second", event="echo-2", timeout="1h"),
            ctx.step.wait_for_event("third", event="echo-3", timeout="1h"),
            ctx.step.send_event("send", [Event(name, {"n": 2}) for name in ("echo", "echo-2", "echo-3")]),
        )
        before = await ctx.step.wait_for_event("before", event="echo", timeout="1h", lookback="10m")
        await ctx.group.race(ctx.step.sleep("short", "1m"), ctx.step.sleep("long", "1h"))
        end = await ctx.step.run("end", program.body, ctx, "end")
        return [
            answer and answer.data,
            approval,
            unsent,
            [echo and echo.data for echo in (first, second, third, before)],
            end,
        ]

    return program


def lookbacks() -> Program:
    """Waits that look back: for retained events, for one that is sent later, and for events that are never sent.

    The retained events are indexed two at a time.
    """
    app = App("sim", lookback="10m")

    async def script(world: World) -> None:
        await world.send(*(Event("paid", {"id": number}) for number in range(5)), Event("go", {"id": 3}))
        await world.advance("1m")
        await world.send(Event("late", {"id": 3}), Event("more", {"id": 3}))
        await world.advance("2h")

    program = Program(app, script, {("lookbacks", "completed"): 1}, limits=Limits(waits_per_match_max=2))

    @app.function(on("go"), backoff="5s")
    async def lookbacks(ctx: Context) -> list[object]:
        wait = ctx.step.wait_for_event
        first = await wait("first", event="paid", match="data.id", timeout="1h", lookback="10m")
        await ctx.step.send_event("pay", Event("paid", {"id": 9}))
        await ctx.step.sleep("nap", "10s")
        waits = (
            wait("condition", event="paid", if_="async.data.id > 3", timeout=0, lookback="10m"),
            wait("indexed", event="paid", if_="async.data.id == 9", timeout=0, lookback="10m"),
            wait("gone", event="gone", match="data.id", timeout=0, lookback="10m"),
            wait("never", event="paid", if_="async.data.id == event.data.id + 90", timeout="5m", lookback="10m"),
        )
        late, gone = Wait("late", match="data.id", lookback="10m"), Wait("gone", match="data.id")
        several = asyncio.gather(
            ctx.step.wait_for_any("any", {"late": late, "gone": gone}, timeout="1h"),
            ctx.step.wait_for_all("all", {"late": late, "gone": gone}, timeout="5m"),
            ctx.step.wait_for_all("both", {"more": Wait("more"), "paid": Wait("paid", lookback="10m")}, timeout="1h"),
        )
        alone, (any_of, none, both) = await asyncio.gather(asyncio.gather(*waits), several)
        found = [event and event.data["id"] for event in [first, *alone, any_of and any_of[1], both and both["more"]]]
        if found != [3, 4, 9, None, None, 3, 3] or none:
            raise NonRetriableError(f"the waits found {found} and {none}")
        return [*found, await ctx.step.run("end", program.body, ctx, "end")]

    return program


def family() -> Program:
    """Invoked functions, one of which fails and has a failure handler, and an event that is sent twice."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(Event("go", {"n": 5}, id="once"), Event("go", id="once"))
        await world.advance("1h")
        await world.send(Event("go", id="once"))

    ends = {("double", "completed"): 1, ("broken", "failed"): 1, ("broken-on-failure", "completed"): 1}
    program = Program(app, script, {**ends, ("family", "completed"): 1})

    async def on_failure(ctx: Context) -> object:
        return [ctx.event.data["error"]["message"], await ctx.step.run("notify", program.body, ctx, "notify")]

    @app.function(backoff="5s")
    async def double(ctx: Context) -> list[object]:
        return [await ctx.step.run("work", program.body, ctx, "work"), int(ctx.event.data["n"]) * 2]

    @app.function(on_failure=on_failure, retries=0)
    async def broken(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1s")
        raise ValueError("broken")

    @app.function(on("go"), backoff="5s")
    async def family(ctx: Context) -> list[object]:
        first = await ctx.step.run("first", program.body, ctx, "first")
        found: list[object] = [first, len(await ctx.step.invoke("double", function=double, data={"n": 4}))]
        try:
            await ctx.step.invoke("broken", function=broken)
        except StepError as error:
            found.append(error.code)
        return found

    return program


def cancelled() -> Program:
    """Two runs wait for the same event; one is cancelled, and the other gets it."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(Event("go", {"id": 1}), Event("go", {"id": 2}))
        matching = [
            run.run_id
            for run in world.runs("cancelled")
            if '"id":1' in str(run.events).replace("'", '"').replace(" ", "")
        ]
        for run_id in matching:
            await world.cancel(run_id)
        await world.send(Event("done", {"id": 1}), Event("done", {"id": 2}))
        await world.advance("2h")

    program = Program(app, script, {("cancelled", "cancelled"): 1, ("cancelled", "completed"): 1})

    @app.function(on("go"), backoff="5s")
    async def cancelled(ctx: Context) -> list[object]:
        first = await ctx.step.run("first", program.body, ctx, "first")
        done, _ = await asyncio.gather(
            ctx.step.wait_for_event("done", event="done", match="data.id", timeout="1h"),
            ctx.step.sleep("nap", "30m"),
        )
        return [first, done and done.data, await ctx.step.run("last", program.body, ctx, "last")]

    return program


def clockwork() -> Program:
    """A cron function, an event with a future timestamp, and code between steps that fails once."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(Event("go", ts=START_MS + HOUR_MS // 2))
        await world.advance("150m")

    program = Program(app, script, {("hourly", "completed"): 2, ("shaky", "completed"): 1})

    @app.function(cron("0 * * * *"), backoff="5s")
    async def hourly(ctx: Context) -> str:
        return await ctx.step.run("tick", program.body, ctx, "tick")

    @app.function(on("go"), backoff="10s", retries=2)
    async def shaky(ctx: Context) -> list[str]:
        first = await ctx.step.run("first", program.body, ctx, "first")
        if ctx.attempt == 0:
            raise ValueError("once")
        async with asyncio.TaskGroup() as tasks:
            left = tasks.create_task(ctx.step.run("left", program.body, ctx, "left"))
            right = tasks.create_task(ctx.step.run("right", program.body, ctx, "right"))
        return [first, left.result(), right.result()]

    return program


def pools() -> Program:
    """Steps of two queues and of the app itself: one fails once, and a slow one loses most of its races."""
    app = App("sim", queues=["gpu", "cpu"])

    async def script(world: World) -> None:
        await world.send(Event("go"))
        await world.advance("5m")

    program = Program(app, script, {("pools", "completed"): 1})

    async def slow(ctx: Context) -> str:
        for _ in range(5 * program.body_passes):
            await asyncio.sleep(0)
        return await program.body(ctx, "slow")

    @app.function(on("go"), backoff="5s")
    async def pools(ctx: Context) -> list[object]:
        gpu, cpu = ctx.step.options(queue="gpu"), ctx.step.options(queue="cpu")
        both = await asyncio.gather(
            gpu.run("flaky", program.body_that_fails_once, ctx, "flaky"),
            cpu.run("steady", program.body, ctx, "steady"),
            ctx.step.run("own", program.body, ctx, "own"),
        )
        await ctx.group.race(gpu.run("slow", slow, ctx), cpu.run("quick", program.body, ctx, "quick"))
        return [*both, await cpu.run("end", program.body, ctx, "end")]

    return program


def gates() -> Program:
    """Runs that wait for another run: between two steps, and beside a deadline that they cancel afterwards."""
    app = App("sim")
    gate = asyncio.Event()

    async def script(world: World) -> None:
        # A worker commits when it reads the next command, and only up to the first command that is not acknowledged.
        for name in ("hurry", "hurry", "wait", "open"):
            await world.send(Event(name))
        await world.advance("5h")

    ends = {("waiting", "completed"): 1, ("hurried", "completed"): 2, ("opener", "completed"): 1}
    program = Program(app, script, ends)

    @app.function(on("wait"), backoff="5s")
    async def waiting(ctx: Context) -> list[str]:
        both = await asyncio.gather(*(ctx.step.run(at, program.body, ctx, at) for at in "ab"))
        await gate.wait()
        return [*both, await ctx.step.run("c", program.body, ctx, "c")]

    @app.function(on("hurry"), backoff="5s")
    async def hurried(ctx: Context) -> list[str]:
        deadline = asyncio.ensure_future(ctx.step.sleep("deadline", "2h"))
        opened = asyncio.ensure_future(gate.wait())
        await asyncio.wait({deadline, opened}, return_when=asyncio.FIRST_COMPLETED)
        deadline.cancel()
        return [await ctx.step.run(at, program.body, ctx, at) for at in "defgh"]

    @app.function(on("open"), backoff="5s")
    async def opener(ctx: Context) -> str:
        token = await ctx.step.run("open", program.body, ctx, "open")
        gate.set()
        return token

    return program


def branches() -> Program:
    """Three runs, each with a long body beside branches of several steps, and a sleep afterwards.

    When partitions move, the next step of a branch is refused while the long body is still running.
    """
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(Event("go"), Event("go"), Event("go"))
        await world.advance("5m")

    program = Program(app, script, {("branches", "completed"): 3})

    async def long(ctx: Context) -> str:
        for _ in range(3):
            await program.body(ctx, "part")
        return await program.body(ctx, "long")

    @app.function(on("go"), backoff="5s")
    async def branches(ctx: Context) -> list[object]:
        async def branch(steps: str) -> list[str]:
            return [await ctx.step.run(at, program.body, ctx, at) for at in steps]

        found = await asyncio.gather(ctx.step.run("long", long, ctx), branch("abc"), branch("de"))
        await ctx.step.sleep("nap", "1m")
        return [*found, await ctx.step.run("end", program.body, ctx, "end")]

    return program


PROGRAMS: dict[str, Callable[[], Program]] = {
    "sequence": sequence,
    "parallel": parallel,
    "conversation": conversation,
    "lookbacks": lookbacks,
    "family": family,
    "cancelled": cancelled,
    "clockwork": clockwork,
    "pools": pools,
    "gates": gates,
    **CONTROL_PROGRAMS,
    **BULK_PROGRAMS,
}
# For schedules in which groups rebalance, which has no effect on bulk operations.
GROUP_PROGRAMS = {**{name: PROGRAMS[name] for name in PROGRAMS.keys() - BULK_PROGRAMS.keys()}, "branches": branches}
ALL_PROGRAMS = {
    **PROGRAMS,
    **GROUP_PROGRAMS,
    **PAUSED_PROGRAMS,
    **CANCEL_PROGRAMS,
    **GATE_PROGRAMS,
    **HEARTBEAT_PROGRAMS,
}
