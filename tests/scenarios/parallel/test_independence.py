"""The functions that one event starts are independent: one that fails does not affect the others."""

from stepstream import Context, Event, on
from tests.scenarios.apps import counting_app
from tests.scenarios.conftest import EngineOf


async def test_a_failing_function_does_not_affect_another(engine_of: EngineOf) -> None:
    """One event starts two functions; one fails and the other completes."""
    app = counting_app()

    @app.function(on("go"), retries=0)
    async def broken(ctx: Context) -> None:
        raise ValueError("no")

    async with engine_of(app) as engine:
        await engine.send(Event("go", {"n": 1}))
        assert engine.run("function").status == "completed"
        assert engine.run("broken").status == "failed"
