"""Maps the configuration of a function, as SDKs register it, to what the engine knows: its triggers and its limits."""

import re
from collections.abc import Mapping
from datetime import timedelta
from hashlib import sha256
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from stepstream.contract.codec import encode
from stepstream.contract.errors import InvalidInput
from stepstream.contract.functions import FunctionRegistered, Trigger
from stepstream.contract.gates import Excess, GateRule
from stepstream.contract.limits import ENDPOINT_CHARACTERS_MAX, RETRIES_DEFAULT, RETRIES_MAX
from stepstream.gateway.wire.dues import wire_duration_ms
from stepstream.gateway.wire.internal_events import own_condition, own_name
from stepstream.sdk.batches import Batch
from stepstream.sdk.cancellation import CancelOn, Timeouts
from stepstream.sdk.errors import DefinitionError
from stepstream.sdk.flow_control import Concurrency, Counts, Scope, Throttle
from stepstream.sdk.function import Function, FunctionOptions, RetryPolicy, cron, on
from stepstream.sdk.refusals import Debounce, RateLimit, Singleton

SCHEMES = ("http", "https", "ws", "wss")
_VERSION_CHARACTERS = 12
_CRON = re.compile(r"(?:(?:CRON_)?TZ=(\S+)\s+)?(.+)", re.DOTALL)
_DAILY = "0 0 * * *"
_CRON_WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": _DAILY,
    "@midnight": _DAILY,
    "@hourly": "0 * * * *",
}
# The scopes of SDKs; an environment and an account are one namespace.
_SCOPES: Mapping[str, Scope] = {"": "function", "fn": "function", "env": "namespace", "account": "namespace"}
# A rate limit of the SDKs lets a tenth of its runs start at once.
_RATE_BURST_PART = 10


class _Trigger(msgspec.Struct, frozen=True):
    event: str = ""
    expression: str = ""
    cron: str = ""
    jitter: str = ""


class _Runtime(msgspec.Struct, frozen=True):
    url: str = ""


class _Retries(msgspec.Struct, frozen=True):
    attempts: int | None = None


class _Step(msgspec.Struct, frozen=True):
    runtime: _Runtime = _Runtime()
    retries: _Retries | None = None


class _Limit(msgspec.Struct, frozen=True):
    limit: int = 0
    key: str = ""
    scope: str = ""


class _Limits(_Limit, frozen=True):
    """One limit, or those on runs and on steps."""

    fn: list[_Limit] = []
    step: list[_Limit] = []


class _Rate(msgspec.Struct, frozen=True):
    limit: int
    period: str
    key: str = ""
    burst: int = 0


class _Debounce(msgspec.Struct, frozen=True):
    period: str
    key: str = ""
    timeout: str = ""


class _Batch(msgspec.Struct, frozen=True):
    maxsize: int
    timeout: str
    key: str = ""
    condition: str = msgspec.field(default="", name="if")


class _Priority(msgspec.Struct, frozen=True):
    run: str = ""


class _Singleton(msgspec.Struct, frozen=True):
    mode: str = "skip"
    key: str = ""


class _Cancel(msgspec.Struct, frozen=True):
    event: str
    condition: str = msgspec.field(default="", name="if")
    timeout: str = ""


class _Timeouts(msgspec.Struct, frozen=True):
    start: str = ""
    finish: str = ""


class FunctionConfig(msgspec.Struct, frozen=True):
    """A function as SDKs register it; all names of fields are in lower case, and nulls are left out."""

    id: str
    name: str = ""
    triggers: list[_Trigger] = []
    steps: dict[str, _Step] = {}
    retries: int | _Retries | None = None
    concurrency: int | list[_Limit] | _Limits = 0
    throttle: _Rate | None = None
    ratelimit: _Rate | None = None
    debounce: _Debounce | None = None
    batchevents: _Batch | None = None
    priority: _Priority | None = None
    singleton: _Singleton | None = None
    idempotency: str = ""
    cancel: list[_Cancel] = []
    timeouts: _Timeouts = _Timeouts()


def read_function(config: FunctionConfig, app: str, version: str) -> tuple[str, FunctionRegistered]:
    """Return the URL and the registration of a function; raise InvalidInput with what cannot be mapped."""
    url, retries = _step(config)
    try:
        concurrency, throttle = _concurrency(config.concurrency), _throttle(config.throttle)
        options = FunctionOptions(
            triggers=tuple(_trigger(each) for each in config.triggers),
            policy=RetryPolicy(retries),
            cancel_on=[_cancel(each) for each in config.cancel],
            timeouts=_timeouts(config.timeouts),
            concurrency=concurrency,
            throttle=throttle,
            # An SDK's idempotency is a rate limit, and takes the place of another one.
            rate_limit=None if config.idempotency else _rate_limit(config.ratelimit),
            debounce=_debounce(config.debounce),
            singleton=_singleton(config.singleton),
            idempotency=config.idempotency,
            # A run of a function without such a limit is never queued, so that its priority has no effect.
            priority=config.priority.run if config.priority and (concurrency or throttle) else "",
            batch=_batch(config.batchevents),
        )
        registered = Function(app, config.id, _called_by_the_gateway, options).registration()
    except DefinitionError as error:
        raise InvalidInput(str(error).removeprefix(f"function {config.id!r}: ")) from None
    digest = sha256(encode(config) + version.encode()).hexdigest()
    gates = tuple(_unless_false(rule) for rule in registered.gates)
    return url, replace(registered, gates=gates, version=digest[:_VERSION_CHARACTERS], endpoint=url)


def _called_by_the_gateway(_: object) -> None:
    """Stand for the code of a function, which is in its app."""


def _step(config: FunctionConfig) -> tuple[str, int]:
    """Return the URL of a function, and how many attempts may follow the first one."""
    steps = list(config.steps.values())
    if len(steps) != 1:
        raise InvalidInput("a function has one step, whose runtime has the URL of its calls", "steps")
    url = steps[0].runtime.url
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in SCHEMES or not parts.hostname or not url.isprintable() or len(url) > ENDPOINT_CHARACTERS_MAX:
        schemes = ", ".join(SCHEMES)
        raise InvalidInput(
            f"{url[:80]!r} is not a URL of at most {ENDPOINT_CHARACTERS_MAX:,} characters by {schemes}", "url"
        )
    for given in (steps[0].retries, config.retries):
        retries = given.attempts if isinstance(given, _Retries) else given
        if retries is not None:
            if retries < 0:
                raise InvalidInput(f"{retries} is less than 0", "retries")
            return url, min(retries, RETRIES_MAX)
    return url, RETRIES_DEFAULT


def _trigger(given: _Trigger) -> Trigger:
    """Return a trigger."""
    if not given.cron:
        return on(own_name(given.event), if_=own_condition(given.expression))
    found = _CRON.fullmatch(given.cron.strip())
    if not found:
        raise InvalidInput("a cron expression has 5 fields", "cron")
    expression, jitter = found[2].strip(), _length(given.jitter, "cron.jitter")
    return cron(_CRON_WORDS.get(expression, expression), tz=found[1] or "UTC", jitter=jitter)


def _cancel(given: _Cancel) -> CancelOn:
    condition = own_condition(given.condition)
    return CancelOn(own_name(given.event), if_=condition, timeout=_length(given.timeout, "cancel.timeout"))


def _timeouts(given: _Timeouts) -> Timeouts | None:
    start, finish = _length(given.start, "timeouts.start"), _length(given.finish, "timeouts.finish")
    return Timeouts(start, finish) if start or finish else None


def _concurrency(given: int | list[_Limit] | _Limits) -> list[Concurrency]:
    """Return the limits on what runs at a time, of one of the forms of SDKs; 0 is no limit."""
    on_runs: list[_Limit] = []
    match given:
        case int():
            on_steps = [_Limit(given)]
        case list():
            on_steps = given
        case _Limits():
            on_runs, on_steps = given.fn, given.step or [given]
    limits: list[tuple[Counts, _Limit]] = [("runs", each) for each in on_runs] + [("steps", each) for each in on_steps]
    return [Concurrency(each.limit, counts, each.key, _scope(each.scope)) for counts, each in limits if each.limit]


def _scope(scope: str) -> Scope:
    # The SDK for Go writes Fn, Env and Account.
    found = _SCOPES.get(scope.lower())
    if found is None:
        raise InvalidInput(f"{scope[:80]!r} is not one of {', '.join(filter(None, _SCOPES))}", "concurrency.scope")
    return found


def _throttle(given: _Rate | None) -> Throttle | None:
    """Return a throttle; the burst of an SDK includes the run that may start anyway."""
    if given is None:
        return None
    return Throttle(max(given.limit, 1), _period(given.period), max(given.burst - 1, 0), given.key)


def _rate_limit(given: _Rate | None) -> RateLimit | None:
    if given is None:
        return None
    return RateLimit(given.limit, _period(given.period), given.limit // _RATE_BURST_PART, given.key)


def _debounce(given: _Debounce | None) -> Debounce | None:
    if given is None:
        return None
    return Debounce(_period(given.period), given.key, _length(given.timeout, "debounce.timeout"))


def _batch(given: _Batch | None) -> Batch | None:
    if given is None:
        return None
    return Batch(given.maxsize, _period(given.timeout), given.key, own_condition(given.condition))


def _singleton(given: _Singleton | None) -> Singleton | None:
    if given is None:
        return None
    if given.mode not in ("skip", "cancel"):
        raise InvalidInput(f"{given.mode[:80]!r} is not skip or cancel", "singleton.mode")
    return Singleton("cancel" if given.mode == "cancel" else "skip", given.key)


def _unless_false(rule: GateRule) -> GateRule:
    """Return the rule of a singleton whose key may be false, by which an SDK says that the run is not limited."""
    is_singleton = rule.excess in (Excess.SKIPPED, Excess.REPLACE) and rule.key
    return replace(rule, condition=f"({rule.key}) != false") if is_singleton else rule


def _period(text: str) -> timedelta:
    return timedelta(milliseconds=wire_duration_ms(text))


def _length(text: str, field: str) -> timedelta | None:
    """Return a duration, None for none; raise InvalidInput for anything else, such as a date."""
    try:
        return _period(text) if text else None
    except InvalidInput as error:
        raise InvalidInput(error.reason, field) from None
