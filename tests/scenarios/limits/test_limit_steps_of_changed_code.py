"""A run that is ended by its limit of steps leaves nothing behind."""

from collections.abc import Awaitable, Callable

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.limits import Limits
from tests.scenarios.conftest import EngineOf, on_disk

LIMITS = Limits(steps_per_run_max=3)
LAST: dict[str, Callable[[Context], Awaitable[object]]] = {
    "signal": lambda ctx: ctx.step.wait_for_signal("last", signal="approve", timeout="7d"),
    "send": lambda ctx: ctx.step.send_event("last", Event("child")),
    "invoke": lambda ctx: ctx.step.invoke("last", function="child"),
}


def version(steps: list[str], last: str = "") -> App:
    """Make a version of an app: a function with these naps and a last step of some kind, and others."""
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        for name in steps:
            await ctx.step.sleep(name, "1h" if name == "nap" else 0)
        if last:
            await LAST[last](ctx)

    @app.function(on("child"))
    async def child(ctx: Context) -> None:
        """Be started."""

    @app.function(on("wait"))
    async def waiter(ctx: Context) -> object:
        return await ctx.step.wait_for_signal("wait", signal="approve", timeout="1h")

    return app


@on_disk
@pytest.mark.parametrize("last", LAST)
async def test_the_step_over_the_limit_has_no_effect(engine_of: EngineOf, last: str) -> None:
    """Steps that the code no longer requests count too; the one over the limit does not start."""
    async with engine_of(version(["a", "b", "nap"]), limits=LIMITS) as engine:
        await engine.send(Event("go"))
        now = engine.now_ms
    async with engine_of(version(["nap"], last), limits=LIMITS, now_ms=now) as engine:
        await engine.advance("1h")
        run = engine.run("function")
        assert run.status == "failed"
        assert "step-limit" in str(run.error)
        assert engine.runs("child") == []
        assert not await engine.signal("approve", "no run waits")
        await engine.send(Event("wait"))
        assert await engine.signal("approve", "yes")
        assert engine.run("waiter").output == "yes"
