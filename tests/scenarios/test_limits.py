"""Limits: each with its own error, visible to the code that hit it; and values both ways."""

from dataclasses import dataclass

import pydantic
import pytest

from stepstream import App, Context, Event, StepError, on
from stepstream.contract.limits import Limits
from tests.scenarios.conftest import EngineOf


def stepping_app(steps: int) -> App:
    """Make an app whose function runs so many steps and swallows the error of one too many."""
    app = App("limits")

    @app.function(on("go"))
    async def function(ctx: Context) -> int:
        done = 0
        try:
            for number in range(steps):
                await ctx.step.run(f"step-{number}", lambda: None)
                done += 1
        except Exception:  # noqa: BLE001 - the run must fail all the same
            return done
        return done

    return app


async def test_the_last_allowed_step_is_fine_and_the_next_fails_the_run(engine_of: EngineOf) -> None:
    """Exactly the limit and then returning is fine; one more fails the run without retry, caught or not."""
    for steps, status in ((5, "completed"), (6, "failed")):
        async with engine_of(stepping_app(steps), limits=Limits(steps_per_run_max=5)) as engine:
            await engine.send(Event("go"))
            run = engine.runs()[-1]
            assert run.status == status
            assert len(run.steps) == 5
            assert status == "completed" or "step-limit" in str(run.error)


async def test_too_large_an_output_can_be_caught_and_is_not_tried_again(engine_of: EngineOf) -> None:
    """A step's output over its limit is a catchable error; the body does not run again because of it."""
    app = App("limits")
    bodies: list[int] = []

    def large() -> str:
        bodies.append(1)
        return "x" * 101

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.run("large", large)
        except StepError as error:
            return error.code
        return "never"

    async with engine_of(app, limits=Limits(step_output_bytes_max=100)) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == "output-too-large"
    assert bodies == [1]


async def test_too_much_state_fails_the_run(engine_of: EngineOf) -> None:
    """The memos of a run have a limit in all; beyond it the run fails, without retry."""
    app = App("limits")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        for number in range(20):
            await ctx.step.run(f"step-{number}", lambda: "x" * 98)

    async with engine_of(app, limits=Limits(run_memo_bytes_max=1_000)) as engine:
        await engine.send(Event("go"))
        assert engine.run().status == "failed"
        assert "run-state-limit" in str(engine.run().error)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), ["$", "builtins.object"]),
        ({"a": [1, {2}]}, ["$.a[1]", "set"]),
        ({1: 2}, ["$", "int"]),
        ([float("nan")], ["$[0]", "nan"]),
    ],
    ids=["object", "set", "key", "nan"],
)
async def test_a_result_that_is_no_json_says_what_and_where(
    engine_of: EngineOf, value: object, words: list[str]
) -> None:
    """A result that is no JSON names the type and the place, and is not tried again."""
    app = App("limits")
    bodies: list[int] = []

    def body() -> object:
        bodies.append(1)
        return value

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.run("odd", body)
        except StepError as error:
            return error.message
        return "never"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert all(word in str(engine.run().output) for word in words), engine.run().output
    assert bodies == [1]


class Order(pydantic.BaseModel):
    """A pydantic model as a step's result."""

    total: int
    tags: list[str] = []


@dataclass
class Parcel:
    """A dataclass as a step's result."""

    weight: float


async def test_models_and_dataclasses_go_both_ways(engine_of: EngineOf) -> None:
    """A callable that says its return type gets it back as that type, live and replayed."""
    app = App("limits")

    def make_order() -> Order:
        return Order(total=3, tags=["a"])

    async def make_parcel(order: Order) -> list[Parcel]:
        return [Parcel(order.total / 2)]

    @app.function(on("go"))
    async def function(ctx: Context) -> Order:
        order = await ctx.step.run("order", make_order)
        (parcel,) = await ctx.step.run("parcel", make_parcel, order)
        await ctx.step.sleep("nap", "1m")
        return Order(total=order.total * 2, tags=[*order.tags, str(parcel.weight)])

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        assert engine.run().output == {"total": 6, "tags": ["a", "1.5"]}


async def test_sleeps_have_forms_and_bounds(engine_of: EngineOf) -> None:
    """A past date goes on at once; a sleep of over 366 days is refused at the call, an unknown form too."""
    app = App("limits")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        await ctx.step.sleep_until("past", "2001-01-01T00:00:00Z")
        messages = []
        for duration in ("367d", "soon", "-1s"):
            try:
                await ctx.step.sleep("long", duration)
            except ValueError as error:
                messages.append(str(error))
        await ctx.step.sleep("forms", "1h30m")
        return messages

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("90m")
        output = engine.run().output
        assert isinstance(output, list)
        assert ["366 days" in str(output[0]), "no duration" in str(output[1]), len(output)] == [True, True, 3]
