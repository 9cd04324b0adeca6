"""The app: a set of functions, and the way to send events and signals to them."""

import inspect
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol, TypeVar, overload

from stepstream.contract.durations import Duration, duration_ms
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import Trigger
from stepstream.contract.limits import DEFAULT_LIMITS
from stepstream.contract.names import check_workers_name, workers_name
from stepstream.sdk.context import Context, ThreadedContext
from stepstream.sdk.errors import DefinitionError
from stepstream.sdk.event import Event, to_record
from stepstream.sdk.function import RETRIES_DEFAULT, Backoff, Function, retry_policy
from stepstream.sdk.source import Format, Mapped, Source
from stepstream.sdk.values import annotation_of

T = TypeVar("T")
AsyncHandler = Callable[[Context], Coroutine[Any, Any, T]]
PlainHandler = Callable[[ThreadedContext], T]
_FAILURE_SUFFIX = "-on-failure"


class Sender(Protocol):
    """What carries events and signals to the engine."""

    async def send(self, events: Sequence[EventRecord]) -> list[str]:
        """Send events, all or none; return their ids once they are durable."""

    async def signal(self, name: str, data: Any) -> bool:
        """Send a signal; return whether a run waited for it."""


class _Decorator(Protocol):
    @overload
    def __call__(self, handler: AsyncHandler[T], /) -> Function[T]: ...
    @overload
    def __call__(self, handler: PlainHandler[T], /) -> Function[T]: ...


class App:
    """A named set of durable functions; a worker serves one app.

    `lookback` is how long the engine keeps events, so that `wait_for_event(lookback=)` may see earlier ones. `queues`
    are the names that `step.options(queue=)` may have, each with workers of its own: `stepstream worker --queue NAME`.
    """

    def __init__(self, name: str, *, lookback: Duration = 0, queues: Sequence[str] = ()) -> None:
        _check_name(f"App({name!r})", name)
        self.name = name
        self.lookback_ms = duration_ms(lookback)
        if self.lookback_ms > DEFAULT_LIMITS.wait_ms_max:
            raise DefinitionError(f"App({name!r}, lookback={lookback!r}): events are kept for at most 366 days")
        self.queues = _checked_queues(name, queues)
        self.sources: list[Source] = []
        self._functions: dict[str, Function[Any]] = {}
        self._sender: Sender | None = None

    def __iter__(self) -> Iterator[Function[Any]]:
        return iter(self._functions.values())

    def __len__(self) -> int:
        return len(self._functions)

    def get(self, function_id: str) -> Function[Any] | None:
        """Return a function by its id."""
        return self._functions.get(function_id)

    def function(
        self,
        *triggers: Trigger,
        id: str = "",
        retries: int = RETRIES_DEFAULT,
        backoff: Backoff | None = None,
        on_failure: AsyncHandler[Any] | PlainHandler[Any] | None = None,
    ) -> _Decorator:
        """Make a durable function that starts by any of `triggers`; without one it can only be invoked.

        `id` is the name with dashes when it is not given. `retries` (0 to 20) and `backoff` hold for each step and for
        the code between steps. `on_failure` is called with the event `stream/function.failed`, whose data has the
        original `event` and the `error`, as a run of its own.
        """

        def decorate(handler: Any) -> Any:
            if not callable(handler):
                raise DefinitionError("write @app.function(…) above a function, with brackets")
            function_id = id or getattr(handler, "__name__", "").replace("_", "-")
            policy = retry_policy(retries, backoff)
            handler_of_failure: Function[Any] | None = None
            if on_failure is not None:
                handler_of_failure = Function(
                    self.name,
                    on_failure,
                    (),
                    id=function_id + _FAILURE_SUFFIX,
                    policy=policy,
                    lookback_ms=self.lookback_ms,
                    queues=self.queues,
                )
            function: Function[Any] = Function(
                self.name,
                handler,
                triggers,
                id=function_id,
                policy=policy,
                on_failure=handler_of_failure,
                lookback_ms=self.lookback_ms,
                queues=self.queues,
            )
            for each in (function, handler_of_failure):
                if each is not None:
                    _check_context(each)
                    self._add(each)
            return function

        if len(triggers) == 1 and inspect.isfunction(triggers[0]):
            raise DefinitionError("write @app.function() with brackets")
        return decorate

    def _add(self, function: Function[Any]) -> None:
        known = self._functions.get(function.id)
        if known is not None:
            raise DefinitionError(
                f"function id {function.id!r} stands twice in app {self.name!r}: give one of them another by id="
            )
        self._functions[function.id] = function

    def source(
        self,
        topic: str,
        *,
        name: str = "",
        id: Mapped = "",
        data: Mapped = "",
        ts: Mapped = "",
        if_: Mapped = "",
        format: Format = "json",
    ) -> Source:
        """Have the app's workers turn the records of an existing topic into events; see Source for what each means."""
        source = Source(topic, name, id, data, ts, if_, format)
        self.sources.append(source)
        return source

    def connect(self, sender: Sender | None) -> None:
        """Have events and signals go by `sender`; a runtime calls this."""
        self._sender = sender

    async def send(self, *events: Event) -> list[str]:
        """Send events from outside of functions, all or none; return their ids.

        In a function use ctx.step.send_event, which sends once however often the code runs.
        """
        return await self._connected().send([to_record(event) for event in events])

    async def signal(self, name: str, data: Any = None) -> bool:
        """Send a signal; return whether a run waited for it."""
        return await self._connected().signal(name, data)

    def _connected(self) -> Sender:
        if self._sender is None:
            raise DefinitionError(
                f"app {self.name!r} is connected to no engine: run it by `stepstream dev`, or, from another process, "
                "send over HTTP: POST /e/{key}"
            )
        return self._sender


def _check_context(function: Function[Any]) -> None:
    """Raise DefinitionError for a handler that declares the other kind of context than it is called with."""
    declared = _declared_context(function.handler)
    if function.is_async and declared is ThreadedContext:
        raise DefinitionError(
            f"function {function.id!r} is async and declares a ThreadedContext, whose steps block: "
            "declare ctx: Context and await the steps, or write def instead of async def"
        )
    if not function.is_async and declared is Context:
        raise DefinitionError(
            f"function {function.id!r} is not async and declares a Context, whose steps must be awaited: "
            "declare ctx: ThreadedContext, or write async def"
        )


def _declared_context(handler: Callable[..., Any]) -> Any:
    """Return the resolved annotation of the first parameter, None when there is none or it cannot be resolved."""
    try:
        first = next(iter(inspect.signature(handler).parameters), "")
        return annotation_of(handler, first)
    except Exception:  # noqa: BLE001 - an annotation may hold any expression
        return None


def _check_name(place: str, name: str) -> None:
    try:
        check_workers_name(name)
    except InvalidInput as error:
        raise DefinitionError(f"{place}: {error}") from None


def _checked_queues(app: str, queues: Sequence[str]) -> tuple[str, ...]:
    given = [queues] if isinstance(queues, str) else list(queues)
    for queue in given:
        place = f"App({app!r}, queues=…): {queue!r}"
        # A dot parts the app from its queue.
        if not queue or not queue.replace("-", "").replace("_", "").isalnum() or not queue.isascii():
            raise DefinitionError(f"{place}: letters a to z and A to Z, digits, '-' and '_' are wanted")
        _check_name(place, workers_name(app, queue))
    return tuple(dict.fromkeys(given))
