"""The steps as functions call them."""

import functools
import inspect
import itertools
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from datetime import timedelta
from typing import Any, Generic, Literal, NoReturn, ParamSpec, TypeVar, overload

from stepstream.contract.codec import EMPTY_OBJECT, Raw, dump_json
from stepstream.contract.durations import Duration, Moment, duration_ms, moment_ms
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import INVOKED, EventRecord, check_batch, check_event_name, decode_stored_event
from stepstream.contract.ids import StepHash
from stepstream.contract.inbox import InvokePlan, RunPlan, SendPlan, SignalPlan, SleepPlan, WaitPlan
from stepstream.contract.kinds import StepKind
from stepstream.contract.limits import INVOKE_TIMEOUT_MS, SIGNAL_NAME_CHARACTERS_MAX, Limits
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value
from stepstream.expressions.errors import ExpressionError
from stepstream.sdk.calls import INVOKE, RUN, SEND, SIGNAL, SLEEP, WAIT, Call
from stepstream.sdk.deferred import check, check_path
from stepstream.sdk.errors import StepError, StepUsageError
from stepstream.sdk.event import Event, from_record, to_record
from stepstream.sdk.function import Backoff, Function, RetryPolicy, name_of, retry_policy
from stepstream.sdk.replay import Replay
from stepstream.sdk.values import PLAIN_JSON, load_value, return_type, to_json

T = TypeVar("T")
P = ParamSpec("P")
_tokens = itertools.count()


class StepCall(Coroutine[Any, Any, T], Generic[T]):
    """A step that was called: await it, or hand it to gather, a TaskGroup or ctx.group."""

    is_step = True

    def __init__(
        self,
        replay: Replay,
        step_id: str,
        call_of: Callable[[StepHash], Call],
        value_of: Callable[[Call, Outcome], T],
        group: str = "",
    ) -> None:
        self._replay = replay
        self._step_id = step_id
        self._call_of = call_of
        self._value_of = value_of
        self.group = group
        self._code: Coroutine[Any, Any, T] | None = None
        # No address: that of a call that nobody keeps is another's before long.
        self._token = next(_tokens)
        replay.created(self._token, step_id)

    async def _run(self) -> T:
        call = self._replay.discover(self._token, self._call_of, self._step_id, self.group)
        return self._value_of(call, await self._replay.result(call))

    def _started(self) -> Coroutine[Any, Any, T]:
        if self._code is None:
            self._code = self._run()
        elif inspect.getcoroutinestate(self._code) == inspect.CORO_CLOSED:
            self._refuse_again()
        return self._code

    def _refuse_again(self) -> NoReturn:
        raise StepUsageError(
            f"step {self._step_id!r} is awaited twice; keep its result in a variable, or call the step once more"
        )

    def send(self, value: Any) -> Any:
        """Go on, as coroutines do."""
        return self._started().send(value)

    def throw(self, *args: Any) -> Any:
        """Raise inside, as coroutines do: a task that is cancelled before its turn has not forgotten this."""
        if self._code is None:
            self._replay.dismissed(self._token)
        return self._started().throw(*args)

    def close(self) -> None:
        """End it, as coroutines do; one that was not begun will not be missed."""
        if self._code is not None:
            self._code.close()
        else:
            self._replay.dismissed(self._token)

    def __await__(self) -> Generator[Any, Any, T]:
        if self._code is not None:
            self._refuse_again()
        return self._started().__await__()

    @property
    def cr_await(self) -> Any:
        """What this waits for, as of coroutines."""
        return self._code

    @property
    def cr_code(self) -> Any:
        """The code behind this, as of coroutines."""
        return StepCall._run.__code__


def _plain_value(call: Call, outcome: Outcome) -> Any:
    match outcome:
        case Value(data):
            return _loaded(call, data)
        case Failure(error):
            raise StepError(call.id, error)
        case TimedOut():
            return None


def _loaded(call: Call, data: Raw) -> Any:
    try:
        return load_value(data, call.returns)
    except InvalidInput as error:
        message = (
            f"the kept result does not fit the type that the step declares now: {error}; "
            "let the type accept earlier results, or give the step another id"
        )
        raise StepError(call.id, ErrorInfo("ResultTypeError", message, "", "result-type")) from None


def _event_value(call: Call, outcome: Outcome) -> Event | None:
    if isinstance(outcome, Value):
        return from_record(decode_stored_event(outcome.data))
    _plain_value(call, outcome)
    return None


class Step:
    """`ctx.step`: each method is one durable step; the first argument is its id, stable across deployments.

    Every method returns an awaitable; all raise StepUsageError for ids out of bounds and steps inside steps, and
    StepLimitError for one step too many.
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
        """Return the same steps under another policy: retries 0 to 20, back-off, seconds an attempt may take.

        With `queue`, one of App(queues=), the bodies of `run` are left to the workers of that queue; "" leaves them
        to those of the app.
        """
        if queue and queue not in self._queues:
            known = ", ".join(map(repr, self._queues)) or "none"
            raise StepUsageError(f"options(queue={queue!r}): the app has {known}; write App(…, queues=[{queue!r}])")
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
        """Run `fn(*args, **kwargs)` once and keep its result; a plain `def` runs in a thread.

        The result is JSON, or a pydantic model or dataclass when `fn` says its return type. Raises StepError when its
        attempts are used up.
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

        return StepCall(self._replay, id, call_of, _plain_value)

    def sleep(self, id: str, duration: Duration) -> StepCall[None]:
        """Sleep for "24h", "2h45m", a timedelta or a number of seconds, at most 366 days; holds no resources."""
        length_ms = self._bounded(id, duration)
        now = self._replay.now_ms
        return self._planned(id, SLEEP, lambda call: SleepPlan(call.step, id, now() + length_ms, call.group))

    def sleep_until(self, id: str, moment: Moment) -> StepCall[None]:
        """Sleep until a datetime, ISO text or Unix milliseconds; a time in the past goes on at once."""
        until = moment_ms(moment)
        if until - self._replay.now_ms() > self._limits.wait_ms_max:
            raise InvalidInput(
                f"{moment!r} is more than {self._limits.wait_ms_max // 86_400_000} days away", f"step {id!r}"
            )
        return self._planned(id, SLEEP, lambda call: SleepPlan(call.step, id, until, call.group))

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
        """Wait for an event that comes after this; returns None when `timeout` is over first.

        `match="data.user_id"` wants the same value at that path in the run's own event and in the other; `if_` is a CEL
        expression on `event` (the run's own) and `async` (the other). At most one of the two. `lookback` also sees
        events that came so long before, as far back as App(lookback=) keeps them.
        """
        timeout_ms = self._bounded(id, timeout)
        check_event_name(event, own=True)
        if event.endswith(("/*", ".*")):
            raise InvalidInput(f"{event!r}: a wait is for one name; '*' is for the triggers of a function", "event")
        _check_predicate(id, match, if_)
        lookback_ms = duration_ms(lookback)
        if lookback_ms > self._lookback_ms_max:
            remedy = f"write App(…, lookback={lookback!r})"
            raise StepUsageError(f"step {id!r}: lookback={lookback!r} is longer than events are kept; {remedy}")
        return StepCall(
            self._replay,
            id,
            lambda step: Call(
                step,
                id,
                WAIT,
                plan=lambda call: WaitPlan(step, id, event, timeout_ms, match, if_, lookback_ms, call.group),
            ),
            _event_value,
        )

    def wait_for_signal(
        self, id: str, *, signal: str, timeout: Duration, on_conflict: Literal["fail", "replace"] = "fail"
    ) -> StepCall[Any]:
        """Wait for a signal by its name; returns its data, or None when `timeout` is over first.

        One run waits for a name at a time: `on_conflict` says whether this one fails or takes over. Raises StepError
        with the code `signal-conflict` or `signal-replaced`.
        """
        timeout_ms = self._bounded(id, timeout)
        if not 0 < len(signal) <= SIGNAL_NAME_CHARACTERS_MAX:
            raise InvalidInput(f"1 to {SIGNAL_NAME_CHARACTERS_MAX} characters are wanted", "signal")
        if on_conflict not in ("fail", "replace"):
            raise InvalidInput(f'{on_conflict!r} is neither "fail" nor "replace"', "on_conflict")
        replace = on_conflict == "replace"
        return self._planned(
            id, SIGNAL, lambda call: SignalPlan(call.step, id, signal, timeout_ms, replace, call.group)
        )

    def send_event(self, id: str, events: Event | Sequence[Event]) -> StepCall[list[str]]:
        """Send events, all or none, once; returns their ids."""
        batch = list(events) if isinstance(events, Iterable) else [events]
        if not batch:
            raise InvalidInput("at least one event is wanted", f"step {id!r}")
        records = tuple(to_record(event) for event in batch)
        check_batch(records, self._limits)
        return self._planned(id, SEND, lambda call: SendPlan(call.step, id, records, call.group))

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
        """Run another function with `data` as its event's data and return its result.

        Raises StepError: `invoked-run-failed`, `run-cancelled`, `function-not-found`, or `invoke-timeout`, after which
        the other run goes on.
        """
        timeout_ms = self._bounded(id, timeout)
        payload = EMPTY_OBJECT if data is None else dump_json(to_json(data), f"data of step {id!r}")
        if not bytes(payload).startswith(b"{"):
            raise InvalidInput(f"data= is an object, not a {type(data).__name__}", f"step {id!r}")
        check_batch([EventRecord(INVOKED, payload)], self._limits)
        name = function if isinstance(function, str) else function.id
        returns = PLAIN_JSON if isinstance(function, str) else return_type(function.handler)
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
            _plain_value,
        )

    def _planned(self, id: str, kind: StepKind, plan: Callable[[Call], Any]) -> StepCall[Any]:
        return StepCall(self._replay, id, lambda step: Call(step, id, kind, plan=plan), _plain_value)

    def _bounded(self, id: str, duration: Duration) -> int:
        length_ms = duration_ms(duration)
        if length_ms > self._limits.wait_ms_max:
            days = self._limits.wait_ms_max // 86_400_000
            raise InvalidInput(f"{duration!r} is longer than {days} days, the most a run may wait", f"step {id!r}")
        return length_ms


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
