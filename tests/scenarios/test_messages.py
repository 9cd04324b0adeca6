"""Signals, sent events and invoked functions."""

import asyncio

import pytest

from stepstream import App, Context, Event, StepError, on
from tests.scenarios.conftest import EngineOf


def signal_app(on_conflict: str) -> App:
    """Make an app whose function waits for one signal and returns its data or the code of the error."""
    app = App("messages")

    @app.function(on("go"))
    async def function(ctx: Context) -> object:
        try:
            return await ctx.step.wait_for_signal(
                "wait",
                signal="approve",
                timeout="1h",
                on_conflict="replace" if on_conflict == "replace" else "fail",
            )
        except StepError as error:
            return error.code

    return app


async def test_a_signal_brings_data_and_is_not_kept(engine_of: EngineOf) -> None:
    """A signal that nobody waits for answers "not found" and is not kept."""
    async with engine_of(signal_app("fail")) as engine:
        assert not await engine.signal("approve", 1)
        await engine.send(Event("go"))
        assert engine.run().status == "running"
        assert await engine.signal("approve", {"by": "ann"})
        assert not await engine.signal("approve", 2)
        assert engine.run().output == {"by": "ann"}


async def test_a_signal_that_never_comes_gives_none(engine_of: EngineOf) -> None:
    """On timeout the result is None, and the name is free again."""
    async with engine_of(signal_app("fail")) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output is None
        assert not await engine.signal("approve")


@pytest.mark.parametrize(("on_conflict", "code"), [("fail", "signal-conflict"), ("replace", "signal-replaced")])
async def test_a_second_waiter_fails_or_replaces(engine_of: EngineOf, on_conflict: str, code: str) -> None:
    """fail: the newcomer fails. replace: the newcomer takes over and the old one gets a catchable error at once."""
    async with engine_of(signal_app(on_conflict)) as engine:
        (first,) = await engine.send(Event("go"))
        await engine.send(Event("go"))
        assert await engine.signal("approve", "yes")
        outputs = {run.output for run in engine.runs() if isinstance(run.output, str)}
        assert outputs == {code, "yes"}
        earlier = engine.index.list(event_id=first)[0]
        assert earlier.output == ("yes" if on_conflict == "fail" else code)


async def test_send_event_sends_once_and_gives_ids(engine_of: EngineOf) -> None:
    """send_event(id, events) → ids; the events start functions, once, whatever is replayed."""
    app = App("messages")

    @app.function(on("go"))
    async def function(ctx: Context) -> object:
        ids = await ctx.step.send_event("send", [Event("child", {"n": 1}), Event("child", {"n": 2}, id="mine")])
        await ctx.step.sleep("nap", "1m")
        return ids

    @app.function(on("child"))
    async def child(ctx: Context) -> object:
        return ctx.event.id

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        ids = engine.run("function").output
        assert isinstance(ids, list)
        assert ids[1] == "mine"
        assert sorted(str(run.output) for run in engine.runs("child")) == sorted(map(str, ids))


async def test_invoke_returns_the_result_or_its_error(engine_of: EngineOf) -> None:
    """The callee's failure is a catchable StepError; unknown functions and cancelled ones answer too."""
    app = App("messages")
    attempts: list[int] = []

    @app.function()
    async def double(ctx: Context) -> int:
        return int(ctx.event.data["n"]) * 2

    @app.function(retries=0)
    async def broken(ctx: Context) -> None:
        attempts.append(1)
        raise ValueError("no")

    @app.function()
    async def endless(ctx: Context) -> None:
        await ctx.step.sleep("nap", "7d")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[object]:
        found: list[object] = [await ctx.step.invoke("double", function=double, data={"n": 21})]
        for step, name in (("broken", "broken"), ("unknown", "nobody"), ("slow", "endless")):
            try:
                found.append(await ctx.step.invoke(step, function=name, timeout="1h"))
            except StepError as error:
                found.append(f"{error.code}: {error.message}")
        return found

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("2h")
        assert engine.run("function").output == [
            42,
            "invoked-run-failed: no",
            "function-not-found: no function 'nobody' is registered",
            "invoke-timeout: the invoked function did not end in time",
        ]
        assert engine.run("endless").status == "running"
    assert attempts == [1]


async def test_a_cancelled_callee_answers(engine_of: EngineOf) -> None:
    """The caller of a cancelled run is answered with a typed error."""
    app = App("messages")

    @app.function()
    async def endless(ctx: Context) -> None:
        await ctx.step.sleep("nap", "7d")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            await asyncio.gather(ctx.step.invoke("call", function=endless))
        except StepError as error:
            return error.code
        return "never"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.cancel(engine.run("endless").run_id)
        assert engine.run("function").output == "run-cancelled"
        assert engine.run("endless").status == "cancelled"
