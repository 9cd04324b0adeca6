"""Code that changed under a running function is a warning that is recorded on the run, never a crash."""

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.durations import Duration
from tests.scenarios.conftest import ON_DISK, EngineOf

on_disk = pytest.mark.parametrize("world", ON_DISK, indirect=True)


def shop(*steps: tuple[str, Duration]) -> App:
    """Make a version of one app: a function with these naps, which returns their ids."""
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        for name, length in steps:
            await ctx.step.sleep(name, length)
        return [name for name, _ in steps]

    return app


@on_disk
async def test_a_result_that_nobody_asks_for_is_a_warning(engine_of: EngineOf) -> None:
    """A memo nobody asks for any more is a warning; the run goes on with the new code."""
    async with engine_of(shop(("old", 0), ("nap", "1h"))) as engine:
        await engine.send(Event("go"))
        now = engine.now_ms
    async with engine_of(shop(("nap", "1h")), now_ms=now) as engine:
        await engine.advance("1h")
        run = engine.run()
        assert run.output == ["nap"]
        assert ["'old' has a result" in warning for warning in run.warnings] == [True]


@on_disk
async def test_a_new_step_before_old_ones_is_a_warning(engine_of: EngineOf) -> None:
    """A new step before old ones runs late and is a warning, once; what was done stays done."""
    async with engine_of(shop(("a", 0), ("b", 0), ("nap", "1h"))) as engine:
        await engine.send(Event("go"))
        now = engine.now_ms
    async with engine_of(shop(("a", 0), ("new", "1m"), ("b", 0), ("nap", "1h")), now_ms=now) as engine:
        assert engine.run().warnings, "a warning is seen before the run ends"
        await engine.advance("1h1m")
        run = engine.run()
        assert run.output == ["a", "new", "b", "nap"]
        assert ["'new' is new before" in warning for warning in run.warnings] == [True]


@on_disk
async def test_the_same_code_started_again_warns_of_nothing(engine_of: EngineOf) -> None:
    """An engine that was stopped in a fan-out or a nap goes on where it was, without a warning."""
    steps: tuple[tuple[str, Duration], ...] = (("a", 0), ("nap", "1h"), ("b", 0))
    async with engine_of(shop(*steps)) as engine:
        await engine.send(Event("go"))
        now = engine.now_ms
    async with engine_of(shop(*steps), now_ms=now + 7_200_000) as engine:
        run = engine.run()
        assert (run.output, run.warnings) == (["a", "nap", "b"], ())


@on_disk
async def test_a_function_that_is_gone_is_tried_again_until_its_code_is_back(engine_of: EngineOf) -> None:
    """A run whose function the deployed code lacks does not crash the worker; its code can come back."""
    other = App("shop")

    @other.function(on("other"))
    async def bystander(ctx: Context) -> str:
        return "fine"

    async with engine_of(shop(("nap", "1h"))) as engine:
        await engine.send(Event("go"))
        now = engine.now_ms
    async with engine_of(other, now_ms=now + 3_600_000) as engine:
        await engine.send(Event("other"))
        assert engine.run("bystander").output == "fine"
        assert engine.run("function").status == "running"
        now = engine.now_ms
    async with engine_of(shop(("nap", "1h")), now_ms=now) as engine:
        await engine.advance("1h")
        assert engine.run("function").output == ["nap"]
