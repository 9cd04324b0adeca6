"""The programs of the simulation in which runs wait for the limits of their functions."""

import asyncio
from collections.abc import Callable

from stepstream import (
    App,
    Batch,
    CancelOn,
    Concurrency,
    Context,
    Debounce,
    Event,
    Idempotency,
    Limit,
    RateLimit,
    Singleton,
    StepError,
    Throttle,
    Timeouts,
    on,
)
from stepstream.contract.operators.limit_settings import LimitAction, LimitChangeRequested, Override
from stepstream.runtime.callers import AnswerLostError, UnavailableError
from tests.sim.program import Program
from tests.sim.work_programs import WORK_PROGRAMS
from tests.sim.world import World

_REPORTS = "concurrency of function report by event.data.tenant"


def tenants() -> Program:
    """Imports of three tenants, one at a time for each and two in all; some fail, are cancelled, or start too late."""
    app = App("sim")
    limits = [
        Concurrency(1, counts="runs", key="event.data.tenant"),
        Concurrency(2, counts="runs", scope="namespace"),
    ]

    async def script(world: World) -> None:
        await world.send(*(Event("import", {"tenant": tenant, "n": n}) for n in range(2) for tenant in "abc"))
        await world.advance("30s")
        await world.send(Event("stop", {"tenant": "a", "n": 1}), Event("stop", {"tenant": "b", "n": 0}))
        await world.send(Event("import", {"tenant": "c", "n": 2}), Event("export"))
        await world.advance("3h")

    ends = {("load", "completed"): 5, ("load", "cancelled"): 2, ("export", "failed"): 1}
    program = Program(app, script, ends, expiry="61d")
    stops = [CancelOn("stop", if_="async.data.tenant == event.data.tenant && async.data.n == event.data.n")]

    @app.function(on("import"), concurrency=limits, cancel_on=stops, backoff="5s")
    async def load(ctx: Context) -> list[str]:
        first = await ctx.step.run("first", program.body_that_fails_once, ctx, "first")
        await ctx.step.sleep("nap", "5m")
        return [first, await ctx.step.run("last", program.body, ctx, "last")]

    @app.function(on("export"), concurrency=limits[1], retries=0)
    async def export(ctx: Context) -> None:
        await ctx.step.run("first", program.body, ctx, "first")
        raise ValueError("no")

    return program


def spread() -> Program:
    """Calls that start ten minutes apart after a burst of two, and their callers; one overtakes some that are late."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(*(Event("go", {"n": n}) for n in range(6)))
        await world.advance("15m")
        await world.send(Event("go", {"n": 6}))
        await world.advance("45m")
        await world.send(Event("go", {"n": 7}))
        await world.advance("3h")

    ends = {("call", "completed"): 5, ("call", "cancelled"): 3, ("caller", "completed"): 8}
    program = Program(app, script, ends)

    throttle, timeouts, priority = Throttle(6, "1h", burst=1), Timeouts(start="25m"), "event.data.n == 6 ? 7200 : 0"

    @app.function(throttle=throttle, timeouts=timeouts, priority=priority, backoff="5s")
    async def call(ctx: Context) -> str:
        return await ctx.step.run("call", program.body, ctx, "call")

    @app.function(on("go"), backoff="5s")
    async def caller(ctx: Context) -> object:
        try:
            return await ctx.step.invoke("call", function=call, data=ctx.event.data)
        except StepError as error:
            return error.code

    return program


def refused() -> Program:
    """Mails of two tenants, one an hour for each, and their callers; one order of each id, and two digests of all.

    Other runs are refused. The last digest has the latest order, and the summary has all.
    """
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(*(Event("go", {"tenant": tenant}) for tenant in "aabaab"))
        await world.advance("2h")
        await world.send(Event("go", {"tenant": "a"}), *(Event("order", {"id": id}) for id in (1, 2, 1, 1)))
        await world.advance("90m")
        await world.send(Event("order", {"id": 1}))
        await world.advance("2h")

    mails = {("mail", "completed"): 3, ("mail", "skipped"): 4, ("caller", "completed"): 7}
    orders = {("order", "completed"): 3, ("order", "skipped"): 2}
    digests = {(name, status): n for name in ("digest", "summary") for status, n in (("completed", 2), ("skipped", 3))}
    program = Program(app, script, mails | orders | digests)

    @app.function(on("order"), idempotency=Idempotency("event.data.id", period="1h"), backoff="5s")
    async def order(ctx: Context) -> str:
        return await ctx.step.run("order", program.body, ctx, "order")

    @app.function(on("order"), debounce=Debounce("1h"), backoff="5s")
    async def digest(ctx: Context) -> str:
        return await ctx.step.run("digest", program.body, ctx, "digest")

    @app.function(on("order"), debounce=Debounce("1h", keep="all"), backoff="5s")
    async def summary(ctx: Context) -> str:
        return f"{len(ctx.events)} {await ctx.step.run('summary', program.body, ctx, 'summary')}"

    @app.function(rate_limit=RateLimit(1, "1h", key="event.data.tenant"), backoff="5s")
    async def mail(ctx: Context) -> str:
        return await ctx.step.run("mail", program.body, ctx, "mail")

    @app.function(on("go"), backoff="5s")
    async def caller(ctx: Context) -> object:
        try:
            return await ctx.step.invoke("mail", function=mail, data=ctx.event.data)
        except StepError as error:
            return error.code

    return program


def batches() -> Program:
    """Parcels of tenants, two in a batch, or alone, and their callers; one that waits too long is cancelled.

    An hour after the first one the report has all of them.
    """
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(*(Event("go", {"tenant": tenant}) for tenant in "aabbac"))
        await world.advance("3h")

    sent = {("send", "completed"): 3, ("send", "skipped"): 2, ("send", "cancelled"): 1, ("caller", "completed"): 6}
    program = Program(app, script, sent | {("report", "completed"): 1, ("report", "skipped"): 5})
    pairs = Batch(2, "1h", key="event.data.tenant", if_="event.data.tenant != 'c'")

    @app.function(batch=pairs, timeouts=Timeouts(start="30m"), backoff="5s")
    async def send(ctx: Context) -> str:
        return f"{len(ctx.events)} {await ctx.step.run('send', program.body, ctx, 'send')}"

    @app.function(on("go"), batch=Batch(10, "1h"), backoff="5s")
    async def report(ctx: Context) -> str:
        return f"{len(ctx.events)} {await ctx.step.run('report', program.body, ctx, 'report')}"

    @app.function(on("go"), backoff="5s")
    async def caller(ctx: Context) -> object:
        try:
            return await ctx.step.invoke("send", function=send, data=ctx.event.data)
        except StepError as error:
            return error.code

    return program


def single() -> Program:
    """Of the runs of a tenant one is open: a later one replaces it or is skipped, also while it continues as new."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(*(Event("go", {"tenant": tenant}) for tenant in "aab"))
        await world.advance("2m")
        await world.send(*(Event("go", {"tenant": "a"}) for _ in range(2)))
        await world.advance("2h")

    newest = {("sync", "completed"): 2, ("sync", "cancelled"): 3}
    oldest = {("build", "completed"): 4, ("build", "skipped"): 3, ("caller", "completed"): 5}
    program = Program(app, script, newest | oldest)

    @app.function(on("go"), singleton=Singleton("cancel", key="event.data.tenant"), backoff="5s")
    async def sync(ctx: Context) -> str:
        await ctx.step.sleep("nap", "30m")
        return await ctx.step.run("sync", program.body, ctx, "sync")

    @app.function(singleton=Singleton("skip", key="event.data.tenant"), backoff="5s")
    async def build(ctx: Context) -> str:
        if not ctx.event.data.get("napped"):
            await ctx.step.sleep("nap", "30m")
            await ctx.continue_as_new({**ctx.event.data, "napped": True})
        return await ctx.step.run("build", program.body, ctx, "build")

    @app.function(on("go"), backoff="5s")
    async def caller(ctx: Context) -> object:
        try:
            return await ctx.step.invoke("build", function=build, data=ctx.event.data)
        except StepError as error:
            return error.code

    return program


def bodies() -> Program:
    """Scans in parallel steps, two bodies at a time for a tenant and three in all; some fail or are cancelled.

    The last body has limits of its own.
    """
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(*(Event("scan", {"tenant": tenant}) for tenant in "aabc"))
        await world.send(Event("stop", {"tenant": "c"}))
        await world.advance("1h")
        await world.send(Event("stop", {"tenant": "b"}))
        await world.advance("3h")

    program = Program(app, script, {("scan", "completed"): 2, ("scan", "cancelled"): 2}, expiry="61d")
    limits = [Concurrency(2, key="event.data.tenant"), Concurrency(3, scope="namespace")]
    own = [Limit("slots", 1, key="event.data.tenant"), Limit("units", 60, "1h", counts="units")]

    @app.function(on("scan"), concurrency=limits, cancel_on=[CancelOn("stop", match="data.tenant")], backoff="5s")
    async def scan(ctx: Context) -> list[str]:
        parts = [ctx.step.run(f"part {n}", program.body_that_fails_once, ctx, f"part {n}") for n in range(3)]
        done = list(await asyncio.gather(*parts))
        await ctx.step.sleep("nap", "2h")
        return [*done, await ctx.step.options(limit=own, units=5).run("last", last, ctx)]

    async def last(ctx: Context) -> str:
        ctx.settle(7)
        return await program.body_that_fails_once(ctx, "last")

    return program


def shares() -> Program:
    """Imports of a tenant with many and of two others, which share a limit by weight; one is cancelled.

    Their bodies share another one, by the units that they use.
    """
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(*(Event("import", {"tenant": tenant, "n": n}) for n, tenant in enumerate("aaaabac")))
        await world.advance("1m")
        await world.send(Event("stop", {"n": 3}), Event("import", {"tenant": "b", "n": 7}))
        await world.advance("6h")

    program = Program(app, script, {("load", "completed"): 7, ("load", "cancelled"): 1}, expiry="61d")
    by_tenant = "event.data.tenant"
    two = Concurrency(2, counts="runs", fair=by_tenant, weight="event.data.tenant == 'b' ? 2 : 1")
    units = Limit("units", 60, "1h", burst=5, counts="units", fair=by_tenant)

    @app.function(on("import"), concurrency=two, cancel_on=[CancelOn("stop", match="data.n")], backoff="5s")
    async def load(ctx: Context) -> list[str]:
        limited = ctx.step.options(limit=units, units=3)
        await ctx.step.sleep("nap", "5m")
        return list(await asyncio.gather(*(limited.run(f"part {n}", part, ctx, n) for n in range(2))))

    async def part(ctx: Context, number: int) -> str:
        ctx.settle(4)
        return await program.body_that_fails_once(ctx, f"part {number}")

    return program


def metered() -> Program:
    """Four calls that share a unit a minute: each uses ten for an answer, and ten for each of two attempts that fail.

    The answer uses fewer units than expected, and the attempts use more. Half of the bodies run in a queue. Those that
    have not ended after 95 minutes are cancelled while they wait for units.
    """
    app = App("sim", queues=["slow"])

    async def script(world: World) -> None:
        await world.send(*(Event("call", {"n": n}) for n in range(4)))
        await world.advance("95m")
        await world.send(Event("stop", id="stop"))
        await world.advance("3h")

    program = Program(app, script, {("call", "completed"): 2, ("call", "cancelled"): 2}, expiry="61d")
    limits = [Limit("slots", 8), Limit("units", 60, "1h", counts="units")]

    async def answer(ctx: Context) -> str:
        ctx.settle(10)
        return await program.body(ctx, "answer")

    async def fail(ctx: Context) -> None:
        ctx.settle(10)
        await program.body(ctx, "fail")
        raise ValueError("no")

    @app.function(on("call"), cancel_on=[CancelOn("stop")], backoff="5s")
    async def call(ctx: Context) -> list[str]:
        queue = "slow" if ctx.event.data["n"] % 2 else None
        answered = await ctx.step.options(limit=limits, units=15, queue=queue).run("answer", answer, ctx)
        try:
            await ctx.step.options(limit=limits, units=5, retries=1, queue=queue).run("fail", fail, ctx)
        except StepError as error:
            return [answered, error.name]
        return [answered]

    return program


def steered() -> Program:
    """Reports of two tenants, one at a time, until an operator pauses, resumes and raises the limit of all of them."""
    app = App("sim")

    async def script(world: World) -> None:
        await _change(world, LimitChangeRequested(_REPORTS, LimitAction.PAUSE))
        await world.send(*(Event("go", {"tenant": tenant, "n": n}) for n in range(3) for tenant in "ab"))
        await world.advance("2m")
        await _change(world, LimitChangeRequested(_REPORTS, LimitAction.RESUME))
        three = Override(3, until=world.now_ms + 7_200_000)
        await _change(world, LimitChangeRequested(_REPORTS, LimitAction.SET, override=three))
        await world.advance("3h")

    program = Program(app, script, {("report", "completed"): 6}, expiry="61d")
    one = Concurrency(1, counts="runs", key="event.data.tenant")

    @app.function(on("go"), concurrency=one, timeouts=Timeouts(start="20m"), backoff="5s")
    async def report(ctx: Context) -> str:
        await ctx.step.sleep("nap", "30m")
        return await ctx.step.run("render", program.body, ctx, "render")

    return program


async def _change(world: World, request: LimitChangeRequested) -> None:
    """Change a limit; ask again if the answer is lost: the same change twice is one."""
    while True:
        try:
            await world.engine.operator.change_limit(request)
            return await world.until_idle()
        except (TimeoutError, UnavailableError, AnswerLostError):
            await asyncio.sleep(0)


# They are not among those of random seeds, so that these seeds keep their schedules.
GATE_PROGRAMS: dict[str, Callable[[], Program]] = {
    "tenants": tenants,
    "spread": spread,
    "refused": refused,
    "batches": batches,
    "single": single,
    "bodies": bodies,
    "metered": metered,
    "steered": steered,
    "shares": shares,
    **WORK_PROGRAMS,
}
