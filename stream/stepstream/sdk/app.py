"""The app: a set of functions; it also sends events and signals from outside of functions."""

import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, overload

from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import Trigger
from stepstream.contract.limits import CHAIN_RUNS_MAX, CHAIN_RUNS_SETTABLE_MAX, DEFAULT_LIMITS, RETRIES_DEFAULT
from stepstream.contract.receipts import SignalReceipt
from stepstream.contract.text.durations import Duration, duration_ms
from stepstream.contract.text.names import check_workers_name, workers_name
from stepstream.sdk.batches import Batch
from stepstream.sdk.cancellation import CancelOn, Timeouts
from stepstream.sdk.context import Context, ThreadedContext
from stepstream.sdk.errors import ChainLimitError, DefinitionError
from stepstream.sdk.event import Event, to_record
from stepstream.sdk.execution import CodeStart, start_replay
from stepstream.sdk.flow_control import Concurrency, Throttle
from stepstream.sdk.function import Backoff, Function, FunctionOptions, retry_policy
from stepstream.sdk.named_limits import AppLimits, Limit
from stepstream.sdk.refusals import Debounce, Idempotency, RateLimit, Singleton
from stepstream.sdk.replay.replay import Replay
from stepstream.sdk.replay.tasks import current_scope
from stepstream.sdk.source import Format, Mapped, Source
from stepstream.sdk.values import annotation_of, to_json

T = TypeVar("T")
AsyncHandler = Callable[[Context], Coroutine[Any, Any, T]]
PlainHandler = Callable[[ThreadedContext], T]
_FAILURE_SUFFIX = "-on-failure"


class Sender(Protocol):
    """A connection that carries events and signals to the engine."""

    async def send(self, events: Sequence[EventRecord], chain: int = 0) -> list[str]:
        """Send events, all or none; return their ids once they are durable. `chain` counts the runs before them."""

    async def signal(self, name: str, data: Any) -> bool:
        """Send a signal; return whether a run was waiting for it."""

    async def signal_with_start(self, name: str, data: Any, function: str, start: Any, chain: int = 0) -> SignalReceipt:
        """Send a signal to the run that waits for it, or start a function with it; `chain` runs precede it."""


class _Decorator(Protocol):
    @overload
    def __call__(self, handler: AsyncHandler[T], /) -> Function[T]: ...
    @overload
    def __call__(self, handler: PlainHandler[T], /) -> Function[T]: ...


class App:
    """A named set of durable functions. A worker serves one app.

    Args:
        name: Letters, digits, `.`, `_` and `-`; it becomes part of a topic name.
        lookback: How long the engine retains events for `wait_for_event(lookback=)`, at most 366 days; 0 retains none.
        queues: The names that `step.options(queue=)` accepts. Each queue has dedicated workers:
            `stepstream worker FILE --queue NAME`.
        chain_max: How many runs may start one another in a chain, by `send_event`, `invoke`, `send` and
            `signal_with_start`, 1 to 1,000,000. In the last one these raise an error with the code `chain-limit`, which
            ends loops such as a function that sends its own trigger.
        limits: Named limits of `step.options(limit=)`, so that operators can change them before a step uses them.

    Iterating yields the functions, `len` counts them, and `get` finds one. Raises `DefinitionError`.

    Example:
        ```python
        app = App("shop", lookback="1h", queues=["gpu"])


        @app.function(on("shop/order.created"))
        async def fulfil(ctx: Context) -> str:
            return await ctx.step.run("charge", charge, ctx.event.data)
        ```
    """

    def __init__(
        self,
        name: str,
        *,
        lookback: Duration = 0,
        queues: Sequence[str] = (),
        chain_max: int = CHAIN_RUNS_MAX,
        limits: Sequence[Limit] = (),
    ) -> None:
        _check_name(f"App({name!r})", name)
        self.name = name
        self.lookback_ms = duration_ms(lookback)
        if self.lookback_ms > DEFAULT_LIMITS.wait_ms_max:
            raise DefinitionError(f"App({name!r}, lookback={lookback!r}): retain events for at most 366 days")
        self.queues = _checked_queues(name, queues)
        if not 1 <= chain_max <= CHAIN_RUNS_SETTABLE_MAX:
            raise DefinitionError(f"App({name!r}, chain_max={chain_max!r}): use 1 to {CHAIN_RUNS_SETTABLE_MAX:,}")
        self.chain_max = chain_max
        self.sources: list[Source] = []
        self._functions: dict[str, Function[Any]] = {}
        self._limits = AppLimits(limits)
        self._sender: Sender | None = None

    def __iter__(self) -> Iterator[Function[Any]]:
        return iter(self._functions.values())

    def __len__(self) -> int:
        return len(self._functions)

    def __bool__(self) -> bool:
        return True  # An app without functions is an app, too.

    def get(self, function_id: str) -> Function[Any] | None:
        """Return the function with this id, or None."""
        return self._functions.get(function_id)

    def start_code(self, function_id: str, start: CodeStart) -> Replay:
        """Start the code of a function; a worker calls this."""
        return start_replay(self._functions[function_id], start)

    def function(
        self,
        *triggers: Trigger,
        id: str = "",
        retries: int = RETRIES_DEFAULT,
        backoff: Backoff | None = None,
        on_failure: AsyncHandler[Any] | PlainHandler[Any] | None = None,
        attributes: Mapping[str, str] | None = None,
        cancel_on: Sequence[CancelOn] = (),
        timeouts: Timeouts | None = None,
        input: Any = None,
        concurrency: Concurrency | Sequence[Concurrency] = (),
        throttle: Throttle | None = None,
        rate_limit: RateLimit | None = None,
        debounce: Debounce | None = None,
        singleton: Singleton | None = None,
        idempotency: str | Idempotency = "",
        limits: Sequence[Limit] = (),
        priority: str = "",
        batch: Batch | None = None,
        ai_budget: int = 0,
    ) -> _Decorator:
        """Make the handler a durable function; it takes a `Context`, or a `ThreadedContext` if it is plain `def`.

        Args:
            triggers: Up to ten of `on(…)` and `cron(…)`. A function without triggers starts only by `step.invoke`.
            id: The id, to which open runs refer. By default the name of the handler with dashes for underscores.
            retries: How many attempts may follow the first, 0 to 20, of each step and of the code between steps.
            backoff: The delays of retries: a duration, a list whose last one repeats, or a function of the attempt.
            on_failure: A handler that runs as the function `ID-on-failure` when a run fails; its event has the error.
            attributes: What people find runs by: CEL expressions on `event` by name; see also `ctx.set_attributes`.
            cancel_on: Up to five events that cancel an open run: `[CancelOn("withdrawn", match="data.order_id")]`.
            timeouts: How long a run may take to start and to finish; one that takes longer is cancelled.
            input: The pydantic model or dataclass of the data of its events, of which the page makes a checked form.
            concurrency: How many bodies may run at a time, or runs be open or executing: one limit or a list of two.
            throttle: How many runs may start in a period; more runs are queued.
            rate_limit: How many runs are accepted in a period; more runs are skipped.
            debounce: A run starts once no other event came for a period, with the last event, or with all of them.
            singleton: One open run: another one is skipped, replaces it or waits.
            idempotency: A CEL expression on `event`: one run for each of its values in 24 hours; more are skipped.
            priority: A CEL expression on `event`: by how many seconds a run is moved forward where it is queued.
            limits: Up to five that functions share by name: `[Limit("openai", 60, "1m")]`; more runs are queued.
            batch: One run has the events of several: so many, or those that come in a time; the other runs are skipped.
            ai_budget: How many tokens of models a run may use before its next `ctx.step.ai` fails; 0: no budget.
        """
        flow: tuple[Any, ...] = (concurrency, throttle, rate_limit, debounce, singleton, idempotency, limits, priority)
        rest = (cancel_on, timeouts, input, *flow, batch, ai_budget)
        own = (self.lookback_ms, tuple(self.queues), self.chain_max, *rest)
        options = FunctionOptions(_check(triggers), retry_policy(retries, backoff), None, dict(attributes or {}), *own)
        return lambda handler: self._define(handler, id, options, on_failure)

    def _define(
        self,
        handler: Any,
        id: str,
        options: FunctionOptions,
        on_failure: AsyncHandler[Any] | PlainHandler[Any] | None,
    ) -> Function[Any]:
        if not callable(handler):
            raise DefinitionError("write @app.function(…) above a function, with parentheses")
        function_id = id or getattr(handler, "__name__", "").replace("_", "-")
        failure: Function[Any] | None = None
        if on_failure is not None:
            of_failure = FunctionOptions(
                policy=options.policy,
                lookback_ms=options.lookback_ms,
                queues=options.queues,
                chain_max=options.chain_max,
                input=options.input,
                app_limits=self._limits,
                ai_budget=options.ai_budget,
            )
            failure = Function(self.name, function_id + _FAILURE_SUFFIX, on_failure, of_failure)
        chosen = replace(options, on_failure=failure, app_limits=self._limits)
        function: Function[Any] = Function(self.name, function_id, handler, chosen)
        self._limits.add(function.id, function.limits)
        for each in (function, failure):
            if each is not None:
                _check_context(each)
                self._add(each)
        return function

    def _add(self, function: Function[Any]) -> None:
        known = self._functions.get(function.id)
        if known is not None:
            raise DefinitionError(
                f"app {self.name!r} has two functions with the id {function.id!r}: set another id= for one of them"
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
        """Turn the records of an existing topic into events, in the app's workers; see `Source` for the arguments.

        Example:
            ```python
            app.source("orders", name="shop/order.created", id="value.number", if_="value.total > 0")
            ```
        """
        source = Source(topic, name, id, data, ts, if_, format)
        self.sources.append(source)
        return source

    def connect(self, sender: Sender | None) -> None:
        """Send events and signals over `sender` from now on; a runtime calls this."""
        self._sender = sender

    async def send(self, *events: Event) -> list[str]:
        """Send events from outside of functions, all or none; return their ids once they are durable.

        It works in a process that runs the app's functions: `stepstream dev`, `stepstream worker`, or a test with
        `VirtualEngine`. Other processes send with `Client`. In a function use `ctx.step.send_event`:
        it sends exactly once, however often the code runs. Raises `InvalidInput`, with the field, and `TooLarge`, and
        `NonRetriableError` with the code `chain-limit` in the last run of a chain (`App(chain_max=)`).
        """
        chain = self._next_in_chain()
        records = [to_record(event, f"events[{index}]") for index, event in enumerate(events)]
        return await self._connected().send(records, chain)

    async def signal(self, name: str, data: Any = None) -> bool:
        """Send a signal with any JSON value, model or dataclass; return whether a run was waiting for it."""
        return await self._connected().signal(name, to_json(data))

    async def signal_with_start(
        self, name: str, data: Any = None, *, function: Function[Any] | str, start: Any = None
    ) -> SignalReceipt:
        """Send a signal to the run that waits for it, or start a function whose first wait for the signal receives it.

        Args:
            name: The name of the signal.
            data: Any JSON value, model or dataclass.
            function: What is started: a function, or its id if it belongs to another app.
            start: The data of the event of the started run: a JSON object, a model or a dataclass.

        Exactly one of both happens. While a run that the signal has started is open, it gets all signals that are sent
        by this method, in order, one for each of its waits; no second run is started. Returns the id of the run that
        has the signal, and whether it was started. Raises `StepstreamError` with the code `conflict` if the function
        is not registered, or more than 100 signals wait for the run, and `NonRetriableError` as `send` does.
        """
        chain = self._next_in_chain()
        function_id = function.id if isinstance(function, Function) else function
        return await self._connected().signal_with_start(name, to_json(data), function_id, to_json(start), chain)

    def _next_in_chain(self) -> int:
        """Return how many runs precede one that is started here and now; raise ChainLimitError for too many."""
        scope = current_scope.get()
        chain = scope.chain + 1 if scope else 0
        if chain >= self.chain_max:
            raise ChainLimitError(self.name, self.chain_max)
        return chain

    def _connected(self) -> Sender:
        if self._sender is None:
            raise DefinitionError(
                f"app {self.name!r} is not connected to an engine: run it with `stepstream dev` or "
                "`stepstream worker`, or, from another process, send with `stepstream.Client`"
            )
        return self._sender


def _check_context(function: Function[Any]) -> None:
    """Raise DefinitionError for a handler that declares another kind of context than it is called with."""
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


def _check(triggers: tuple[Trigger, ...]) -> tuple[Trigger, ...]:
    if len(triggers) == 1 and inspect.isfunction(triggers[0]):
        raise DefinitionError("write @app.function() with parentheses")
    return triggers


def _checked_queues(app: str, queues: Sequence[str]) -> tuple[str, ...]:
    given = [queues] if isinstance(queues, str) else list(queues)
    for queue in given:
        place = f"App({app!r}, queues=…): {queue!r}"
        # A dot separates the app from its queue in the names of workers.
        if not queue or not queue.replace("-", "").replace("_", "").isalnum() or not queue.isascii():
            raise DefinitionError(f"{place}: use letters a to z and A to Z, digits, '-' and '_'")
        _check_name(place, workers_name(app, queue))
    return tuple(dict.fromkeys(given))
