"""Each parallel step has its own retries."""

import asyncio
from collections import Counter

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


async def test_each_step_of_a_group_has_its_own_attempts(engine_of: EngineOf) -> None:
    """The steps of ctx.group.parallel retry separately; the group ends when the last of them is done."""
    app = App("parallel")
    attempts: Counter[str] = Counter()

    def body(name: str, failures: int) -> str:
        attempts[name] += 1
        if attempts[name] <= failures:
            raise ValueError("flaky")
        return name

    @app.function(on("go"), backoff="1m")
    async def function(ctx: Context) -> list[str]:
        names = {"a": 0, "b": 1, "c": 3}
        return await ctx.group.parallel(*[ctx.step.run(name, body, name, n) for name, n in names.items()])

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("179s")
        assert engine.run().status == "running"
        await engine.advance("1s")
        assert engine.run().output == ["a", "b", "c"]
    assert attempts == {"a": 1, "b": 2, "c": 4}
