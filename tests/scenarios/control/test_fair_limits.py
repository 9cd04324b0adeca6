"""Tenants share a limit by weight: one that floods it delays another one by one start, whatever waits."""

import asyncio

from stepstream import App, Concurrency, Context, Event, Limit, on
from tests.scenarios.conftest import EngineOf


async def test_a_flood_delays_another_tenant_by_one_start(engine_of: EngineOf) -> None:
    """The run of the other tenant is the first in the queue; the tenant with a weight of 2 has two of three starts."""
    app, started = App("limits"), list[str]()
    api = Limit("api", 1, "1m", fair="event.data.tenant", weight="event.data.tenant == 'c' ? 2 : 1")

    @app.function(on("flood"), limits=[api])
    async def flood(ctx: Context) -> None:
        started.append(ctx.event.data["tenant"])

    @app.function(on("call"), limits=[api])
    async def call(ctx: Context) -> None:
        started.append(ctx.event.data["tenant"])

    async with engine_of(app) as engine:
        await engine.send(*(Event("flood", {"tenant": "a"}) for _ in range(7)))
        await engine.send(Event("call", {"tenant": "b"}))
        (why,) = await engine.why("call")
        assert "place 1 of 7 in its queue" in why.text
        await engine.advance("2m")
        assert started == ["a", "b", "a"]
        await engine.send(*(Event("flood", {"tenant": "c"}) for _ in range(4)))
        await engine.advance("6m")
    assert started == ["a", "b", "a", "c", "c", "a", "c", "c", "a"]


async def test_bodies_of_tenants_alternate(engine_of: EngineOf) -> None:
    """Of those in a queue one runs at a time, and each tenant has every second one, though one asked for all first."""
    app, ran = App("limits", queues=["gpu"]), list[str]()
    by_tenant = Concurrency(1, scope="app", fair="event.data.tenant")

    @app.function(on("scan"), concurrency=by_tenant)
    async def scan(ctx: Context) -> None:
        gpu = ctx.step.options(queue="gpu")
        parts = (gpu.run(f"part {part}", ran.append, ctx.event.data["tenant"]) for part in range(4))
        await asyncio.gather(*parts)

    async with engine_of(app) as engine:
        await engine.send(Event("scan", {"tenant": "a"}), Event("scan", {"tenant": "b"}))
        await engine.advance("1m")
    assert sorted(ran) == ["a"] * 4 + ["b"] * 4
    assert "aaa" not in "".join(ran)
