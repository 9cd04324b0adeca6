"""The matched functions start independently; the failure of one is nothing to another."""

from stepstream import Context, Event, on
from tests.scenarios.apps import counting_app
from tests.scenarios.conftest import EngineOf


async def test_one_failing_function_is_nothing_to_another(engine_of: EngineOf) -> None:
    """The matched functions start independently."""
    app = counting_app()

    @app.function(on("go"), retries=0)
    async def broken(ctx: Context) -> None:
        raise ValueError("no")

    async with engine_of(app) as engine:
        await engine.send(Event("go", {"n": 1}))
        assert engine.run("function").status == "completed"
        assert engine.run("broken").status == "failed"
