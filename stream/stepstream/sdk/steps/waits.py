"""The steps that wait: for time, for an event, for a signal, for a request, or for the decision of a person."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, overload

from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import check_event_name
from stepstream.contract.gates import GateRule
from stepstream.contract.kinds import StepKind
from stepstream.contract.limits import Limits
from stepstream.contract.operators.approvals import approval_signal
from stepstream.contract.operators.run_requests import request_signal
from stepstream.contract.outcomes import Outcome
from stepstream.contract.plans import SignalPlan, SleepPlan, WaitPlan
from stepstream.contract.text.durations import Duration, Moment, duration_ms, moment_ms
from stepstream.contract.text.names import check_signal_name
from stepstream.expressions.errors import ExpressionError
from stepstream.sdk.deferred import check, check_path
from stepstream.sdk.errors import StepUsageError
from stepstream.sdk.event import Event
from stepstream.sdk.function import RetryPolicy
from stepstream.sdk.named_limits import AppLimits
from stepstream.sdk.replay.calls import SIGNAL, SLEEP, WAIT, Call
from stepstream.sdk.replay.replay import Replay
from stepstream.sdk.spending import Spending
from stepstream.sdk.steps.approvals import Approval, approval_request, approval_value
from stepstream.sdk.steps.requests import Request, accepted_request, replies, request_value
from stepstream.sdk.steps.step_call import StepCall, event_value, plain_value

M = TypeVar("M")

# A smaller number is a time before March 1973 in Unix milliseconds, and one before the year 5139 in Unix seconds.
_UNIX_MS_PLAUSIBLE_MIN = 100_000_000_000


@dataclass(frozen=True, slots=True)
class StepOptions:
    """What a function, and `step.options`, say of its steps; the engine starts the bodies of `limited` ones.

    It also starts those with `limits` of their own, which must go together with `app_limits`. They ask for `units`.
    `spending` counts the tokens of the run.
    """

    policy: RetryPolicy
    lookback_ms_max: int = 0
    queues: Sequence[str] = ()
    queue: str = ""
    limited: bool = False
    limits: tuple[GateRule, ...] = ()
    units: str = ""
    app_limits: AppLimits = field(default_factory=AppLimits)
    spending: Spending = field(default_factory=Spending)


class Waits:
    """The waiting steps of `ctx.step`, and what all of its steps share."""

    def __init__(self, replay: Replay, limits: Limits, options: StepOptions) -> None:
        self._replay = replay
        self._limits = limits
        self._options = options

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
        check_awaited(id, event, match, if_)
        lookback_ms = self._lookback_ms(id, lookback)
        return self._planned(
            id,
            WAIT,
            lambda call: WaitPlan(call.step, id, event, timeout_ms, match, if_, lookback_ms, call.group),
            event_value,
            event=event,
            timeout_ms=timeout_ms,
            match=match,
            if_=if_,
            lookback_ms=lookback_ms,
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

    @overload
    def wait_for_approval(
        self, id: str, *, title: str, timeout: Duration, description: str = "", to: Sequence[str] = ()
    ) -> StepCall[Approval[None] | None]: ...
    @overload
    def wait_for_approval(
        self, id: str, *, title: str, timeout: Duration, form: type[M], description: str = "", to: Sequence[str] = ()
    ) -> StepCall[Approval[M] | None]: ...
    def wait_for_approval(
        self,
        id: str,
        *,
        title: str,
        timeout: Duration,
        form: Any = None,
        description: str = "",
        to: Sequence[str] = (),
    ) -> StepCall[Any]:
        """Wait until a person decides; return the decision, or None if `timeout` passes first.

        The page lists what waits for a decision, with two buttons; `stepstream approvals` and the API answer too. The
        first answer counts, and an answer that comes later is refused.

        Args:
            title: What is decided, in at most 200 characters.
            timeout: At most 366 days.
            form: A pydantic model or a dataclass. An approval must have values that fit it, a rejection has none.
            description: What the person should know, in at most 10,000 characters.
            to: Who should decide: up to 50 names, which are shown and not enforced.

        Example:
            ```python
            decision = await ctx.step.wait_for_approval("refund", title=f"Refund order {order_id}?", timeout="3d")
            if decision is None or not decision.approved:
                return "no refund"
            ```
        """
        timeout_ms = self._bounded(id, timeout)
        request, run_id = approval_request(id, title, description, to, form), self._replay.run_id
        return self._planned(
            id,
            SIGNAL,
            lambda call: SignalPlan(
                call.step, id, approval_signal(run_id, call.step), timeout_ms, group=call.group, approval=request
            ),
            approval_value(form),
            title=title,
            description=description,
            to=list(to),
            timeout_ms=timeout_ms,
        )

    @overload
    def wait_for_request(self, id: str, *, timeout: Duration) -> StepCall[Request[Any] | None]: ...
    @overload
    def wait_for_request(self, id: str, *, timeout: Duration, schema: type[M]) -> StepCall[Request[M] | None]: ...
    def wait_for_request(self, id: str, *, timeout: Duration, schema: Any = None) -> StepCall[Any]:
        """Wait for a request from outside, to which the code replies; return None if `timeout` passes first.

        Clients send it by POST /v1/runs/{run_id}/requests/{id}, and wait for the reply. Each is taken once.

        Args:
            id: Also the name of the request, at most 256 characters. In a loop, each wait takes the next request.
            timeout: At most 366 days.
            schema: The type of the data: a pydantic model, a dataclass, or any other type that pydantic converts. Data
                that does not fit its JSON schema is refused, and the step continues to wait.

        Example:
            ```python
            while request := await ctx.step.wait_for_request("change", schema=Change, timeout="1d"):
                total += request.data.amount
                await request.reply({"total": total})
            ```
        """
        timeout_ms = self._bounded(id, timeout)
        accepted, run_id = accepted_request(id, schema), self._replay.run_id
        return self._planned(
            id,
            SIGNAL,
            lambda call: SignalPlan(
                call.step, id, request_signal(run_id, call.step), timeout_ms, group=call.group, request=accepted
            ),
            request_value(schema, replies(self._replay, id, self._options.policy)),
            request=id,
            timeout_ms=timeout_ms,
        )

    def _planned(
        self,
        id: str,
        kind: StepKind,
        plan: Callable[[Call], Any],
        value_of: Callable[[Call, Outcome], Any] = plain_value,
        /,
        **arguments: Any,
    ) -> StepCall[Any]:
        return StepCall(self._replay, id, lambda step: Call(step, id, kind, plan=plan), value_of, arguments)

    def _lookback_ms(self, id: str, lookback: Duration) -> int:
        lookback_ms = duration_ms(lookback)
        if lookback_ms > self._options.lookback_ms_max:
            remedy = f"write App(…, lookback={lookback!r})"
            raise StepUsageError(f"step {id!r}: the app retains events for less than lookback={lookback!r}; {remedy}")
        return lookback_ms

    def _bounded(self, id: str, duration: Duration) -> int:
        length_ms = duration_ms(duration)
        if length_ms > self._limits.wait_ms_max:
            days = self._limits.wait_ms_max // 86_400_000
            raise InvalidInput(f"{duration!r} is longer than {days} days, the longest wait", f"step {id!r}")
        return length_ms


def check_awaited(id: str, event: str, match: str, if_: str) -> None:
    """Raise InvalidInput or StepUsageError unless a step can wait for an event with these arguments."""
    check_event_name(event, own=True)
    if event.endswith(("/*", ".*")):
        raise InvalidInput(f"{event!r}: a wait takes one event name; only triggers take wildcards", "event")
    if match and if_:
        raise InvalidInput("give match= or if_=, not both", f"step {id!r}")
    try:
        if match:
            check_path(match)
        if if_:
            check(if_, frozenset({"event", "async"}))
    except ExpressionError as error:
        raise StepUsageError(f"step {id!r}: {error}") from None
