"""The steps as functions call them."""

import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, ParamSpec, TypeVar, overload

from stepstream.contract.codec import EMPTY_OBJECT, dump_json, has_lone_surrogate, type_name
from stepstream.contract.durations import Duration, Moment, duration_ms, moment_ms
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import INVOKED, EventRecord, check_batch, check_event_name
from stepstream.contract.ids import StepHash
from stepstream.contract.inbox import InvokePlan, RunPlan, SendPlan, SignalPlan, SleepPlan, WaitPlan
from stepstream.contract.kinds import StepKind
from stepstream.contract.limits import INVOKE_TIMEOUT_MS, Limits
from stepstream.contract.names import check_signal_name
from stepstream.expressions.errors import ExpressionError
from stepstream.sdk.calls import INVOKE, RUN, SEND, SIGNAL, SLEEP, WAIT, Call
from stepstream.sdk.deferred import check, check_path
from stepstream.sdk.errors import StepUsageError
from stepstream.sdk.event import Event, to_record
from stepstream.sdk.function import Backoff, Function, RetryPolicy, name_of, retry_policy
from stepstream.sdk.replay import Replay
from stepstream.sdk.step_call import StepCall, event_value, plain_value
from stepstream.sdk.values import PLAIN_JSON, return_type, to_json

T = TypeVar("T")
P = ParamSpec("P")

# A smaller number is a time before March 1973 in Unix milliseconds, and one before the year 5139 in Unix seconds.
_UNIX_MS_PLAUSIBLE_MIN = 100_000_000_000


class Step:
    """`ctx.step`: each method is one durable step. Its result is stored, and every replay returns it again.

    The first argument of every method is the step's id, a string of 1 to 1,024 characters that stays the same across
    deployments. Each further use of an id in the same run is a separate step.

    Every method returns an awaitable; nothing happens until it is awaited. The call raises `InvalidInput` for an
    argument that is out of bounds, and `StepUsageError` for a use that cannot work, such as a step inside the body of
    another. `StepLimitError` ends a run with more than 1,000 steps.
    """

    def __init__(
        self,
        replay: Replay,
        policy: RetryPolicy,
        limits: Limits,
        lookback_ms_max: int = 0,
        queues: Sequence[str] = (),
        queue: str = "",
    ) -> None:
        self._replay = replay
        self._policy = policy
        self._limits = limits
        self._lookback_ms_max = lookback_ms_max
        self._queues = queues
        self._queue = queue

    def options(
        self,
        *,
        retries: int | None = None,
        backoff: Backoff | None = None,
        timeout: Duration | None = None,
        queue: str | None = None,
    ) -> "Step":
        """Return the same steps with other options for `run`; an option that is not given stays unchanged.

        Args:
            retries: How many attempts may follow the first one, 0 to 20.
            backoff: The delay before each retry: one duration, a list whose last one repeats, or a function of the
                attempt (from 0).
            timeout: How long one attempt may take. After that, an async body is cancelled; a plain one continues in its
                thread, which it occupies until it returns, and its result is ignored. The last attempt fails with the
                code `step-timeout`.
            queue: A name from `App(queues=)`: workers of that queue run the body. `""` selects the app's own workers.

        Raises `DefinitionError` for numbers out of bounds, `StepUsageError` for a queue that the app does not have.

        Example:
            ```python
            patient = ctx.step.options(retries=10, backoff="30s", timeout="5s")
            receipt = await patient.run("charge", charge, order)
            ```
        """
        if queue and queue not in self._queues:
            known = ", ".join(map(repr, self._queues)) or "none"
            raise StepUsageError(
                f"options(queue={queue!r}): the queues of the app are {known}; write App(…, queues=[{queue!r}])"
            )
        policy = retry_policy(
            self._policy.retries if retries is None else retries,
            self._policy.backoff if backoff is None else backoff,
            self._policy.timeout_ms / 1_000 or None if timeout is None else timeout,
        )
        chosen = self._queue if queue is None else queue
        return Step(self._replay, policy, self._limits, self._lookback_ms_max, self._queues, chosen)

    @overload
    def run(
        self, id: str, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> StepCall[T]: ...
    @overload
    def run(self, id: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> StepCall[T]: ...
    def run(self, id: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> StepCall[Any]:
        """Run `fn(*args, **kwargs)`, with retries until it succeeds, and store its result.

        The body runs at least once: it runs again if its process dies before the result is durable. One result is
        stored, and every replay returns it. A plain `def` runs in a thread, an `async def` in the event loop.

        The result is plain JSON, or has the return type that `fn` declares: a pydantic model, a dataclass, or any other
        type that pydantic can convert. It has at most 4 MiB. A replay loses changes that the body makes to its
        arguments, so return what the code needs.

        Raises `StepError` when the attempts are used up, or at once for an error that a retry cannot fix.

        Example:
            ```python
            receipt = await ctx.step.run("charge", charge, order, currency="EUR")
            ```
        """
        if callable(id):
            raise StepUsageError(f"the first argument of run is the step's id: run('{name_of(id)}', {name_of(id)}, …)")
        if not callable(fn):
            raise StepUsageError(
                f"step {id!r}: the second argument is the callable itself, not its result: run(id, f, x)"
            )
        returns, policy, queue = return_type(fn), self._policy, self._queue
        body = functools.partial(fn, *args, **kwargs)

        def call_of(step: StepHash) -> Call:
            plan = (lambda call: RunPlan(step, id, queue, call.group)) if queue else None
            return Call(step, id, RUN, body=body, returns=returns, policy=policy, plan=plan)

        return StepCall(
            self._replay, id, call_of, plain_value, {"callable": name_of(fn), "args": args, "kwargs": kwargs}
        )

    def sleep(self, id: str, duration: Duration) -> StepCall[None]:
        """Sleep for a duration: `"24h"`, `"2h45m"`, a `timedelta` or a number of seconds, at most 366 days.

        A sleeping run needs no thread and no worker. The sleep starts when the code first reaches it.
        """
        length_ms = self._bounded(id, duration)
        now = self._replay.now_ms
        return self._planned(
            id, SLEEP, lambda call: SleepPlan(call.step, id, now() + length_ms, call.group), duration_ms=length_ms
        )

    def sleep_until(self, id: str, moment: Moment) -> StepCall[None]:
        """Sleep until a point in time, at most 366 days away; one in the past returns immediately.

        `moment` is a `datetime`, an ISO 8601 string, or Unix milliseconds as an `int`. Without a time zone it is in
        UTC, not in the local time of the worker. An `int` that can only be Unix seconds is refused.
        """
        until, now_ms = moment_ms(moment), self._replay.now_ms()
        if isinstance(moment, int) and 0 < moment < _UNIX_MS_PLAUSIBLE_MIN <= now_ms:
            day = datetime.fromtimestamp(moment / 1_000, UTC).date()
            remedy = "multiply Unix seconds by 1,000, or give a datetime"
            raise InvalidInput(f"{moment} is {day} in Unix milliseconds; {remedy}", f"step {id!r}")
        if until - now_ms > self._limits.wait_ms_max:
            raise InvalidInput(
                f"{moment!r} is more than {self._limits.wait_ms_max // 86_400_000} days away", f"step {id!r}"
            )
        return self._planned(id, SLEEP, lambda call: SleepPlan(call.step, id, until, call.group), until_ms=until)

    def wait_for_event(
        self,
        id: str,
        *,
        event: str,
        timeout: Duration,
        match: str = "",
        if_: str = "",
        lookback: Duration = 0,
    ) -> StepCall[Event | None]:
        """Wait for the first event that matches and comes after this call; return None if `timeout` passes first.

        Args:
            event: The name of the event.
            timeout: At most 366 days.
            match: A path, for example `"data.order_id"`, that must have the same value in the event that started the
                run and in the awaited event. A path that is missing or null in either never matches.
            if_: Instead of `match`, a CEL expression on `event` (which started the run) and `async` (the awaited
                event). As in `on(…, if_=)`, null equals null, and a missing field is an error, so the event does
                not match. Without `match` and `if_` every event with the name matches.
            lookback: Also consider events that arrived up to this long before the wait, within `App(lookback=)`.

        The event that started the run never matches. An event wakes every run that it matches. Raises `StepError`
        with the code `invalid-expression` or `expression-limit` if the condition cannot be evaluated with the event
        that started the run.

        Example:
            ```python
            paid = await ctx.step.wait_for_event("paid", event="order.paid", match="data.order_id", timeout="7d")
            ```
        """
        timeout_ms = self._bounded(id, timeout)
        check_event_name(event, own=True)
        if event.endswith(("/*", ".*")):
            raise InvalidInput(f"{event!r}: wait_for_event takes one event name; only triggers take wildcards", "event")
        _check_predicate(id, match, if_)
        lookback_ms = self._lookback_ms(id, lookback)
        return StepCall(
            self._replay,
            id,
            lambda step: Call(
                step,
                id,
                WAIT,
                plan=lambda call: WaitPlan(step, id, event, timeout_ms, match, if_, lookback_ms, call.group),
            ),
            event_value,
            {"event": event, "timeout_ms": timeout_ms, "match": match, "if_": if_, "lookback_ms": lookback_ms},
        )

    def wait_for_signal(
        self, id: str, *, signal: str, timeout: Duration, on_conflict: Literal["fail", "replace"] = "fail"
    ) -> StepCall[Any]:
        """Wait for a signal by its name; return its data, or None if `timeout` passes first.

        Args:
            signal: The name, a string of 1 to 1,024 characters. Only one run at a time can wait for a name.
            timeout: At most 366 days.
            on_conflict: If another run waits for the name, `"fail"` raises `StepError` with the code
                `signal-conflict` here, and `"replace"` raises one with `signal-replaced` there.

        A signal that no run waits for is discarded.

        Example:
            ```python
            answer = await ctx.step.wait_for_signal("approval", signal=f"approved/{order_id}", timeout="14d")
            ```
        """
        timeout_ms = self._bounded(id, timeout)
        check_signal_name(signal)
        if on_conflict not in ("fail", "replace"):
            raise InvalidInput(f'{on_conflict!r} is neither "fail" nor "replace"', "on_conflict")
        replace = on_conflict == "replace"
        return self._planned(
            id,
            SIGNAL,
            lambda call: SignalPlan(call.step, id, signal, timeout_ms, replace, call.group),
            signal=signal,
            timeout_ms=timeout_ms,
            on_conflict=on_conflict,
        )

    def send_event(self, id: str, events: Event | Sequence[Event]) -> StepCall[list[str]]:
        """Send one event or several, all or none, exactly once; return their ids.

        Sends at most 5,000 events of 512 KiB each. An event without an id gets one that is the same in every replay.

        Example:
            ```python
            await ctx.step.send_event("notify", [Event("invoice.due", {"customer": name}) for name in customers])
            ```
        """
        given: Any = events
        several = isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping)
        batch = list(given) if several else [given]
        if not batch:
            raise InvalidInput("give at least one event", f"step {id!r}")
        records = tuple(
            to_record(event, f"step {id!r}: events[{index}]" if several else f"step {id!r}: events")
            for index, event in enumerate(batch)
        )
        check_batch(records, self._limits)
        return self._planned(id, SEND, lambda call: SendPlan(call.step, id, records, call.group), events=batch)

    @overload
    def invoke(self, id: str, *, function: Function[T], data: Any = None, timeout: Duration = ...) -> StepCall[T]: ...
    @overload
    def invoke(self, id: str, *, function: str, data: Any = None, timeout: Duration = ...) -> StepCall[Any]: ...
    def invoke(
        self,
        id: str,
        *,
        function: Function[Any] | str,
        data: Any = None,
        timeout: Duration = timedelta(milliseconds=INVOKE_TIMEOUT_MS),
    ) -> StepCall[Any]:
        """Start a run of another function, wait for its end, and return its output.

        Args:
            function: The function, or its id if it belongs to another app. The output has the type that the function
                declares, or is plain JSON if only the id is given.
            data: The data of the run's event: a JSON object, a pydantic model or a dataclass.
            timeout: At most 366 days, 365 by default.

        Raises `StepError` with the code `invoked-run-failed`, `run-cancelled`, `function-not-found`, or
        `invoke-timeout`, after which the other run continues. A failure of the other run is not retried here.

        Example:
            ```python
            tax = await ctx.step.invoke("tax", function=compute_tax, data={"net": net}, timeout="1h")
            ```
        """
        timeout_ms = self._bounded(id, timeout)
        payload = EMPTY_OBJECT if data is None else dump_json(to_json(data), f"data of step {id!r}")
        if not bytes(payload).startswith(b"{"):
            raise InvalidInput(f"data= must be a JSON object, not a value of type {type_name(data)}", f"step {id!r}")
        check_batch([EventRecord(INVOKED, payload)], self._limits)
        name = _function_id(id, function)
        returns = return_type(function.handler) if isinstance(function, Function) else PLAIN_JSON
        return StepCall(
            self._replay,
            id,
            lambda step: Call(
                step,
                id,
                INVOKE,
                returns=returns,
                plan=lambda call: InvokePlan(step, id, name, timeout_ms, payload, call.group),
            ),
            plain_value,
            {"function": name, "data": data, "timeout_ms": timeout_ms},
        )

    def _planned(self, id: str, kind: StepKind, plan: Callable[[Call], Any], **arguments: Any) -> StepCall[Any]:
        return StepCall(self._replay, id, lambda step: Call(step, id, kind, plan=plan), plain_value, arguments)

    def _lookback_ms(self, id: str, lookback: Duration) -> int:
        lookback_ms = duration_ms(lookback)
        if lookback_ms > self._lookback_ms_max:
            remedy = f"write App(…, lookback={lookback!r})"
            raise StepUsageError(f"step {id!r}: the app retains events for less than lookback={lookback!r}; {remedy}")
        return lookback_ms

    def _bounded(self, id: str, duration: Duration) -> int:
        length_ms = duration_ms(duration)
        if length_ms > self._limits.wait_ms_max:
            days = self._limits.wait_ms_max // 86_400_000
            raise InvalidInput(f"{duration!r} is longer than {days} days, the longest wait", f"step {id!r}")
        return length_ms


def _function_id(id: str, function: object) -> str:
    if isinstance(function, Function):
        return function.id
    if isinstance(function, str):
        if has_lone_surrogate(function):
            raise InvalidInput("the string contains a lone surrogate", "function")
        return function
    found = name_of(function) if callable(function) else repr(function)
    raise StepUsageError(
        f"step {id!r}: function= must be a function with the decorator @app.function, or its id, not {found}; "
        "decorate it, or call it with step.run"
    )


def _check_predicate(id: str, match: str, if_: str) -> None:
    if match and if_:
        raise InvalidInput("give match= or if_=, not both", f"step {id!r}")
    try:
        if match:
            check_path(match)
        if if_:
            check(if_, frozenset({"event", "async"}))
    except ExpressionError as error:
        raise StepUsageError(f"step {id!r}: {error}") from None
