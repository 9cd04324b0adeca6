"""Code that waits for a future of its own, which no step of it is known to set."""

import asyncio

import pytest

from stepstream import App, Context, Event, on
from stepstream.sdk import quiet
from stepstream.testing import VirtualEngine


@pytest.mark.parametrize("live_cache", [True, False])
async def test_a_future_that_another_task_sets(monkeypatch: pytest.MonkeyPatch, live_cache: bool) -> None:
    """After some patience the run counts as at rest, though one of its tasks waits for who knows what."""
    monkeypatch.setattr(quiet, "PATIENCE_S", 0.2)
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[int]:
        handed = asyncio.get_running_loop().create_future()

        async def give() -> None:
            await ctx.step.sleep("nap", "1h")
            handed.set_result(await ctx.step.run("make", abs, -7))

        async def take() -> int:
            return await ctx.step.run("use", abs, await handed)

        _, used = await asyncio.gather(give(), take())
        return [used]

    async with VirtualEngine(app, live_cache=live_cache) as engine:
        await engine.send(Event("go"))
        assert engine.run().status == "running"
        await engine.advance("1h")
        assert engine.run().output == [7]


async def test_code_at_rest_that_goes_on_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes from outside after the patience is over is not lost: the code goes on, and its steps are kept."""
    monkeypatch.setattr(quiet, "PATIENCE_S", 0.1)
    app = App("shop")
    outside: list[asyncio.Future[int]] = []
    used = asyncio.Event()

    async def use(number: int) -> int:
        used.set()
        return -number

    @app.function(on("go"))
    async def function(ctx: Context) -> list[int | None]:
        async def listen() -> int:
            outside.append(asyncio.get_running_loop().create_future())
            return await ctx.step.run("use", use, await outside[-1])

        found, _ = await asyncio.gather(listen(), ctx.step.sleep("nap", "1h"))
        return [found]

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        assert [step.status for step in engine.run().steps] == ["waiting"]
        outside[0].set_result(-7)
        await used.wait()
        await engine.until_idle()
        assert {step.id: step.status for step in engine.run().steps} == {"nap": "waiting", "use": "completed"}
        await engine.advance("1h")
        assert engine.run().output == [7]
        assert len(outside) == 1
