"""Parallel: each planned step has its own retries."""

import asyncio

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_each_parallel_step_has_its_own_attempts(engine_of: EngineOf) -> None:
    """One of three fails twice; the others run once."""
    app = App("parallel")
    bodies: list[str] = []

    def body(name: str) -> str:
        bodies.append(name)
        if name == "b" and bodies.count("b") < 3:
            raise ValueError("flaky")
        return name

    @app.function(on("go"), backoff="1s")
    async def function(ctx: Context) -> list[str]:
        return list(await asyncio.gather(*[ctx.step.run(name, body, name) for name in "abc"]))

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("10s")
        assert engine.run().output == ["a", "b", "c"]
    assert sorted(bodies) == ["a", "b", "b", "b", "c"]
