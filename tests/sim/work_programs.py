"""The programs of the simulation whose runs hold a permit only while they are executing."""

import asyncio
from collections.abc import Callable

from stepstream import App, CancelOn, Concurrency, Context, Event, Limit, on
from tests.sim.program import Program
from tests.sim.world import World


def turns() -> Program:
    """Orders of two tenants that invoke into their own limit on work, one at a time for each tenant and two in all.

    Some fail between steps, or are cancelled while they sleep or wait for their permit again.
    """
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(*(Event("order", {"tenant": tenant, "n": n}) for n, tenant in enumerate("aabab")))
        await world.advance("1m")
        await world.send(Event("stop", {"n": 1}, id="stop 1"))
        await world.advance("3h")
        await world.send(Event("answer", {"n": 0}), Event("stop", {"n": 2}, id="stop 2"))
        await world.advance("3h")

    ends = {("order", "completed"): 3, ("order", "cancelled"): 2}
    program = Program(app, script, ends | {("pack", "completed"): 5}, expiry="61d")
    limits = [
        Concurrency(1, counts="work", scope="app", key="event.data.tenant"),
        Concurrency(2, counts="work", scope="namespace"),
    ]

    @app.function(concurrency=limits, backoff="5s")
    async def pack(ctx: Context) -> str:
        await ctx.step.sleep("nap", "5m")
        return await ctx.step.run("pack", program.body_that_fails_once, ctx, "pack")

    @app.function(on("order"), concurrency=limits, cancel_on=[CancelOn("stop", match="data.n")], backoff="5s")
    async def order(ctx: Context) -> list[object]:
        first = await ctx.step.run("first", program.body, ctx, "first")
        if (ctx.run_id, "code") not in program.failed:
            program.failed.add((ctx.run_id, "code"))
            raise ValueError("once")
        noted = await ctx.step.send_event("note", Event("noted", {"n": ctx.event.data["n"]}))
        packed, _ = await asyncio.gather(
            ctx.step.invoke("pack", function=pack, data=ctx.event.data), ctx.step.sleep("rest", "2m")
        )
        await ctx.step.wait_for_event("answer", event="answer", match="data.n", timeout="4h")
        return [first, packed, len(noted), await ctx.step.run("last", program.body, ctx, "last")]

    return program


def pieces() -> Program:
    """Scans of two tenants in code and parallel bodies, two at a time for a tenant and three in all.

    One runs in a queue, and one has a named limit. Some fail, or are cancelled while they sleep or are queued.
    """
    app = App("sim", queues=["slow"])

    async def script(world: World) -> None:
        await world.send(*(Event("scan", {"tenant": tenant, "n": n}) for n, tenant in enumerate("aabab")))
        await world.send(Event("stop", {"n": 4}))
        await world.advance("1h")
        await world.send(Event("stop", {"n": 2}))
        await world.advance("5h")

    program = Program(app, script, {("scan", "completed"): 3, ("scan", "cancelled"): 2}, expiry="61d")
    limits = [Concurrency(2, key="event.data.tenant"), Concurrency(3, scope="namespace")]
    slot = Limit("slot", 1)

    async def body(ctx: Context, name: str) -> str:
        with program.piece(ctx, ctx.event.data["tenant"], 2), program.piece(ctx, "all", 3):
            return await program.body_that_fails_once(ctx, name)

    async def code(ctx: Context) -> None:
        with program.piece(ctx, ctx.event.data["tenant"], 2), program.piece(ctx, "all", 3):
            for _ in range(program.body_passes):
                await asyncio.sleep(0)

    @app.function(on("scan"), concurrency=limits, cancel_on=[CancelOn("stop", match="data.n")], backoff="5s")
    async def scan(ctx: Context) -> list[str]:
        await code(ctx)
        slow, limited = ctx.step.options(queue="slow"), ctx.step.options(limit=slot)
        parts = [ctx.step.run(f"part {n}", body, ctx, f"part {n}") for n in range(2)]
        parts += [slow.run("slow", program.body, ctx, "slow"), limited.run("own", body, ctx, "own")]
        done = list(await asyncio.gather(*parts))
        await code(ctx)
        await ctx.step.sleep("nap", "2h")
        return [*done, await ctx.step.run("last", body, ctx, "last")]

    return program


WORK_PROGRAMS: dict[str, Callable[[], Program]] = {"turns": turns, "pieces": pieces}
