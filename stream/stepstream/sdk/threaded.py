"""The steps for plain `def` functions: the same, but each call blocks its thread until it has the result."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, overload

from stepstream.contract.durations import Duration, Moment
from stepstream.sdk.event import Event
from stepstream.sdk.function import Backoff, Function
from stepstream.sdk.step import Step
from stepstream.sdk.step_call import StepCall

T = TypeVar("T")
P = ParamSpec("P")


class ThreadedStep:
    """`ctx.step` of a plain `def` function; see Step for what each method means."""

    def __init__(self, step: Step, loop: asyncio.AbstractEventLoop) -> None:
        self._step = step
        self._loop = loop

    def _result(self, call: StepCall[T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def options(
        self,
        *,
        retries: int | None = None,
        backoff: Backoff | None = None,
        timeout: Duration | None = None,
        queue: str | None = None,
    ) -> "ThreadedStep":
        """Return the same steps under another policy, or in another queue."""
        step = self._step.options(retries=retries, backoff=backoff, timeout=timeout, queue=queue)
        return ThreadedStep(step, self._loop)

    @overload
    def run(self, id: str, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def run(self, id: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def run(self, id: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a callable once and keep its result."""
        return self._result(self._step.run(id, fn, *args, **kwargs))

    def sleep(self, id: str, duration: Duration) -> None:
        """Sleep; the thread is given back meanwhile."""
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

    def wait_for_signal(
        self, id: str, *, signal: str, timeout: Duration, on_conflict: Literal["fail", "replace"] = "fail"
    ) -> Any:
        """Wait for a signal's data, or return None."""
        return self._result(self._step.wait_for_signal(id, signal=signal, timeout=timeout, on_conflict=on_conflict))

    def send_event(self, id: str, events: Event | Sequence[Event]) -> list[str]:
        """Send events; returns their ids."""
        return self._result(self._step.send_event(id, events))

    @overload
    def invoke(self, id: str, *, function: Function[T], data: Any = None, timeout: Duration = "365d") -> T: ...
    @overload
    def invoke(self, id: str, *, function: str, data: Any = None, timeout: Duration = "365d") -> Any: ...
    def invoke(self, id: str, *, function: Function[Any] | str, data: Any = None, timeout: Duration = "365d") -> Any:
        """Run another function and return its result."""
        name_or_function: Any = function
        return self._result(self._step.invoke(id, function=name_or_function, data=data, timeout=timeout))
