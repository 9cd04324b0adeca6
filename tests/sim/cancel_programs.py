"""The programs of the simulation in which events, timeouts and the ends of parents cancel runs."""

import asyncio
from collections.abc import Callable

from stepstream import App, CancelOn, Context, Event, NonRetriableError, StepError, Timeouts, on
from tests.sim.program import Program
from tests.sim.world import World


def withdrawn() -> Program:
    """Three orders with a child each: one is withdrawn asleep, one in its child, and one too late.

    The event that starts a run could cancel it by its second rule, and another order is withdrawn before it starts.
    """
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(Event("withdrawn", {"id": 9}))
        # With three shards, one has the orders 4, 15 and 28, their runs and their name: only its log orders them.
        await world.send(*(Event("order", {"id": number}, id=f"o-{number}") for number in (4, 9, 15, 28)))
        await world.send(Event("withdrawn", {"id": 4}))
        await world.advance("2m")
        await world.send(Event("child-withdrawn", {"id": 15}))
        await world.advance("20m")
        await world.send(Event("withdrawn", {"id": 28}))
        await world.advance("2h")

    rules = [
        CancelOn("withdrawn", match="data.id", timeout="10m"),
        CancelOn("order", if_="async.data.id == event.data.id"),
    ]
    ends = {("order", "cancelled"): 1, ("order", "completed"): 3, ("child", "cancelled"): 1, ("child", "completed"): 2}
    program = Program(app, script, ends, expiry="61d")

    @app.function(cancel_on=[CancelOn("child-withdrawn", match="data.id")], backoff="5s")
    async def child(ctx: Context) -> str:
        await ctx.step.sleep("nap", "10m")
        return await ctx.step.run("pack", program.body, ctx, "pack")

    @app.function(on("order"), cancel_on=rules, backoff="5s")
    async def order(ctx: Context) -> list[str]:
        first = await ctx.step.run("first", program.body, ctx, "first")
        await ctx.step.sleep("nap", "1m")
        try:
            await ctx.step.invoke("child", function=child, data={"id": ctx.event.data["id"]})
        except StepError as error:
            return [first, error.code]
        await ctx.step.sleep("rest", "30m")
        return [first, await ctx.step.run("last", program.body, ctx, "last")]

    return program


def overdue() -> Program:
    """Runs that exceed their time asleep, between attempts, or in a child, and some that end in time."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(*(Event("go", {"naps": naps}) for naps in (1, 2, 6)))
        await world.send(Event("flaky"))
        await world.advance("2h")

    ends = {("child", "cancelled"): 2, ("child", "completed"): 1, ("parent", "completed"): 3, ("flaky", "cancelled"): 1}
    program = Program(app, script, ends)

    @app.function(timeouts=Timeouts(start="5m", finish="10m"), backoff="5s")
    async def child(ctx: Context) -> list[str]:
        tokens = [await ctx.step.run("first", program.body, ctx, "first")]
        for _ in range(int(ctx.event.data["naps"])):
            await ctx.step.sleep("nap", "8m")
        return [*tokens, await ctx.step.run("last", program.body, ctx, "last")]

    @app.function(on("go"), timeouts=Timeouts(start="1m", finish="1d"), backoff="5s")
    async def parent(ctx: Context) -> object:
        try:
            return await ctx.step.invoke("child", function=child, data=ctx.event.data)
        except StepError as error:
            return [error.code, await ctx.step.run("late", program.body, ctx, "late")]

    async def fails(ctx: Context) -> None:
        await program.body(ctx, "fails")
        raise ValueError("down")

    @app.function(on("flaky"), timeouts=Timeouts(finish="10m"), backoff="15m")
    async def flaky(ctx: Context) -> None:
        await ctx.step.run("fails", fails, ctx)

    return program


def orphans() -> Program:
    """Parents that end in each way while their children are open; some children continue."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(*(Event("go", {"end": end}) for end in ("cancel", "fail", "return", "wait")))
        await world.advance("1m")
        await world.send(Event("stop", {"end": "cancel"}))
        await world.advance("3h")

    ends = {("parent", "cancelled"): 1, ("parent", "failed"): 1, ("parent", "completed"): 2}
    program = Program(app, script, {**ends, ("child", "cancelled"): 3, ("child", "completed"): 5}, expiry="61d")

    @app.function(backoff="5s")
    async def child(ctx: Context) -> str:
        await ctx.step.sleep("nap", "1h")
        # The parent returns the tokens of both of its children.
        name = str(ctx.event.data["name"])
        return await ctx.step.run(name, program.body, ctx, name)

    @app.function(on("go"), cancel_on=[CancelOn("stop", match="data.end")], retries=0)
    async def parent(ctx: Context) -> object:
        children = [
            asyncio.ensure_future(ctx.step.invoke("a", function=child, data={"name": "a"}, on_parent_end="cancel")),
            asyncio.ensure_future(ctx.step.invoke("b", function=child, data={"name": "b"})),
        ]
        if ctx.event.data["end"] in ("cancel", "wait"):
            return await asyncio.gather(*children)
        await ctx.step.sleep("nap", "5m")
        if ctx.event.data["end"] == "fail":
            raise NonRetriableError("no")
        return "early"

    return program


def series() -> Program:
    """Two runs that continue as new: one in a child until its parent gets the result, one until an event cancels it."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(Event("go"), Event("loop", {"left": 9}))
        await world.advance("3m30s")
        await world.send(Event("stop"))
        await world.advance("2h")

    ends = {("parent", "completed"): 1, ("loop", "completed"): 7, ("loop", "cancelled"): 1}
    program = Program(app, script, ends, expiry="61d")

    @app.function(on("loop"), cancel_on=[CancelOn("stop", if_="event.name == 'loop'")], backoff="5s")
    async def loop(ctx: Context) -> str:
        left = int(ctx.event.data["left"])
        token = await ctx.step.run(f"body {left}", program.body, ctx, f"body{left}")
        await ctx.step.sleep("nap", "1m")
        if left:
            await ctx.continue_as_new({"left": left - 1})
        return token

    @app.function(on("go"), backoff="5s")
    async def parent(ctx: Context) -> str:
        return await ctx.step.invoke("loop", function=loop, data={"left": 3}, on_parent_end="cancel")

    return program


def visitors() -> Program:
    """Signals that start a run if none waits: the first three go to one run, and the last starts another.

    A signal whose answer is lost is sent again, and then a run gets it twice.
    """
    app = App("sim")

    async def script(world: World) -> None:
        for visitor in "abc":
            await world.signal_with_start("hall", visitor, function="hall")
        await world.advance("5m")
        await world.signal_with_start("hall", "d", function="hall")
        await world.advance("5m")
        entered = {visitor for run in world.runs("hall") if isinstance(run.output, list) for visitor in run.output}
        if missing := {*"abcd"} - entered:
            world.complaints.append(f"no run took the signals {sorted(missing)}")

    program = Program(app, script, {("hall", "completed"): 2})

    @app.function(backoff="5s")
    async def hall(ctx: Context) -> list[str]:
        entered: list[str] = []
        while visitor := await ctx.step.wait_for_signal("next", signal="hall", timeout="1m"):
            entered.append(visitor)
            await ctx.step.run("greet", program.body, ctx, f"greet{len(entered)}")
        return sorted(set(entered))

    return program


# They are not among those of random seeds, so that these seeds keep their schedules.
CANCEL_PROGRAMS: dict[str, Callable[[], Program]] = {
    "withdrawn": withdrawn,
    "overdue": overdue,
    "orphans": orphans,
    "series": series,
    "visitors": visitors,
}
