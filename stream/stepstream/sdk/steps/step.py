"""The steps as functions call them."""

import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, overload

from stepstream.contract.codec import EMPTY_OBJECT, dump_json, has_lone_surrogate, type_name
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import INVOKED, EventRecord, check_batch
from stepstream.contract.limits import INVOKE_TIMEOUT_MS
from stepstream.contract.plans import InvokePlan, SendPlan
from stepstream.contract.text.durations import Duration
from stepstream.sdk.cancellation import OnParentEnd, ends_with_parent
from stepstream.sdk.channels import Channel, plain_message
from stepstream.sdk.errors import StepUsageError
from stepstream.sdk.event import Event, to_record
from stepstream.sdk.function import Backoff, Function, changed_policy, name_of
from stepstream.sdk.named_limits import Limit, checked_estimate
from stepstream.sdk.publishing import Outlet, message_data
from stepstream.sdk.replay.calls import INVOKE, SEND, Call
from stepstream.sdk.steps.bodies import StepBody, body_step, check_body
from stepstream.sdk.steps.model_steps import ModelSteps
from stepstream.sdk.steps.several_waits import SeveralWaits
from stepstream.sdk.steps.step_call import StepCall, plain_value
from stepstream.sdk.values import PLAIN_JSON, return_type, to_json

T = TypeVar("T")
P = ParamSpec("P")


class Step(SeveralWaits):
    """`ctx.step`: each method is one durable step. Its result is stored, and every replay returns it again.

    The first argument of every method is the step's id, a string of 1 to 1,024 characters that stays the same across
    deployments. Each further use of an id in the same run is a separate step.

    Every method returns an awaitable; nothing happens until it is awaited. The call raises `InvalidInput` for an
    argument that is out of bounds, and `StepUsageError` for a use that cannot work, such as a step inside the body of
    another. `StepLimitError` ends a run with more than 1,000 steps.
    """

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
    ) -> "Step":
        """Return the same steps with other options for `run`; an option that is not given stays unchanged.

        Args:
            retries: How many attempts may follow the first one, 0 to 20.
            backoff: The delay before each retry: one duration, a list whose last one repeats, or a function of the
                attempt (from 0).
            timeout: How long one attempt may take. After that, an async body is cancelled; a plain one continues in its
                thread, which it occupies until it returns, and its result is ignored. The last attempt fails with the
                code `step-timeout`.
            heartbeat_timeout: How long a body may take from its start to its first `ctx.heartbeat`, and from one to the
                next. After that, the attempt ends as with `timeout`, with the code `heartbeat-timeout`.
            queue: A name from `App(queues=)`: workers of that queue run the body. `""` selects the app's own workers.
            limit: A named limit, or up to five: each attempt waits for them before its body runs. `[]` removes them.
                One with a period limits how many bodies start, one without how many run.
            units: How many units a body may use of limits that count them: a number, or a CEL expression on `event`,
                1 if that fails. Give it together with `limit`; `ctx.settle` corrects it.

        Raises `DefinitionError` for numbers out of bounds and for limits that do not go together, `StepUsageError` for
        a queue that the app does not have.

        Example:
            ```python
            patient = ctx.step.options(retries=10, backoff="30s", timeout="5s")
            receipt = await patient.run("charge", charge, order)
            ```
        """
        if queue and queue not in self._options.queues:
            known = ", ".join(map(repr, self._options.queues)) or "none"
            raise StepUsageError(
                f"options(queue={queue!r}): the queues of the app are {known}; write App(…, queues=[{queue!r}])"
            )
        policy = changed_policy(self._options.policy, retries, backoff, timeout, heartbeat_timeout)
        options = replace(self._options, policy=policy, queue=self._options.queue if queue is None else queue)
        if limit is not None or units != "":
            rules = self._options.app_limits.of_step(() if limit is None else limit)
            options = replace(options, limits=rules, units=checked_estimate(rules, units))
        return Step(self._replay, self._limits, options)

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
        check_body("run", id, fn)
        body, arguments = (
            functools.partial(fn, *args, **kwargs),
            {"callable": name_of(fn), "args": args, "kwargs": kwargs},
        )
        return body_step(self._replay, self._options, StepBody(id, body, return_type(fn), arguments))

    @property
    def ai(self) -> ModelSteps:
        """The steps that ask language models, with the options of these steps."""
        return ModelSteps(self._replay, self._options)

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
    def publish(self, id: str, channel: Channel[T], data: T) -> StepCall[None]: ...
    @overload
    def publish(self, id: str, channel: str, data: Any, *, shared: bool = False) -> StepCall[None]: ...
    def publish(self, id: str, channel: str | Channel[Any], data: Any, *, shared: bool = False) -> StepCall[None]:
        """Publish a message as a step, which a replay does not repeat; for the arguments see `Context.publish`.

        Example:
            ```python
            await ctx.step.publish("announce", "orders", {"order": order_id, "status": "paid"}, shared=True)
            ```
        """
        name, data, shared = plain_message(channel, data, shared=shared)
        message_data(name, data)
        return self.run(id, Outlet(self._replay).publish_in_body, name, data, shared)

    @overload
    def invoke(
        self,
        id: str,
        *,
        function: Function[T],
        data: Any = None,
        timeout: Duration = ...,
        on_parent_end: OnParentEnd = "continue",
    ) -> StepCall[T]: ...
    @overload
    def invoke(
        self,
        id: str,
        *,
        function: str,
        data: Any = None,
        timeout: Duration = ...,
        on_parent_end: OnParentEnd = "continue",
    ) -> StepCall[Any]: ...
    def invoke(
        self,
        id: str,
        *,
        function: Function[Any] | str,
        data: Any = None,
        timeout: Duration = timedelta(milliseconds=INVOKE_TIMEOUT_MS),
        on_parent_end: OnParentEnd = "continue",
    ) -> StepCall[Any]:
        """Start a run of another function, wait for its end, and return its output.

        Args:
            function: The function, or its id if it belongs to another app. The output has the type that the function
                declares, or is plain JSON if only the id is given.
            data: The data of the run's event: a JSON object, a pydantic model or a dataclass.
            timeout: At most 366 days, 365 by default.
            on_parent_end: What happens to the other run if it is open when this one ends, for example because this one
                is cancelled: it continues, or with `"cancel"` it is cancelled.

        Raises `StepError` with the code `invoked-run-failed`, `run-cancelled`, `function-not-found`, or
        `invoke-timeout`, after which the other run continues. A failure of the other run is not retried here.

        Example:
            ```python
            tax = await ctx.step.invoke("tax", function=compute_tax, data={"net": net}, timeout="1h")
            ```
        """
        timeout_ms = self._bounded(id, timeout)
        cancel = ends_with_parent(on_parent_end)
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
                plan=lambda call: InvokePlan(
                    step, id, name, timeout_ms, payload, call.group, cancel_with_parent=cancel
                ),
            ),
            plain_value,
            {"function": name, "data": data, "timeout_ms": timeout_ms},
        )


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
