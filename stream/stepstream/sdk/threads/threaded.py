"""The steps for plain `def` functions: the same, but each call blocks its thread until it has the result."""

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Literal, ParamSpec, TypeVar, overload

from stepstream.contract.text.durations import Duration, Moment
from stepstream.sdk.cancellation import OnParentEnd
from stepstream.sdk.channels import Channel
from stepstream.sdk.errors import RunInterrupted, StepUsageError
from stepstream.sdk.event import Event
from stepstream.sdk.function import Backoff, Function
from stepstream.sdk.inference import Inference
from stepstream.sdk.named_limits import Limit
from stepstream.sdk.replay.replay import Replay
from stepstream.sdk.replay.tasks import InThread, ThreadBlocked
from stepstream.sdk.steps.approvals import Approval
from stepstream.sdk.steps.model_steps import ModelSteps
from stepstream.sdk.steps.parallel import Group
from stepstream.sdk.steps.requests import ThreadedRequest
from stepstream.sdk.steps.several_waits import Wait
from stepstream.sdk.steps.step import Step
from stepstream.sdk.steps.step_call import StepCall
from stepstream.sdk.threads.in_thread import in_thread

T = TypeVar("T")
N = TypeVar("N", bound=str)
P = ParamSpec("P")

BRANCHES_MAX = 64


class Line:
    """A thread that runs code of a plain function: that of the function itself, or that of a branch of `ctx.group`."""

    def __init__(self, replay: Replay, loop: asyncio.AbstractEventLoop) -> None:
        self._replay = replay
        self._loop = loop
        self._waits_for: Future[Any] | None = None
        self._stopped = False

    def branch(self) -> "Line":
        """Return a line for a branch of the same run."""
        return Line(self._replay, self._loop)

    def wait_for(self, code: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop, and block this thread until it has ended."""
        if self._stopped:
            code.close()
            raise RunInterrupted
        self._waits_for = future = asyncio.run_coroutine_threadsafe(self._block(code), self._loop)
        if self._stopped:  # The event loop stopped this line before it could see the future.
            future.cancel()
        try:
            return future.result()
        except CancelledError:
            # That of concurrent.futures is an ordinary exception, which the code might catch.
            raise RunInterrupted from None

    def call_in_loop(self, function: Callable[[], object]) -> None:
        """Call a function in the event loop, before what this thread asks of it next."""
        self._loop.call_soon_threadsafe(function)

    async def _block(self, code: Coroutine[Any, Any, T]) -> T:
        with ThreadBlocked(self._replay.activity):
            return await code

    def stop(self) -> None:
        """Interrupt the thread at the step where it waits, or at the next one."""
        self._stopped = True
        if self._waits_for is not None:
            self._waits_for.cancel()


_branch_line: contextvars.ContextVar[Line | None] = contextvars.ContextVar("stepstream_branch", default=None)


class ThreadedStep:
    """`ctx.step` of a plain `def` function; see Step for what each method means."""

    def __init__(self, step: Step, line: Line) -> None:
        self._step = step
        self._line = line

    def _result(self, call: StepCall[T]) -> T:
        if stored := call.take_stored():
            return stored[0]
        return (_branch_line.get() or self._line).wait_for(call)

    def call_in_loop(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a function in the event loop, before the next step of this thread starts."""
        self._line.call_in_loop(functools.partial(function, *args, **kwargs))

    def options(
        self,
        *,
        retries: int | None = None,
        backoff: Backoff | None = None,
        timeout: Duration | None = None,
        heartbeat_timeout: Duration | None = None,
        queue: str | None = None,
        limit: Limit | Sequence[Limit] | None = None,
        units: int | str = "",
    ) -> "ThreadedStep":
        """Return the same steps under another policy, in another queue, or with other limits."""
        step = self._step.options(
            retries=retries,
            backoff=backoff,
            timeout=timeout,
            heartbeat_timeout=heartbeat_timeout,
            queue=queue,
            limit=limit,
            units=units,
        )
        return ThreadedStep(step, self._line)

    @overload
    def run(self, id: str, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def run(self, id: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def run(self, id: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a callable once and keep its result."""
        return self._result(self._step.run(id, fn, *args, **kwargs))

    @property
    def ai(self) -> "ThreadedModelSteps":
        """The steps that ask language models."""
        return ThreadedModelSteps(self._step.ai, self._result)

    def sleep(self, id: str, duration: Duration) -> None:
        """Sleep; see Step.sleep."""
        self._result(self._step.sleep(id, duration))

    def sleep_until(self, id: str, moment: Moment) -> None:
        """Sleep until a point in time."""
        self._result(self._step.sleep_until(id, moment))

    def wait_for_event(
        self, id: str, *, event: str, timeout: Duration, match: str = "", if_: str = "", lookback: Duration = 0
    ) -> Event | None:
        """Wait for an event, or return None."""
        return self._result(
            self._step.wait_for_event(id, event=event, timeout=timeout, match=match, if_=if_, lookback=lookback)
        )

    def wait_for_any(self, id: str, waits: Mapping[N, Wait], *, timeout: Duration) -> tuple[N, Event] | None:
        """Wait for the first of several events; return its name with the event, or None."""
        return self._result(self._step.wait_for_any(id, waits, timeout=timeout))

    def wait_for_all(self, id: str, waits: Mapping[N, Wait], *, timeout: Duration) -> dict[N, Event] | None:
        """Wait for all of several events; return them by name, or None."""
        return self._result(self._step.wait_for_all(id, waits, timeout=timeout))

    def wait_for_signal(
        self, id: str, *, signal: str, timeout: Duration, on_conflict: Literal["fail", "replace"] = "fail"
    ) -> Any:
        """Wait for a signal's data, or return None."""
        return self._result(self._step.wait_for_signal(id, signal=signal, timeout=timeout, on_conflict=on_conflict))

    @overload
    def wait_for_approval(
        self, id: str, *, title: str, timeout: Duration, description: str = "", to: Sequence[str] = ()
    ) -> Approval[None] | None: ...
    @overload
    def wait_for_approval(
        self, id: str, *, title: str, timeout: Duration, form: type[T], description: str = "", to: Sequence[str] = ()
    ) -> Approval[T] | None: ...
    def wait_for_approval(self, id: str, **request: Any) -> Any:
        """Wait for the decision of a person, or return None."""
        return self._result(self._step.wait_for_approval(id, **request))

    @overload
    def wait_for_request(self, id: str, *, timeout: Duration) -> ThreadedRequest[Any] | None: ...
    @overload
    def wait_for_request(self, id: str, *, timeout: Duration, schema: type[T]) -> ThreadedRequest[T] | None: ...
    def wait_for_request(self, id: str, **accepted: Any) -> Any:
        """Wait for a request, or return None."""
        request = self._result(self._step.wait_for_request(id, **accepted))
        return request and ThreadedRequest(request, self._result)

    def send_event(self, id: str, events: Event | Sequence[Event]) -> list[str]:
        """Send events; returns their ids."""
        return self._result(self._step.send_event(id, events))

    @overload
    def publish(self, id: str, channel: Channel[T], data: T) -> None: ...
    @overload
    def publish(self, id: str, channel: str, data: Any, *, shared: bool = False) -> None: ...
    def publish(self, id: str, channel: Any, data: Any, *, shared: bool = False) -> None:
        """Publish a message as a step."""
        self._result(self._step.publish(id, channel, data, shared=shared))

    @overload
    def invoke(
        self,
        id: str,
        *,
        function: Function[T],
        data: Any = None,
        timeout: Duration = "365d",
        on_parent_end: OnParentEnd = "continue",
    ) -> T: ...
    @overload
    def invoke(
        self,
        id: str,
        *,
        function: str,
        data: Any = None,
        timeout: Duration = "365d",
        on_parent_end: OnParentEnd = "continue",
    ) -> Any: ...
    def invoke(
        self,
        id: str,
        *,
        function: Function[Any] | str,
        data: Any = None,
        timeout: Duration = "365d",
        on_parent_end: OnParentEnd = "continue",
    ) -> Any:
        """Run another function and return its result."""
        name: Any = function
        call = self._step.invoke(id, function=name, data=data, timeout=timeout, on_parent_end=on_parent_end)
        return self._result(call)


class ThreadedModelSteps:
    """`ctx.step.ai` of a plain `def` function; see ModelSteps for what each method means."""

    def __init__(self, steps: ModelSteps, result: Callable[[StepCall[Any]], Any]) -> None:
        self._steps = steps
        self._result = result

    @overload
    def infer(
        self, id: str, *, model: Any, output_type: type[T], stream: str | Channel[str] = "", **question: Any
    ) -> Inference[T]: ...
    @overload
    def infer(self, id: str, *, model: Any, stream: str | Channel[str] = "", **question: Any) -> Inference[str]: ...
    def infer(self, id: str, **question: Any) -> Any:
        """Ask a model once, and store its answer."""
        return self._result(self._steps.infer(id, **question))

    @overload
    def wrap(self, id: str, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def wrap(self, id: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def wrap(self, id: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a client of a model as a step whose input is stored too."""
        first, second, captured = self._steps.wrap_calls(id, fn, args, kwargs)
        try:
            captured.append(self._result(first))
        except BaseException:
            second.close()
            raise
        return self._result(second)


class ThreadedGroup:
    """`ctx.group` of a plain `def` function: callables that run in parallel, each in a separate thread.

    One thread executes at a time, until it waits for a step, so that every replay takes the same path. Threads must not
    wait for each other in any other way. A value that is not callable counts as a result.
    """

    def __init__(self, replay: Replay, line: Line) -> None:
        self._replay = replay
        self._line = line

    def parallel(self, *branches: Callable[[], T]) -> list[T]:
        """Call all branches at once; return their results in order. The first error is raised, and stops the others."""
        results: list[T] = self._run(lambda group, codes: group.parallel(*codes), branches)
        return results

    def race(self, *branches: Callable[[], T]) -> T:
        """Return the result of the first to settle, or raise its error; the others are stopped."""
        result: T = self._run(lambda group, codes: group.race(*codes), branches)
        return result

    def _run(self, start: Callable[[Group, list[Any]], Coroutine[Any, Any, Any]], branches: Sequence[Any]) -> Any:
        if len(branches) > BRANCHES_MAX:
            raise StepUsageError(f"{len(branches)} branches exceed the limit of {BRANCHES_MAX} in one group; split it")
        line = _branch_line.get() or self._line
        pool = ThreadPoolExecutor(max(len(branches), 1), "stepstream-branch")
        try:
            codes = [self._branch(line.branch(), pool, branch) for branch in branches]
            return line.wait_for(start(_ThreadGroup(self._replay), codes))
        finally:
            pool.shutdown(wait=False)

    async def _branch(self, line: Line, pool: ThreadPoolExecutor, branch: Any) -> Any:
        if not callable(branch):
            self._replay.warn(
                "ctx.group was given a result, so its steps ran one after the other; "
                "give it callables: ctx.group.parallel(lambda: ctx.step.run(...), ...)"
            )
            return branch
        await self._replay.next_line()
        _branch_line.set(line)
        with InThread(self._replay.activity):
            running = in_thread(pool, branch)
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                with self._replay.activity.ending():
                    line.stop()
                    await asyncio.gather(running, return_exceptions=True)
                raise


class _ThreadGroup(Group):
    """A group whose branches are threads: it waits until those that it stops have ended."""

    async def _cancel(self, tasks: Sequence["asyncio.Future[T]"]) -> None:
        await super()._cancel(tasks)
        await asyncio.gather(*tasks, return_exceptions=True)
