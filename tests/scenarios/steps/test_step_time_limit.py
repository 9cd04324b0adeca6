"""options(timeout=) bounds one attempt of a step."""

import asyncio

from stepstream import App, Context, Event, StepError, on
from tests.scenarios.conftest import EngineOf


async def test_an_attempt_over_its_limit_fails_with_a_code(engine_of: EngineOf) -> None:
    """An attempt that takes too long is cancelled, and its error has the limit and the code step-timeout."""
    app = App("failure")
    never = asyncio.Event()
    attempts: list[int] = []

    async def endless() -> None:
        attempts.append(1)
        await never.wait()

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.options(retries=1, backoff=0, timeout=0.01).run("step", endless)
        except StepError as error:
            return f"{error.code} {error.name} {error.message}"
        return "never"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance(0)
        output = str(engine.run().output)
        assert output.startswith(
            "step-timeout StepTimeoutError the attempt took longer than its limit of 0.01 s; raise"
        )
        assert len(attempts) == 2


async def test_a_timeout_error_of_the_body_is_its_own(engine_of: EngineOf) -> None:
    """A TimeoutError that the body raises within its limit is not taken for the limit."""
    app = App("failure")

    async def broken() -> None:
        raise TimeoutError("the service did not answer")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        try:
            await ctx.step.options(retries=0, timeout="1h").run("step", broken)
        except StepError as error:
            return [error.code, error.message]
        return []

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == ["step-error", "the service did not answer"]
