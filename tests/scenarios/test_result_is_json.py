"""A result that is no JSON names the type and where, and is not tried again."""

import pytest

from stepstream import App, Context, Event, StepError, on
from tests.scenarios.conftest import EngineOf


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
