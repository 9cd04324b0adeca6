"""A signal wakes the one run that waits for it, with its data; without such a run it is not kept."""

import pytest

from stepstream import App, Context, Event, StepstreamError
from stepstream.contract.errors import InvalidInput
from tests.scenarios.apps import signal_app
from tests.scenarios.conftest import EngineOf


async def test_a_signal_delivers_data_and_is_not_kept(engine_of: EngineOf) -> None:
    """A signal for which no run waits returns False and is not kept."""
    async with engine_of(signal_app("fail")) as engine:
        assert not await engine.signal("approve", 1)
        await engine.send(Event("go"))
        assert engine.run().status == "running"
        assert await engine.signal("approve", {"by": "ann"})
        assert not await engine.signal("approve", 2)
        assert engine.run().output == {"by": "ann"}


async def test_a_signal_that_never_comes_returns_none(engine_of: EngineOf) -> None:
    """On timeout the result is None, and the name is free again."""
    async with engine_of(signal_app("fail")) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output is None
        assert not await engine.signal("approve")


async def test_a_cancelled_run_frees_its_signal(engine_of: EngineOf) -> None:
    """Another run may wait for the name of a run that was cancelled."""
    async with engine_of(signal_app("fail")) as engine:
        await engine.send(Event("go"))
        first = engine.run()
        assert await engine.cancel(first.run_id)
        assert not await engine.signal("approve", "early")
        await engine.send(Event("go"))
        assert await engine.signal("approve", "yes")
        assert {run.status: run.output for run in engine.runs()} == {"cancelled": None, "completed": "yes"}


@pytest.mark.log
async def test_a_signal_starts_a_run_if_none_waits(engine_of: EngineOf) -> None:
    """The first one starts the function, whose waits take all of them, in order; after its end another is started."""
    app = App("carts")

    @app.function()
    async def cart(ctx: Context) -> list[object]:
        items: list[object] = [ctx.event.data["owner"]]
        while item := await ctx.step.wait_for_signal("item", signal="cart/7", timeout="1h"):
            items.append(await ctx.step.run("price", str.upper, item))
        return items

    async with engine_of(app) as engine:
        first = await engine.signal_with_start("cart/7", "pen", function=cart, start={"owner": "ann"})
        second = await engine.signal_with_start("cart/7", "ink", function="cart", start={"owner": "bob"})
        assert (first.started, second.started, second.run_id) == (True, False, first.run_id)
        await engine.advance("1h")
        third = await engine.signal_with_start("cart/7", "cup", function=cart, start={"owner": "bob"})
        assert third.started
        await engine.advance("1h")
        assert sorted(map(str, (run.output for run in engine.runs()))) == ["['ann', 'PEN', 'INK']", "['bob', 'CUP']"]
        with pytest.raises(StepstreamError, match="no function 'no' is registered"):
            await engine.signal_with_start("cart/7", function="no")
        with pytest.raises(InvalidInput, match="use a JSON object"):
            await engine.signal_with_start("cart/7", function=cart, start=[1])
