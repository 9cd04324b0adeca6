"""Heartbeats of a body, in virtual time: what is reported of them, and when their absence ends the attempt."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stepstream import StepUsageError
from stepstream.contract.codec import NULL, Raw
from stepstream.contract.ids import StepHash
from stepstream.contract.limits import DEFAULT_LIMITS, PROGRESS_BYTES_MAX
from stepstream.contract.outcomes import Failure, Value
from stepstream.sdk.context import Context
from stepstream.sdk.errors import RunInterrupted
from stepstream.sdk.execution import Bodies, StepResult
from stepstream.sdk.function import RetryPolicy
from stepstream.sdk.heartbeats import Heartbeats
from stepstream.sdk.replay.calls import RUN, Call
from tests.fakes.waiting import until
from tests.sdk.runs import Run
from tests.sim.loop import run

Reports = list[tuple[float, bytes]]


async def attempt(
    body: Callable[[], Any],
    *,
    timeout_ms: int = 0,
    heartbeat_timeout_ms: int = 0,
    progress: Raw = NULL,
) -> tuple[StepResult, Call, Reports]:
    """Run an attempt of a body; return its result, its call, and the reported progress with its time (s)."""
    policy = RetryPolicy(timeout_ms=timeout_ms, heartbeat_timeout_ms=heartbeat_timeout_ms)
    call = Call(StepHash("copy"), "copy", RUN, body, policy=policy, progress=progress)
    loop, reports = asyncio.get_running_loop(), Reports()

    def report(said: Raw) -> None:
        reports.append((round(loop.time(), 1), bytes(said)))

    return await Bodies().run("f", call, DEFAULT_LIMITS, lambda: 0, report), call, reports


async def pass_s(seconds: float) -> None:
    """Let virtual time pass."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, passed.set)
    await passed.wait()


async def context() -> Context:
    """Return the context of a run."""
    found: list[Context] = []

    async def code(ctx: Context) -> None:
        found.append(ctx)

    await Run(code).start()
    return found[0]


def played(code: Callable[[Context], Awaitable[Any]]) -> Any:
    """Return the result of code in virtual time."""

    async def with_context() -> Any:
        return await code(await context())

    return run(with_context())


def error_of(result: StepResult) -> tuple[str, str]:
    """Return the code and the message of a failed attempt."""
    assert isinstance(result.outcome, Failure)
    return result.outcome.error.code, result.outcome.error.message


def test_thousands_of_heartbeats_are_a_few_reports() -> None:
    """The first is reported at once, then one in a third of the timeout; the next attempt gets the newest."""

    async def code(ctx: Context) -> None:
        async def body() -> None:
            for number in range(100):
                for more in range(50):
                    ctx.heartbeat(number * 50 + more)
                await pass_s(0.1)
            raise ValueError("broken")

        result, call, reports = await attempt(body, heartbeat_timeout_ms=9_000)
        assert [at for at, _ in reports] == [0.0, 3.0, 6.0, 9.0]
        assert bytes(call.progress) == b"4999"
        assert error_of(result) == ("", "broken")

    played(code)


@pytest.mark.parametrize(("timeout_ms", "seconds"), [(0, 5.0), (600, 1.0), (12_000, 4.0), (3_600_000, 5.0)])
def test_reports_come_in_an_interval_within_bounds(timeout_ms: int, seconds: float) -> None:
    """At most one comes per second, at least one every five seconds; a body that says nothing new reports nothing."""

    async def code(ctx: Context) -> None:
        async def body() -> None:
            for _ in range(30):
                ctx.heartbeat()
                await pass_s(0.5)

        _, _, reports = await attempt(body, heartbeat_timeout_ms=timeout_ms)
        times = [at for at, _ in reports]
        assert times == pytest.approx([seconds * number for number in range(len(times))], abs=0.1)
        assert len(times) >= 3

    played(code)


def test_a_silent_body_fails_the_attempt_and_is_cancelled() -> None:
    """The time counts from the start, and again from each heartbeat; the error says what to do."""

    async def code(ctx: Context) -> None:
        loop, ended = asyncio.get_running_loop(), list[float]()

        async def body() -> None:
            try:
                for number in range(3):
                    ctx.heartbeat({"page": number})
                    await pass_s(20)
                await pass_s(1_000)
            finally:
                ended.append(loop.time())

        start = loop.time()
        result, call, _ = await attempt(body, heartbeat_timeout_ms=30_000)
        assert ended == pytest.approx([start + 70], abs=0.1)
        assert error_of(result) == (
            "heartbeat-timeout",
            "the body sent no heartbeat for 30 s; call ctx.heartbeat() more often, or raise heartbeat_timeout= of "
            "step.options",
        )
        assert result.retry_ms is not None
        assert bytes(call.progress) == b'{"page":2}'

        async def silent_body() -> None:
            await pass_s(1_000)

        silent, _, _ = await attempt(silent_body, heartbeat_timeout_ms=30_000)
        assert error_of(silent)[0] == "heartbeat-timeout"

    played(code)


def test_the_time_limit_of_an_attempt_holds_despite_heartbeats() -> None:
    """Both limits may be given; a TimeoutError of the body is its own."""

    async def code(ctx: Context) -> None:
        async def body() -> None:
            while True:
                ctx.heartbeat()
                await pass_s(1)

        result, _, _ = await attempt(body, timeout_ms=10_000, heartbeat_timeout_ms=5_000)
        assert error_of(result)[0] == "step-timeout"

        async def broken() -> None:
            raise TimeoutError("the service did not answer")

        result, _, _ = await attempt(broken, timeout_ms=10_000, heartbeat_timeout_ms=5_000)
        assert error_of(result) == ("", "the service did not answer")

    played(code)


def test_the_next_attempt_continues_from_the_progress() -> None:
    """Code has it before the first heartbeat of the attempt, and a heartbeat without a value leaves it."""

    async def code(ctx: Context) -> None:
        async def body() -> list[Any]:
            found = [ctx.progress]
            ctx.heartbeat()
            found.append(ctx.progress)
            ctx.heartbeat([1, 2])
            return [*found, ctx.progress]

        result, _, _ = await attempt(body, progress=Raw(b'{"page":7}'))
        assert result.outcome == Value(Raw(b'[{"page":7},{"page":7},[1,2]]'))

    played(code)


async def test_a_body_without_heartbeats_has_no_progress() -> None:
    """In a thread too."""
    ctx = await context()
    result, _, reports = await attempt(lambda: ctx.progress)
    assert (result.outcome, reports) == (Value(NULL), [])


@pytest.mark.parametrize("progress", ["x" * PROGRESS_BYTES_MAX, {1, 2}, float("nan")])
def test_progress_that_is_too_large_or_no_json_fails_the_step(progress: Any) -> None:
    """The same body would say it again, so it is not retried."""

    async def code(ctx: Context) -> None:
        async def body() -> None:
            ctx.heartbeat(progress)

        result, call, _ = await attempt(body)
        code, message = error_of(result)
        assert code == ("too-large" if isinstance(progress, str) else "not-json")
        assert "progress of a heartbeat" in message
        assert result.is_final
        assert call.progress == NULL

    played(code)


async def test_a_heartbeat_outside_of_a_body_is_refused() -> None:
    """The code between steps runs again in each replay; only a body has progress."""
    ctx = await context()
    with pytest.raises(StepUsageError, match="heartbeat was used outside of the body of a step"):
        ctx.heartbeat(1)
    with pytest.raises(StepUsageError, match="progress was used outside of the body of a step"):
        _ = ctx.progress


async def test_a_body_that_sends_no_heartbeat_makes_no_object_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a body does not use costs it nothing; threads of a body that uses them share one object."""
    ctx, made = await context(), list[Heartbeats]()

    def make(*options: Any) -> Heartbeats:
        made.append(Heartbeats(*options))
        return made[-1]

    async def beats() -> None:
        ctx.heartbeat(1)
        await asyncio.gather(*(asyncio.to_thread(ctx.heartbeat, number) for number in range(5)))

    monkeypatch.setattr("stepstream.sdk.execution.Heartbeats", make)
    await attempt(lambda: None)
    assert made == []
    await attempt(beats)
    await attempt(lambda: None, heartbeat_timeout_ms=1_000)
    assert len(made) == 2


class LateThread:
    """A plain body whose thread sends a heartbeat once its attempt is over; `ended` has the error that it got."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._finish = threading.Event()
        self.ended: list[RunInterrupted] = []

    def body(self) -> None:
        """Wait for the end of the attempt, and send a heartbeat."""
        self._finish.wait(5)
        try:
            self._ctx.heartbeat(2)
        except RunInterrupted as error:
            self.ended.append(error)
            raise

    async def finish(self) -> None:
        """Have the thread send its heartbeat; return when it got the error."""
        self._finish.set()
        await until(lambda: self.ended)


async def test_the_first_heartbeat_of_an_attempt_that_is_over_ends_its_thread() -> None:
    """It is not reported, and does not become the progress of the next attempt."""
    late = LateThread(await context())
    result, call, reports = await attempt(late.body, timeout_ms=20)
    assert error_of(result)[0] == "step-timeout"
    await late.finish()
    assert (call.progress, reports) == (NULL, [])


async def test_the_thread_of_an_attempt_that_is_over_ends_at_its_heartbeat() -> None:
    """Python cannot end a thread, and the body would work on beside the next attempt."""
    ctx = await context()
    late = LateThread(ctx)

    def body() -> None:
        ctx.heartbeat(1)
        late.body()

    result, call, reports = await attempt(body, heartbeat_timeout_ms=20)
    assert error_of(result)[0] == "heartbeat-timeout"
    await late.finish()
    assert "this attempt of the step is over" in str(late.ended[0])
    assert (bytes(call.progress), [said for _, said in reports]) == (b"1", [b"1"])
