"""Code that changed under a running function is a warning that is recorded on the run, never a crash."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from stepstream import App, Context, Event, StepError, ThreadedContext, on
from stepstream.contract.text.durations import Duration
from tests.scenarios.conftest import EngineOf, on_disk


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
async def test_a_result_that_the_code_no_longer_uses_is_a_warning(engine_of: EngineOf) -> None:
    """A memo that the new code does not request is a warning; the run continues with the new code."""
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
    """A new step before steps that are done runs late and is a warning, once; the others keep their results."""
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
async def test_unchanged_code_has_no_warnings_after_a_restart(engine_of: EngineOf) -> None:
    """An engine that was stopped during a step continues there, without a warning."""
    steps: tuple[tuple[str, Duration], ...] = (("a", 0), ("nap", "1h"), ("b", 0))
    async with engine_of(shop(*steps)) as engine:
        await engine.send(Event("go"))
        now = engine.now_ms
    async with engine_of(shop(*steps), now_ms=now + 7_200_000) as engine:
        run = engine.run()
        assert (run.output, run.warnings) == (["a", "nap", "b"], ())


@on_disk
async def test_a_run_of_a_removed_function_waits_for_its_code(engine_of: EngineOf) -> None:
    """A run whose function the deployed code lacks does not crash the worker, and continues once the code is back."""
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


STEPS: dict[str, Callable[[Context], Any]] = {
    "run": lambda ctx: ctx.step.run("x", str, "ran"),
    "sleep": lambda ctx: ctx.step.sleep("x", "1m"),
    "wait": lambda ctx: ctx.step.wait_for_event("x", event="come", timeout="1m"),
    "signal": lambda ctx: ctx.step.wait_for_signal("x", signal="come", timeout="1m"),
    "send": lambda ctx: ctx.step.send_event("x", Event("sent")),
    "invoke": lambda ctx: ctx.step.invoke("x", function="missing"),
}
OUTPUTS = {"run": "ran", "sleep": "None", "wait": "Event", "invoke": "function-not-found"}


def one_step(kind: str, reached: list[str] | None = None) -> App:
    """Make a version of one app: a function whose step `x` is of a kind, and which returns what that gave."""
    app = App("shop")
    used = [] if reached is None else reached

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            found = await STEPS[kind](ctx)
        except StepError as error:
            found = error.code
        except Exception:
            used.append("after an error")
            raise
        used.append("after the step")
        await ctx.step.sleep("nap", "1h")
        return type(found).__name__ if isinstance(found, Event | list) else str(found)

    return app


@on_disk
@pytest.mark.parametrize(
    ("before", "after"), [("run", "wait"), ("wait", "run"), ("sleep", "send"), ("invoke", "sleep")]
)
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "open"])
async def test_a_step_of_another_kind_stops_the_run_until_code_fits(
    engine_of: EngineOf, before: str, after: str, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The code goes no further than a step whose result, or open step, is of another kind, and loses no attempt.

    The run has a warning and is retried; when the earlier code is back, it continues there.
    """
    reached: list[str] = []
    async with engine_of(one_step(before)) as engine:
        await engine.send(Event("go"))
        if kept:
            await engine.send(Event("come"))
            await engine.advance("2m")
        now = engine.now_ms
    async with engine_of(one_step(after, reached), now_ms=now) as engine:
        await engine.send(Event("come"))
        await engine.advance("1h")
        run = engine.run("function")
        assert (run.status, reached) == ("running", [])
        assert [f"was of kind {before!r} and is of kind {after!r} now" in warning for warning in run.warnings] == [True]
        assert "does not fit the history of the run" in run.warnings[0]
        # The client of a broker that has just started logs errors, too.
        own = [record for record in caplog.records if record.name.startswith("stepstream")]
        (logged, *_) = [record for record in own if record.levelname == "ERROR"]
        assert "the run is postponed for" in logged.getMessage()
        now = engine.now_ms
    async with engine_of(one_step(before), now_ms=now) as engine:
        await engine.advance("2h")
        run = engine.run("function")
        assert (run.status, run.output) == ("completed", OUTPUTS[before])


def in_queue(first: str, *, works: bool) -> App:
    """Make a version of an app whose function has a step in a queue, with two attempts, after a step of some kind."""
    app = App("shop", queues=["slow"])

    def attempt() -> str:
        if not works:
            raise ConnectionError("not yet")
        return "done"

    @app.function(on("go"), retries=0)
    async def function(ctx: Context) -> str:
        await STEPS[first](ctx)
        return await ctx.step.options(queue="slow", retries=1, backoff="1m").run("slow", attempt)

    return app


@on_disk
async def test_a_dispatched_step_behind_one_of_another_kind_waits(engine_of: EngineOf) -> None:
    """A worker of a queue whose code does not fit the history of the run uses up no attempt of the step."""
    async with engine_of(in_queue("run", works=False)) as engine:
        await engine.send(Event("go"))
        now = engine.now_ms
    async with engine_of(in_queue("send", works=True), now_ms=now) as engine:
        await engine.advance("1h")
        run = engine.run("function")
        assert (run.status, ["of kind 'send' now" in warning for warning in run.warnings]) == ("running", [True])
        now = engine.now_ms
    async with engine_of(in_queue("run", works=True), now_ms=now) as engine:
        await engine.advance("10m")
        assert engine.run("function").output == "done"


def in_thread(kind: str, reached: list[str]) -> App:
    """Make a version of an app with a plain function, whose step `x` is of a kind."""
    app = App("shop")

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> str:
        try:
            if kind == "run":
                ctx.step.run("x", str, "ran")
            else:
                ctx.step.sleep("x", 0)
            reached.append("after the step")
        except Exception:  # noqa: BLE001 - code that catches all errors must not continue either
            reached.append("after an error")
        ctx.step.sleep("nap", "1h")
        return kind

    return app


@on_disk
async def test_a_plain_function_stops_at_a_step_of_another_kind(engine_of: EngineOf) -> None:
    """The thread is interrupted, and the run continues with code that fits."""
    reached: list[str] = []
    async with engine_of(in_thread("run", [])) as engine:
        await engine.send(Event("go"))
        now = engine.now_ms
    async with engine_of(in_thread("sleep", reached), now_ms=now + 3_600_000) as engine:
        await engine.advance("1h")
        run = engine.run("function")
        assert (run.status, reached, len(run.warnings)) == ("running", [], 1)
        now = engine.now_ms
    async with engine_of(in_thread("run", []), now_ms=now) as engine:
        await engine.advance("10m")
        assert engine.run("function").output == "run"


@dataclass
class Parcel:
    """What the earlier code returned."""

    weight: int


@dataclass
class Labelled:
    """What the code returns now."""

    weight: int
    label: str


@on_disk
async def test_a_result_that_no_longer_fits_its_type_names_the_step(engine_of: EngineOf) -> None:
    """A kept result that its changed type refuses is a StepError with the step and what is wrong with the value."""

    def version(parcel: Any) -> App:
        app = App("shop")

        @app.function(on("go"))
        async def function(ctx: Context) -> object:
            try:
                await ctx.step.run("pack", parcel)
                await ctx.step.sleep("nap", "1h")
            except StepError as error:
                return [error.step_id, error.code, error.message]
            return "packed"

        return app

    def pack() -> Parcel:
        return Parcel(3)

    def pack_and_label() -> Labelled:
        return Labelled(3, "fragile")

    async with engine_of(version(pack)) as engine:
        await engine.send(Event("go"))
        now = engine.now_ms
    async with engine_of(version(pack_and_label), now_ms=now) as engine:
        await engine.advance("1h")
        output = str(engine.run().output)
        assert output.startswith("['pack', 'result-type'")
        assert "label" in output
        assert "give the step another id" in output
