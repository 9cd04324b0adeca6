"""Runs users' code, a function or the body of a step, and decides what its end means."""

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Protocol

from stepstream.contract.codec import Raw
from stepstream.contract.errors import InvalidInput, NotJson, NotPublished
from stepstream.contract.events import EventRecord
from stepstream.contract.limits import BODIES_STARTED_PER_ITERATION_MAX, Limits
from stepstream.contract.logs import LogKey
from stepstream.contract.model_usage import ModelUsage
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, Value
from stepstream.sdk.context import make_context, make_threaded_context
from stepstream.sdk.errors import (
    RetryAfterError,
    StepTimeoutError,
    StepUsageError,
    error_info,
    is_final,
    raw_error,
    stack_of,
)
from stepstream.sdk.event import from_record
from stepstream.sdk.function import Function, RetryPolicy
from stepstream.sdk.heartbeats import Heartbeats
from stepstream.sdk.replay.calls import Call, Runner
from stepstream.sdk.replay.messages import Execution, Publisher
from stepstream.sdk.replay.pacing import PacedCalls
from stepstream.sdk.replay.replay import Replay, Snapshot
from stepstream.sdk.replay.tasks import Body, InThread, current_body, sleep_in_real_time
from stepstream.sdk.spending import Spending
from stepstream.sdk.step_logs import Catch, current_catch
from stepstream.sdk.steps.step import Step
from stepstream.sdk.steps.step_call import StepCall
from stepstream.sdk.steps.waits import StepOptions
from stepstream.sdk.threads.threads import Threads
from stepstream.sdk.values import dump_value

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepResult:
    """How an attempt of a body ended; with `retry_ms`, another attempt follows after that many milliseconds.

    It has `used` so many units of the limits of its step, if it says so; `usage` is what it used of a model.
    """

    outcome: Outcome
    retry_ms: int | None = None
    used: int | None = None
    usage: ModelUsage | None = None

    @property
    def is_final(self) -> bool:
        """Return whether this is the result of the step: no other attempt follows."""
        return self.retry_ms is None

    @property
    def size(self) -> int:
        """Return the bytes of the value."""
        return len(bytes(self.outcome.data)) if isinstance(self.outcome, Value) else 0


Stub = Callable[..., Any]


@dataclass(slots=True)
class Bodies:
    """Runs the bodies of steps; `stubs` by (function id, step id) take the place of the user's callables.

    `starts` limits how many of them start in one iteration of the event loop. `retry_every` takes the place of every
    back-off, also of the code between steps. `publisher` takes what the code of runs publishes. `sleep` is how a body
    takes time when it simulates work.
    """

    stubs: Mapping[tuple[str, str], Stub] = field(default_factory=dict)
    before: Callable[[str, Call], None] | None = None
    threads: Threads = field(default_factory=Threads)
    starts: PacedCalls = field(default_factory=lambda: PacedCalls(BODIES_STARTED_PER_ITERATION_MAX))
    retry_every: timedelta | None = None
    publisher: Publisher | None = None
    sleep: Callable[[object, int], Awaitable[None]] = sleep_in_real_time

    def policy(self, given: RetryPolicy) -> RetryPolicy:
        """Return a policy with the back-off of this process, if it has one."""
        return given if self.retry_every is None else replace(given, backoff=self.retry_every)

    async def run(
        self, function: str, call: Call, limits: Limits, now_ms: Callable[[], int], report: Callable[[Raw], object]
    ) -> StepResult:
        """Run one attempt of a body and return its result.

        `now_ms` is the engine's clock, `report` reports the progress of the body while it runs.
        """
        if self.before is not None:
            self.before(function, call)
        call.policy = self.policy(call.policy)
        loop, timeout_ms = asyncio.get_running_loop(), call.policy.heartbeat_timeout_ms
        make_heartbeats = functools.partial(Heartbeats, call.progress, timeout_ms, report, loop)
        running = Body(call.id, make_heartbeats, call.step, call.attempt, self.sleep)
        token = current_body.set(running)
        try:
            result = await self._attempt(function, call, limits, now_ms, running)
            if running.execution is not None:
                result = await _published(running.execution, result, call, now_ms())
        finally:
            current_body.reset(token)
            if heartbeats := running.end():
                call.progress = heartbeats.progress
        if running.used is None and running.usage is None:
            return result
        return replace(result, used=running.used, usage=running.usage)

    async def _attempt(
        self, function: str, call: Call, limits: Limits, now_ms: Callable[[], int], running: Body
    ) -> StepResult:
        body, name = self.stubs.get((function, call.id)) or call.body, f"{call.id} of {function}"
        try:
            value = await self._value(body, call.policy, name, running) if body else None
            raw = dump_value(value, call.returns, f"result of step {call.id!r}")
        except NotJson as error:
            return StepResult(Failure(error_info(error)))
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever the user's code raises is its result
            return judge(error, call, now_ms())
        if len(bytes(raw)) > limits.step_output_bytes_max:
            return StepResult(Failure(output_too_large(len(bytes(raw)), limits.step_output_bytes_max)))
        return StepResult(Value(raw))

    async def _value(self, body: Callable[[], Any], policy: RetryPolicy, name: str, running: Body) -> Any:
        work = self._limited(body, policy.timeout_ms, name)
        return await (running.heartbeats.watch(work) if policy.heartbeat_timeout_ms else work)

    async def _limited(self, body: Callable[[], Any], timeout_ms: int, name: str) -> Any:
        if not timeout_ms:
            return await _call(body, self.threads, name)
        limit = asyncio.timeout(timeout_ms / 1_000)
        try:
            async with limit:
                return await _call(body, self.threads, name)
        except TimeoutError as error:
            if not limit.expired():
                raise  # It is the body's own.
            raise StepTimeoutError(timeout_ms) from error


async def _call(body: Callable[[], Any], threads: Threads, name: str) -> Any:
    target = getattr(body, "func", body)
    if inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(type(target).__call__):
        return await body()
    value = await threads.bodies.run(body, name)
    if isinstance(value, StepCall):
        value.close()
        raise StepUsageError("the body returned a step; a step cannot contain another: call them one after the other")
    return await value if inspect.isawaitable(value) else value


async def _published(execution: Execution, result: StepResult, call: Call, now_ms: int) -> StepResult:
    """Return the result of an attempt once what it has published is durable, so that a crash repeats both."""
    try:
        await execution.written()
    except NotPublished as error:
        return judge(error, call, now_ms) if isinstance(result.outcome, Value) else result
    return result


def output_too_large(size: int, most: int) -> ErrorInfo:
    """Return the error of a step whose result has too many bytes."""
    message = f"the result has {size:,} bytes, at most {most:,} are kept"
    return ErrorInfo("OutputTooLarge", message, "", "output-too-large")


def judge(error: BaseException, call: Call, now_ms: int) -> StepResult:
    """Return the result of an attempt that raised: final, or with another attempt to follow."""
    info = error_info(error, stack_of(error))
    retry_ms = failure_delay(error, call.attempt, call.policy, now_ms)
    return StepResult(Failure(info, raw_error(error)), retry_ms if retry_ms >= 0 else None)


def failure_delay(error: BaseException, attempt: int, policy: RetryPolicy | None, now_ms: int) -> int:
    """Return the milliseconds from the failure of `attempt` to the next attempt, or -1 if none follows."""
    policy = policy or RetryPolicy()
    if is_final(error) or attempt >= policy.retries:
        return -1
    try:
        return error.delay_ms(now_ms) if isinstance(error, RetryAfterError) else policy.delay_ms(attempt)
    except Exception:
        logger.exception("backoff= of the function or step raised; the default back-off is used")
        return RetryPolicy().delay_ms(attempt)


class Logs(Protocol):
    """Where what code logs is kept."""

    def attempt(self, key: LogKey, replay: Replay | None = None) -> Catch:
        """Return what takes the lines of an attempt; with a `replay`, of the code between steps."""


@dataclass(frozen=True, slots=True)
class CodeStart:
    """From what the code of a run starts, and with what it runs; what it does goes to the `runner`."""

    snapshot: Snapshot
    events: Sequence[EventRecord]
    attempt: int
    runner: Runner
    limits: Limits
    bodies: Bodies
    now_ms: Callable[[], int]
    logs: Logs | None = None


def start_replay(function: Function[Any], start: CodeStart) -> Replay:
    """Start the code of a function, with the results in its snapshot."""
    snapshot, bodies, logs = start.snapshot, start.bodies, start.logs
    replay = Replay(
        snapshot,
        start.runner,
        start.limits,
        now_ms=start.now_ms,
        threaded=not function.is_async,
        starts=bodies.starts,
    )
    replay.publisher = bodies.publisher
    token = current_catch.set(logs.attempt(LogKey(snapshot.run_id, "", start.attempt), replay) if logs else None)
    try:
        start_code(replay, function, start.events, start.attempt, start.limits, bodies.threads)
    finally:
        current_catch.reset(token)
    return replay


def start_code(
    replay: Replay,
    function: Function[Any],
    events: Sequence[EventRecord],
    attempt: int,
    limits: Limits,
    threads: Threads,
) -> None:
    """Start the code of a function."""
    handler = function.handler
    try:
        given = [from_record(event) for event in events]
    except InvalidInput as error:
        # Only this run must fail, not the worker, which has many others.
        replay.start(_unreadable(error), handler)
        return
    limited = any(rule.steps for rule in function.gates)
    app_limits = function.app_limits
    options = StepOptions(
        function.policy,
        function.lookback_ms,
        function.queues,
        limited=limited,
        app_limits=app_limits,
        spending=Spending(function.id, function.ai_budget),
    )
    step = Step(replay, limits, options)
    if function.is_async:
        context = make_context(replay, step, function.id, given, attempt)
        replay.start(lambda: function.call_async(context), handler)
    else:
        threaded = make_threaded_context(replay, step, function.id, given, attempt)
        replay.start(lambda: _run_in_thread(replay, threads, handler, threaded), handler)


async def _run_in_thread(replay: Replay, threads: Threads, handler: Callable[..., Any], context: Any) -> Any:
    with InThread(replay.activity):
        return await threads.run_function(handler, context)


def _unreadable(error: InvalidInput) -> Callable[[], Any]:
    async def fail() -> None:
        raise error

    return fail
