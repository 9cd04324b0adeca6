"""The programs of the simulation in which an operator controls runs."""

import asyncio
from collections.abc import Callable

from stepstream import App, Context, Event, NonRetriableError, on
from tests.sim.program import Program
from tests.sim.world import World


def reruns() -> Program:
    """A run fails in its second step, and is rerun from there by a request that is sent twice."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(Event("go"))
        (run,) = world.runs("reruns")
        for _ in range(2):
            await world.rerun(run.run_id, from_failure=True, request_id="once")
        await world.advance("5m")

    program = Program(app, script, {("reruns", "failed"): 1, ("reruns", "completed"): 1})
    first_run: list[str] = []

    async def fails_in_first_run(ctx: Context) -> str:
        first_run.append(ctx.run_id)
        if ctx.run_id == first_run[0]:
            raise NonRetriableError("broken")
        return await program.body(ctx, "second")

    @app.function(on("go"), backoff="5s")
    async def reruns(ctx: Context) -> list[str]:
        first = await ctx.step.run("first", program.body, ctx, "first")
        second = await ctx.step.run("second", fails_in_first_run, ctx)
        return [first, second, await ctx.step.run("third", program.body, ctx, "third")]

    return program


def retries() -> Program:
    """Three runs whose code fails between two steps, and whose bodies fail in a queue and beside a sleep."""
    app = App("sim", queues=["gpu"])

    async def script(world: World) -> None:
        await world.send(Event("go"), Event("go"), Event("go"))
        await world.advance("5m")

    program = Program(app, script, {("retries", "completed"): 3})

    @app.function(on("go"), backoff="5s")
    async def retries(ctx: Context) -> list[object]:
        gpu = ctx.step.options(queue="gpu")
        first = await ctx.step.run("first", program.body, ctx, "first")
        if (ctx.run_id, "code") not in program.failed:
            program.failed.add((ctx.run_id, "code"))
            raise ValueError("once")
        both = await asyncio.gather(
            gpu.run("render", program.body_that_fails_once, ctx, "render"),
            ctx.step.run("fails", program.body_that_fails_once, ctx, "fails"),
            ctx.step.sleep("nap", "1m"),
        )
        return [first, *both, await gpu.run("last", program.body, ctx, "last")]

    return program


def many() -> Program:
    """Three runs fail and one waits; one operation reruns the first from what failed, another cancels the last."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(Event("go"), Event("go"), Event("go"), Event("wait"))
        expected = {"rerun": {"started": 3}, "cancel": {"cancelled": 1}}
        for _ in range(2):
            for action in expected:
                await world.bulk(action, filter="app:sim", rate=10, from_failure=action == "rerun", request_id=action)
        await world.advance("5m")
        for action, outcomes in expected.items():
            shown = await world.bulk_operation(action)
            if dict(shown.outcomes) != outcomes or shown.state != "completed":
                program.repeated.append(f"bulk operation {action} is {shown}")

    program = Program(app, script, {("charge", "failed"): 3, ("charge", "completed"): 3, ("wait", "cancelled"): 1})
    first_runs: set[str] = set()

    async def fails_in_first_runs(ctx: Context) -> str:
        if len(first_runs) < 3 or ctx.run_id in first_runs:
            first_runs.add(ctx.run_id)
            raise NonRetriableError("broken")
        return await program.body(ctx, "charge")

    @app.function(on("go"), backoff="5s")
    async def charge(ctx: Context) -> list[str]:
        first = await ctx.step.run("pick", program.body, ctx, "pick")
        return [first, await ctx.step.run("charge", fails_in_first_runs, ctx)]

    @app.function(on("wait"))
    async def wait(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")

    return program


def held() -> Program:
    """Three runs sleep for a minute; one operation pauses them for longer, another resumes them."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(Event("go"), Event("go"), Event("go"))
        for action, outcomes in {"pause": {"paused": 3}, "resume": {"resumed": 3}}.items():
            for _ in range(2):
                await world.bulk(action, filter="app:sim status:open", rate=10, request_id=action)
            await world.advance("5m")
            shown = await world.bulk_operation(action)
            if dict(shown.outcomes) != outcomes or shown.state != "completed":
                program.repeated.append(f"bulk operation {action} is {shown}")
            if action == "pause" and len(world.runs(status="running")) != 3:
                program.repeated.append("a run ended while it was paused")

    program = Program(app, script, {("nap", "completed"): 3})

    @app.function(on("go"), backoff="5s")
    async def nap(ctx: Context) -> list[str]:
        first = await ctx.step.run("first", program.body, ctx, "first")
        await ctx.step.sleep("nap", "1m")
        return [first, await ctx.step.run("second", program.body, ctx, "second")]

    return program


CONTROL_PROGRAMS: dict[str, Callable[[], Program]] = {"reruns": reruns}
BULK_PROGRAMS: dict[str, Callable[[], Program]] = {"many": many, "held": held}
# For schedules with an operator who pauses runs.
PAUSED_PROGRAMS: dict[str, Callable[[], Program]] = {"retries": retries}
