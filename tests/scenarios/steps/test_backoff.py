"""When a failed attempt is repeated: the default back-off, a chosen one, and RetryAfterError."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from stepstream import App, Context, Event, NonRetriableError, RetryAfterError, on
from stepstream.sdk.function import Backoff
from stepstream.testing import VirtualEngine
from tests.scenarios.conftest import EngineOf

MINUTE_S = 60
HOUR_S = 60 * MINUTE_S
BACKOFF_S = [15, 30, MINUTE_S, 2 * MINUTE_S, 5 * MINUTE_S, 10 * MINUTE_S, 20 * MINUTE_S, 40 * MINUTE_S, HOUR_S]


async def times_of_attempts(engine: VirtualEngine, attempts: list[int]) -> list[float]:
    """Send the event and let all time pass; return the seconds between attempts."""
    await engine.send(Event("go"))
    await engine.advance("30d")
    return [(later - earlier) / 1_000 for earlier, later in itertools.pairwise(attempts)]


def failing_app(engines: list[VirtualEngine], attempts: list[int], error: Exception, *, between: bool) -> App:
    """Make an app whose step, or the code between steps, notes the time and fails, 9 times over."""
    app = App("backoff")

    def fail() -> None:
        attempts.append(engines[0].now_ms)
        raise error

    @app.function(on("go"), retries=9)
    async def function(ctx: Context) -> None:
        if between:
            fail()
        await ctx.step.run("step", fail)

    return app


@pytest.mark.parametrize("between", [False, True], ids=["step", "code"])
async def test_default_backoff_doubles_and_has_jitter(engine_of: EngineOf, between: bool) -> None:
    """15s, 30s, 1m, 2m, 5m, 10m, 20m, 40m, 1h, plus 0 to 30 s of jitter, for steps and the code between steps."""
    engines: list[VirtualEngine] = []
    attempts: list[int] = []
    async with engine_of(failing_app(engines, attempts, ValueError("no"), between=between)) as engine:
        engines.append(engine)
        delays = await times_of_attempts(engine, attempts)
        assert len(delays) == 9
        assert all(base <= delay <= base + 30 for base, delay in zip(BACKOFF_S, delays, strict=True)), delays
        assert engine.run().status == "failed"


@pytest.mark.parametrize("between", [False, True], ids=["step", "code"])
@pytest.mark.parametrize(
    ("after", "seconds"),
    [("0s", 1), ("30s", 30), (timedelta(minutes=5), 300), ("48h", 24 * HOUR_S)],
    ids=["least", "text", "timedelta", "most"],
)
async def test_retry_after_is_clamped(
    engine_of: EngineOf, between: bool, after: str | timedelta, seconds: float
) -> None:
    """The delay of RetryAfterError is raised to 1 s and cut to 24 h, and the attempt counts."""
    engines: list[VirtualEngine] = []
    attempts: list[int] = []
    async with engine_of(failing_app(engines, attempts, RetryAfterError("later", after), between=between)) as engine:
        engines.append(engine)
        assert await times_of_attempts(engine, attempts) == [seconds] * 9


async def test_retry_after_a_datetime_uses_the_engine_clock(engine_of: EngineOf) -> None:
    """RetryAfterError(datetime) schedules the next attempt by the engine's clock, virtual or not."""
    app = App("backoff")
    moment = datetime(2026, 1, 1, 6, 30, tzinfo=UTC)
    attempts: list[int] = []

    @app.function(on("go"), retries=1)
    async def function(ctx: Context) -> None:
        def body() -> None:
            attempts.append(engine.now_ms)
            raise RetryAfterError("later", moment)

        await ctx.step.run("step", body)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1d")
    assert attempts[1] == moment.timestamp() * 1_000


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        ("7s", [7, 7, 7]),
        (90, [90, 90, 90]),
        (["1s", "2m"], [1, 120, 120]),
        (lambda attempt: timedelta(hours=attempt + 1), [HOUR_S, 2 * HOUR_S, 3 * HOUR_S]),
    ],
    ids=["text", "seconds", "list", "callable"],
)
async def test_step_options_override_the_function(engine_of: EngineOf, backoff: Backoff, delays: list[float]) -> None:
    """step.options(retries=, backoff=) holds for one step, whatever holds for the function."""
    app = App("backoff")
    attempts: list[int] = []

    @app.function(on("go"), retries=0)
    async def function(ctx: Context) -> None:
        def body() -> None:
            attempts.append(engine.now_ms)
            raise ValueError("no")

        await ctx.step.options(retries=3, backoff=backoff).run("step", body)

    async with engine_of(app) as engine:
        assert await times_of_attempts(engine, attempts) == delays
        assert engine.run().status == "failed"


async def test_code_and_steps_count_attempts_separately(engine_of: EngineOf) -> None:
    """Attempts are counted for each step and, separately, for the code between steps; a result resets the latter."""
    app = App("backoff")
    failures = {"code-1": 2, "one": 2, "code-2": 2, "two": 2}

    def flaky(place: str) -> str:
        failures[place] -= 1
        if failures[place] >= 0:
            raise ValueError(place)
        return place

    @app.function(on("go"), retries=2, backoff="1s")
    async def function(ctx: Context) -> list[str]:
        found = []
        if failures["code-1"] > 0:
            flaky("code-1")
        found.append(await ctx.step.run("one", flaky, "one"))
        if failures["code-2"] > 0:
            flaky("code-2")
        found.append(await ctx.step.run("two", flaky, "two"))
        return found

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        run = engine.run()
        assert run.output == ["one", "two"]
        assert [step.attempts for step in run.steps] == [3, 3]


async def test_non_retriable_error_between_steps_ends_the_run(engine_of: EngineOf) -> None:
    """NonRetriableError in the code between steps leaves no further attempt."""
    engines: list[VirtualEngine] = []
    attempts: list[int] = []
    async with engine_of(failing_app(engines, attempts, NonRetriableError("no"), between=True)) as engine:
        engines.append(engine)
        assert await times_of_attempts(engine, attempts) == []
        assert engine.run().status == "failed"
