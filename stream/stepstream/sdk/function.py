"""Functions and their triggers, as users define them and as they are registered with the engine."""

import functools
import hashlib
import inspect
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from stepstream.contract.attributes import check_attribute_name
from stepstream.contract.codec import NULL, Raw
from stepstream.contract.errors import InvalidDuration, InvalidInput
from stepstream.contract.events import check_event_name
from stepstream.contract.functions import CronTrigger, EventTrigger, FunctionRegistered, Trigger
from stepstream.contract.limits import (
    ATTRIBUTES_PER_RUN_MAX,
    CHAIN_RUNS_MAX,
    FUNCTION_ID_CHARACTERS_MAX,
    HOUR_MS,
    INPUT_SCHEMA_BYTES_MAX,
    RETRIES_DEFAULT,
    RETRIES_MAX,
    TRIGGERS_PER_FUNCTION_MAX,
)
from stepstream.contract.text.durations import Duration, duration_ms
from stepstream.expressions.errors import ExpressionError
from stepstream.sdk.batches import EXCLUDED, Batch, batch_rules
from stepstream.sdk.cancellation import CancelOn, Timeouts, cancel_triggers
from stepstream.sdk.deferred import bounded_schema, check
from stepstream.sdk.errors import DefinitionError
from stepstream.sdk.flow_control import Concurrency, Throttle, check_priority, gate_rules
from stepstream.sdk.named_limits import AppLimits, Limit, check_limits, in_order
from stepstream.sdk.refusals import Debounce, Idempotency, RateLimit, Singleton, refusal_rules

T_co = TypeVar("T_co", covariant=True)
Backoff = Duration | Sequence[Duration] | Callable[[int], Duration]

_NAME_OR_WILDCARD = re.compile(r"[^*]+[/.]\*")
_BACKOFF_S = (15, 30, 60, 120, 300, 600, 1_200, 2_400, 3_600, 7_200)
_CRON_JITTER_MS_MIN = 1_000
_JITTER_MS_MAX = 30_000


def on(event: str, *, if_: str = "") -> EventTrigger:
    """Start a function for each event with this name.

    Args:
        event: The name, 1 to 255 characters. `app/*` and `app/user.*` match every name that starts with the part
            before the `*`.
        if_: A CEL expression on `event`, for example `event.data.total > 0`. An event starts the function only if the
            expression is true. An expression that raises an error, for example for a missing field, counts as false.

    An event that matches several triggers of a function starts it once. For an invalid expression, raises
    `DefinitionError` with the line, the column and the reason.
    """
    try:
        check_event_name(event, own=True)
        if "*" in event and not _NAME_OR_WILDCARD.fullmatch(event):
            raise InvalidInput("use '*' only at the end, after '/' or '.', as in app/* or app/user.*")
        if if_:
            check(if_, frozenset({"event"}))
    except (InvalidInput, ExpressionError) as error:
        raise DefinitionError(f"on({event!r}): {error}") from None
    return EventTrigger(event, if_)


def cron(expression: str, *, tz: str = "UTC", jitter: Duration | None = None) -> CronTrigger:
    """Start a function at the times of a cron expression.

    Args:
        expression: Five fields: minute, hour, day of the month, month, day of the week.
        tz: An IANA time zone, for example `Europe/Berlin`.
        jitter: By how much a start may be late, at most an hour; functions of one expression start at different times.

    Raises `DefinitionError`, for example for an expression that never fires.
    """
    try:
        zone = ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        raise DefinitionError(
            f"cron(…, tz={tz!r}): unknown time zone; use an IANA name such as Europe/Berlin"
        ) from None
    try:
        if len(expression.split()) != 5:
            raise DefinitionError(f"cron({expression!r}): use 5 fields: minute hour day month weekday")
        next(CronSim(expression, datetime(2000, 1, 1, tzinfo=zone)))
    except (CronSimError, StopIteration) as error:
        raise DefinitionError(f"cron({expression!r}): {error or 'it never fires'}") from None
    return CronTrigger(expression, tz, _jitter_ms(expression, jitter) if jitter is not None else 0)


def _jitter_ms(expression: str, jitter: Duration) -> int:
    try:
        found = duration_ms(jitter)
    except InvalidInput as error:
        raise DefinitionError(f"cron({expression!r}, jitter={jitter!r}): {error.reason}") from None
    if not _CRON_JITTER_MS_MIN <= found <= HOUR_MS:
        raise DefinitionError(f"cron({expression!r}, jitter={jitter!r}): use a duration from 1 second to 1 hour")
    return found


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The retries of a step or of the code between steps, the back-off, and the time limits of an attempt (0: none).

    An attempt takes `timeout_ms` at most, and `heartbeat_timeout_ms` from one heartbeat to the next.
    """

    retries: int = RETRIES_DEFAULT
    backoff: Backoff | None = None
    timeout_ms: int = 0
    heartbeat_timeout_ms: int = 0

    def delay_ms(self, attempt: int) -> int:
        """Return the delay after the failure of `attempt` (from 0), in milliseconds."""
        match self.backoff:
            case None:
                base = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)] * 1_000
                return base + random.randint(0, _JITTER_MS_MAX)  # noqa: S311 - jitter is not a secret
            case str():
                return duration_ms(self.backoff)
            case Sequence():
                return duration_ms(self.backoff[min(attempt, len(self.backoff) - 1)])
            case _ if callable(self.backoff):
                return duration_ms(self.backoff(attempt))
            case _:
                return duration_ms(self.backoff)


def retry_policy(
    retries: int,
    backoff: Backoff | None,
    timeout: Duration | None = None,
    heartbeat_timeout: Duration | None = None,
) -> RetryPolicy:
    """Return a policy; raise DefinitionError for numbers out of bounds."""
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= RETRIES_MAX:
        raise DefinitionError(f"retries={retries!r}: use a whole number from 0 to {RETRIES_MAX}")
    if isinstance(backoff, Sequence) and not backoff:
        raise DefinitionError("backoff=: give at least one duration")
    limits = [_limit_ms("timeout", timeout), _limit_ms("heartbeat_timeout", heartbeat_timeout)]
    policy = RetryPolicy(retries, backoff, *limits)
    try:
        if not callable(backoff):
            for attempt in range(len(backoff) if isinstance(backoff, Sequence) and not isinstance(backoff, str) else 1):
                policy.delay_ms(attempt)
    except InvalidDuration as error:
        raise DefinitionError(f"backoff={backoff!r}: {error}") from None
    return policy


def changed_policy(
    now: RetryPolicy,
    retries: int | None,
    backoff: Backoff | None,
    timeout: Duration | None,
    heartbeat_timeout: Duration | None,
) -> RetryPolicy:
    """Return a policy with other options, of which None leaves one; raise DefinitionError as `retry_policy`."""
    return retry_policy(
        now.retries if retries is None else retries,
        now.backoff if backoff is None else backoff,
        now.timeout_ms / 1_000 if timeout is None else timeout,
        now.heartbeat_timeout_ms / 1_000 if heartbeat_timeout is None else heartbeat_timeout,
    )


def _limit_ms(name: str, limit: Duration | None) -> int:
    try:
        return duration_ms(limit) if limit is not None else 0
    except InvalidDuration as error:
        raise DefinitionError(f"{name}={limit!r}: {error}") from None


@dataclass(frozen=True, slots=True)
class FunctionOptions:
    """What a definition says of a function, apart from its id and its handler, and what its app says of all."""

    triggers: tuple[Trigger, ...] = ()
    policy: RetryPolicy = RetryPolicy()
    on_failure: "Function[Any] | None" = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    lookback_ms: int = 0
    queues: tuple[str, ...] = ()
    chain_max: int = CHAIN_RUNS_MAX
    cancel_on: Sequence[CancelOn] = ()
    timeouts: Timeouts | None = None
    input: Any = None
    concurrency: Concurrency | Sequence[Concurrency] = ()
    throttle: Throttle | None = None
    rate_limit: RateLimit | None = None
    debounce: Debounce | None = None
    singleton: Singleton | None = None
    idempotency: str | Idempotency = ""
    limits: Sequence[Limit] = ()
    priority: str = ""
    batch: Batch | None = None
    ai_budget: int = 0
    app_limits: AppLimits = field(default_factory=AppLimits)


class Function(Generic[T_co]):
    """A durable function: a handler with its id, triggers and retries. `@app.function` creates it.

    Pass it to `step.invoke(function=)`. The type parameter is what the handler returns.
    """

    def __init__(self, app: str, id: str, handler: Callable[..., Any], options: FunctionOptions) -> None:
        self.app = app
        self.id = id
        self.handler = handler
        self.triggers = options.triggers
        self.policy = options.policy
        self.on_failure = options.on_failure
        self.attributes = options.attributes
        self.lookback_ms = options.lookback_ms
        self.queues = options.queues
        self.chain_max = options.chain_max
        self.cancel_on = cancel_triggers(id, options.cancel_on)
        self.timeouts = options.timeouts
        waiting = gate_rules(app, id, options.concurrency, options.throttle)
        asked_first = (options.idempotency, options.rate_limit, options.debounce, options.singleton)
        refusing = refusal_rules(id, *asked_first, options.concurrency)
        self.limits = check_limits(f"function {id!r}: limits=", options.limits)
        self.app_limits = options.app_limits
        self.ai_budget = _checked_budget(id, options.ai_budget)
        batches = batch_rules(id, options.batch, {name: getattr(options, name) for name in EXCLUDED})
        self.gates = (*refusing, *batches, *in_order(waiting, self.limits))
        self.priority = check_priority(id, options.priority, self.gates)
        self.input = _input_schema(id, options.input)
        self.is_async = is_async(handler)
        self.__doc__ = handler.__doc__
        self.__name__ = getattr(handler, "__name__", id)
        _check(self)

    def __repr__(self) -> str:
        return f"<Function {self.id!r} of app {self.app!r}>"

    def call_async(self, context: Any) -> Awaitable[Any]:
        """Call an async handler; raise DefinitionError if a decorator runs it and returns no awaitable."""
        found = self.handler(context)
        if not inspect.isawaitable(found):
            raise DefinitionError(
                f"function {self.id!r}: the handler is async, and a decorator of it returned a {type(found).__name__}; "
                "return what the decorated function returns, or make the decorator's wrapper async"
            )
        return found

    def registration(self) -> FunctionRegistered:
        """Return the record that registers the function with the engine."""
        return FunctionRegistered(
            self.id,
            self.app,
            self.triggers,
            on_failure=self.on_failure.id if self.on_failure else "",
            version=code_version(self.handler),
            lookback_ms=self.lookback_ms,
            queues=self.queues,
            chain_max=self.chain_max,
            attributes=dict(self.attributes),
            cancel_on=self.cancel_on,
            timeouts=self.timeouts.registered() if self.timeouts else None,
            retries=self.policy.retries,
            input=self.input,
            gates=self.gates,
            priority=self.priority,
            step_limits=tuple(limit.step_rule for limit in self.app_limits.declared),
        )


def _check(function: Function[Any]) -> None:
    if not 0 < len(function.id) <= FUNCTION_ID_CHARACTERS_MAX or not function.id.isprintable():
        raise DefinitionError(
            f"function id {function.id!r}: id= is 1 to {FUNCTION_ID_CHARACTERS_MAX} printable characters"
        )
    if len(function.triggers) > TRIGGERS_PER_FUNCTION_MAX:
        raise DefinitionError(f"function {function.id!r}: at most {TRIGGERS_PER_FUNCTION_MAX} triggers are allowed")
    if function.timeouts is not None and not isinstance(function.timeouts, Timeouts):
        raise DefinitionError(f'function {function.id!r}: write timeouts=Timeouts(finish="1h")')
    if not all(isinstance(trigger, EventTrigger | CronTrigger) for trigger in function.triggers):
        raise DefinitionError(f'function {function.id!r}: a trigger must be on("event") or cron("* * * * *")')
    if inspect.isgeneratorfunction(function.handler) or inspect.isasyncgenfunction(function.handler):
        raise DefinitionError(f"function {function.id!r}: a generator cannot be a handler; return a value")
    if not _takes_a_context(function.handler):
        name = name_of(function.handler)
        raise DefinitionError(
            f"function {function.id!r}: a handler takes one argument, the context: write def {name}(ctx)"
        )
    if len(function.attributes) > ATTRIBUTES_PER_RUN_MAX:
        raise DefinitionError(f"function {function.id!r}: attributes=: a run may have {ATTRIBUTES_PER_RUN_MAX}")
    for name, expression in function.attributes.items():
        try:
            check_attribute_name(name)
            check(expression, frozenset({"event"}))
        except (InvalidInput, ExpressionError) as error:
            raise DefinitionError(f"function {function.id!r}: attributes={{{name!r}: …}}: {error}") from None


def _checked_budget(id: str, budget: int) -> int:
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 0:
        raise DefinitionError(f"function {id!r}: ai_budget={budget!r}: use a whole number of tokens, 0 for no budget")
    return budget


def _input_schema(id: str, model: Any) -> Raw:
    if model is None:
        return NULL
    try:
        return bounded_schema(model, INPUT_SCHEMA_BYTES_MAX, only_objects=True)
    except ValueError as error:
        raise DefinitionError(f"function {id!r}: input={name_of(model)}: {error}") from None


def is_async(handler: Any) -> bool:
    """Return whether calling `handler`, which may be an object, a partial or decorated, returns a coroutine."""
    while not inspect.iscoroutinefunction(handler):
        if isinstance(handler, functools.partial):
            handler = handler.func
        elif hasattr(handler, "__wrapped__"):
            handler = handler.__wrapped__
        elif not inspect.isroutine(handler) and not isinstance(handler, type):
            handler = type(handler).__call__
        else:
            return False
    return True


def name_of(code: Callable[..., Any]) -> str:
    """Return the name of a callable for messages."""
    return str(getattr(code, "__name__", type(code).__name__))


def _takes_a_context(handler: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return True  # A callable that is not written in Python may have no signature.
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True


def code_version(handler: Callable[..., Any]) -> str:
    """Return a digest of the code of `handler` and its constants, "" if it is not written in Python."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    target = handler if inspect.isroutine(handler) else type(handler).__call__
    code = getattr(inspect.unwrap(target), "__code__", None)
    if code is None:
        return ""
    digest = hashlib.sha256()
    pending = [code]
    while pending:
        at = pending.pop()
        digest.update(at.co_code + repr((at.co_names, at.co_varnames)).encode())
        for constant in at.co_consts:
            if inspect.iscode(constant):
                pending.append(constant)
            else:
                stable = sorted(map(repr, constant)) if isinstance(constant, frozenset) else repr(constant)
                digest.update(str(stable).encode())
    return digest.hexdigest()[:12]
