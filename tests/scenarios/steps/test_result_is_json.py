"""A result that is not JSON fails the step with its type and path, and is not retried."""

import pytest

from stepstream import App, Context, Event, StepError, on
from tests.scenarios.conftest import EngineOf


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), ["$", "type object", "declare its type as the return type"]),
        ({"a": [1, {2}]}, ["$.a[1]", "set"]),
        ({1: 2}, ["$", "key 1 is of type int"]),
        ({0: 2}, ["$", "key 0 is of type int"]),
        ({None: 2}, ["$", "key None is of type NoneType"]),
        ({False: 2}, ["$", "key False is of type bool"]),
        ({"a": {"": {0.0: 1}}}, ["$.a.", "key 0.0 is of type float"]),
        ({"\ud800": 1}, ["$", "lone surrogate"]),
        ({"a": "\ud800"}, ["$.a", "lone surrogate"]),
        ([float("nan")], ["$[0]", "nan"]),
    ],
    ids=[
        "object",
        "set",
        "int-key",
        "0-key",
        "none-key",
        "false-key",
        "inner-key",
        "surrogate-key",
        "surrogate",
        "nan",
    ],
)
async def test_a_result_that_is_not_json_is_refused(engine_of: EngineOf, value: object, words: list[str]) -> None:
    """The error says the type and the path of the first part that is not JSON, and the body is not retried."""
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
