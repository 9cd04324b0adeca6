"""Failing: attempts, back-off, errors that are caught, handlers, and the events that tell of the end."""

import asyncio

from stepstream import App, Context, Event, NonRetriableError, RetryAfterError, StepError, on
from tests.scenarios.conftest import EngineOf

MINUTE = 60_000


def failing(app: App, error: Exception, **options: object) -> list[int]:
    """Add a function whose only step always fails; return the list of its attempts."""
    attempts: list[int] = []

    def body() -> None:
        attempts.append(1)
        raise error

    @app.function(on("go"), **options)  # type: ignore[arg-type]  # Options are checked by the function itself.
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.run("step", body)
        except StepError as caught:
            return f"{caught.name}: {caught.message}"
        return "never"

    return attempts


async def test_a_step_has_five_attempts_by_default(engine_of: EngineOf) -> None:
    """4 retries by default; out of attempts the function sees StepError with name and message and may go on."""
    app = App("failure")
    attempts = failing(app, ValueError("no"))
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("14s")
        assert len(attempts) == 1
        await engine.advance("31s")
        assert len(attempts) == 2
        await engine.advance("1h")
        assert len(attempts) == 5
        run = engine.run()
        assert run.output == "ValueError: no"
        assert run.steps[0].attempts == 5


async def test_backoff_can_be_chosen(engine_of: EngineOf) -> None:
    """retries= and backoff= hold for every step of a function; step.options for one."""
    app = App("failure")
    attempts = failing(app, ValueError("no"), retries=2, backoff=["1s", "10s"])
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1s")
        assert len(attempts) == 2
        await engine.advance("9s")
        assert len(attempts) == 2
        await engine.advance("1s")
        assert len(attempts) == 3
        assert engine.run().status == "completed"


async def test_a_non_retriable_error_ends_the_attempts(engine_of: EngineOf) -> None:
    """NonRetriableError ends a step's attempts at once."""
    app = App("failure")
    attempts = failing(app, NonRetriableError("no"))
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == "NonRetriableError: no"
    assert len(attempts) == 1


async def test_retry_after_sets_the_next_time(engine_of: EngineOf) -> None:
    """RetryAfterError sets the next time, at least a second, and uses up an attempt."""
    app = App("failure")
    attempts = failing(app, RetryAfterError("later", "2h"), retries=1)
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("119m")
        assert len(attempts) == 1
        await engine.advance("1m")
        assert len(attempts) == 2
        assert engine.run().output == "RetryAfterError: later"


async def test_an_uncaught_step_error_fails_the_run_at_once(engine_of: EngineOf) -> None:
    """Uncaught, a step's error fails the run without a retry of the body."""
    app = App("failure")
    entries: list[int] = []

    def body() -> None:
        raise NonRetriableError("no")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        entries.append(1)
        await ctx.step.run("step", body)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().status == "failed"
    assert len(entries) == 1


async def test_code_between_steps_has_attempts_of_its_own(engine_of: EngineOf) -> None:
    """The code between steps is tried again by itself; steps that are done stay done."""
    app = App("failure")
    bodies: list[int] = []
    entries: list[int] = []

    @app.function(on("go"), retries=2, backoff="1s")
    async def function(ctx: Context) -> int:
        entries.append(ctx.attempt)
        await ctx.step.run("step", bodies.append, 1)
        if len(entries) < 3:
            raise ValueError("flaky")
        return len(entries)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("10s")
        assert engine.run().output == 3
    assert bodies == [1]
    assert entries == [0, 1, 2]


async def test_a_step_may_have_a_time_limit(engine_of: EngineOf) -> None:
    """step.options(timeout=) ends an attempt that takes too long."""
    app = App("failure")

    async def endless() -> None:
        await app_never.wait()

    app_never = asyncio.Event()

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.options(retries=0, timeout=0.01).run("step", endless)
        except StepError as error:
            return error.name
        return "never"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == "TimeoutError"


async def test_on_failure_gets_event_and_error_but_not_on_cancel(engine_of: EngineOf) -> None:
    """The handler runs as its own function with the original event and the error; a cancelled run has none."""
    app = App("failure")
    handled: list[object] = []

    async def handler(ctx: Context) -> None:
        data = ctx.event.data
        handled.append((data["event"]["data"], data["error"]["message"]))

    @app.function(on("go"), on_failure=handler, retries=0)
    async def function(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")
        raise ValueError("broken")

    async with engine_of(app) as engine:
        await engine.send(Event("go", {"n": 1}), Event("go", {"n": 2}))
        first, second = engine.runs("function")
        assert await engine.cancel(second.run_id)
        assert not await engine.cancel(second.run_id)
        await engine.advance("1h")
        assert {run.status for run in engine.runs("function")} == {"failed", "cancelled"}
        assert first.run_id != second.run_id
    assert len(handled) == 1
    assert handled[0] in [({"n": 1}, "broken"), ({"n": 2}, "broken")]


async def test_every_end_is_told_once_and_without_recursion(engine_of: EngineOf) -> None:
    """Ended runs emit stream/function.finished, failed ones failed too; runs started by these emit none."""
    app = App("failure")
    heard: list[str] = []

    @app.function(on("good"))
    async def good(ctx: Context) -> int:
        return 1

    @app.function(on("bad"), retries=0)
    async def bad(ctx: Context) -> None:
        raise ValueError("no")

    @app.function(on("stream/function.finished"), on("stream/function.failed"))
    async def listener(ctx: Context) -> None:
        heard.append(f"{ctx.event.name}:{ctx.event.data['function_id']}")

    async with engine_of(app) as engine:
        await engine.send(Event("good"), Event("bad"))
    assert sorted(heard) == [
        "stream/function.failed:bad",
        "stream/function.finished:bad",
        "stream/function.finished:good",
    ]
