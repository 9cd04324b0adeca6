"""Limits that refuse runs of functions, which are then skipped, or that let one run take the place of another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from stepstream.contract.errors import InvalidDuration, InvalidInput
from stepstream.contract.gates import Excess, GateRule
from stepstream.contract.limits import EVENTS_PER_BATCH_MAX
from stepstream.contract.text.durations import Duration, duration_ms
from stepstream.expressions.errors import ExpressionError
from stepstream.sdk.errors import DefinitionError
from stepstream.sdk.flow_control import Concurrency, Rate, check_key, check_rate, limit_name

Mode = Literal["skip", "cancel", "wait"]
Keep = Literal["last", "all"]
_KEEPS: Sequence[Keep] = ("last", "all")
_MODES: Mapping[str, Excess] = {"skip": Excess.SKIPPED, "cancel": Excess.REPLACE, "wait": Excess.WAIT}


@dataclass(frozen=True, slots=True)
class RateLimit(Rate):
    """How many runs of a function are accepted in a period: `@app.function(rate_limit=RateLimit(10, "1m"))`.

    It spreads runs as `Throttle` does, and refuses those beyond it: they end at once as `skipped`, and a run that
    invoked one gets a `StepError` with the code `rate-limited`.

    Args:
        limit: The number of runs in a period, from 1 to 1,000,000.
        period: The period, at most 366 days.
        burst: How many more are accepted at once after a pause.
        key: As in `Concurrency`.

    Raises `DefinitionError`, with the position and the reason.
    """


@dataclass(frozen=True, slots=True)
class Debounce:
    """A run starts once no other event came for a period: `@app.function(debounce=Debounce("10s"))`.

    Each event starts a run, which is queued. One that comes while it waits takes its place: the earlier run ends as
    `skipped`, its error names the later one, and a run that invoked it gets a `StepError` with the code `debounced`.
    With `keep="all"` the first run starts instead, with the events of all in `ctx.events`, as with `Batch`: the other
    runs end as `skipped` with the code `batched`, and the steps that invoked any of them get its result.

    Args:
        period: How long no other event may come, at most 366 days.
        key: As in `Concurrency`: the events of each of its values are debounced separately.
        timeout: The run starts after this time from the first event on, even if further events come; `None`: never.
        keep: Which events the run has: the `"last"` one, or `"all"`. With `"all"` it starts earlier if it has 1,000
            events, or if the next one would exceed 10 MiB, and the function may have no `batch`, `singleton`,
            `cancel_on` or `priority`.

    Raises `DefinitionError`, with the position and the reason.
    """

    period: Duration
    key: str = ""
    timeout: Duration | None = None
    keep: Keep = "last"

    def __post_init__(self) -> None:
        """Raise DefinitionError for a period, a key or a choice of events that is not valid."""
        try:
            if self.keep not in _KEEPS:
                raise InvalidInput(f"{self.keep!r} is not one of {', '.join(_KEEPS)}", "keep")
            check_rate(1, self.period, 0)
            if self.timeout is not None:
                check_rate(1, self.timeout, 0)
            check_key(self.key)
        except (InvalidInput, InvalidDuration, ExpressionError) as error:
            raise DefinitionError(f"Debounce: {error}") from None


@dataclass(frozen=True, slots=True)
class Singleton:
    """Only one run of a function is open at a time: `@app.function(singleton=Singleton("skip"))`.

    Args:
        mode: What happens to a run that is admitted while another one is open. `"skip"`: it ends at once as `skipped`,
            its error names the open run, and a run that invoked it gets a `StepError` with the code `skipped`.
            `"cancel"`: the open run is cancelled, its error names the new one, and the new one starts when it has
            ended; a run that waits for that is replaced likewise. `"wait"`: runs start one after the other, in the
            order in which they were admitted.
        key: As in `Concurrency`: one run for each of its values is open.

    Raises `DefinitionError`, with the position and the reason.
    """

    mode: Mode
    key: str = ""

    def __post_init__(self) -> None:
        """Raise DefinitionError for a mode or a key that is not valid."""
        try:
            if self.mode not in tuple(_MODES):
                raise InvalidInput(f"{self.mode!r} is not one of {', '.join(_MODES)}", "mode")
            check_key(self.key)
        except (InvalidInput, ExpressionError) as error:
            raise DefinitionError(f"Singleton: {error}") from None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """One run for each value of a key: `@app.function(idempotency="event.data.order_id")`, or with another period.

    A later run with the same value ends at once as `skipped`. Its error names the first one, and a run that invoked it
    gets a `StepError` with the code `idempotent`.

    Args:
        key: A CEL expression on `event`. A run for which it fails, or is no string, number or bool of at most 256
            characters, is not limited.
        period: For how long after the admission of the first run others are skipped, at most 366 days.

    Raises `DefinitionError`, with the position and the reason.
    """

    key: str
    period: Duration = "24h"

    def __post_init__(self) -> None:
        """Raise DefinitionError for a key or a period that is not valid."""
        try:
            check_rate(1, self.period, 0)
            check_key(self.key)
            if not self.key:
                raise InvalidInput("write a CEL expression on event", "key")
        except (InvalidInput, InvalidDuration, ExpressionError) as error:
            raise DefinitionError(f"Idempotency: {error}") from None


def refusal_rules(
    function: str,
    idempotency: str | Idempotency,
    rate_limit: RateLimit | None,
    debounce: Debounce | None,
    singleton: Singleton | None,
    concurrency: Concurrency | Sequence[Concurrency],
) -> tuple[GateRule, ...]:
    """Return the limits of a function that refuse or replace runs, in the order in which its runs ask for them."""
    rules: list[GateRule] = []
    if idempotency != "":
        rules.append(_idempotency_rule(function, idempotency))
    if rate_limit is not None:
        rules.append(_rate_rule(function, rate_limit))
    if debounce is not None:
        rules.append(_debounce_rule(function, debounce))
    if singleton is not None:
        rules.append(_singleton_rule(function, singleton, concurrency))
    return tuple(rules)


def _idempotency_rule(function: str, idempotency: str | Idempotency) -> GateRule:
    chosen = Idempotency(idempotency) if isinstance(idempotency, str) else idempotency
    if not isinstance(chosen, Idempotency):
        raise DefinitionError(f'function {function!r}: write idempotency="event.data.id"')
    name = limit_name("idempotency", f"function {function}", chosen.key)
    return GateRule(name, 1, duration_ms(chosen.period), key=chosen.key, excess=Excess.IDEMPOTENT)


def _rate_rule(function: str, rate_limit: RateLimit) -> GateRule:
    if not isinstance(rate_limit, RateLimit):
        raise DefinitionError(f'function {function!r}: write rate_limit=RateLimit(10, "1m")')
    return rate_limit.rule(limit_name("rate limit", f"function {function}", rate_limit.key), Excess.RATE_LIMITED)


def _debounce_rule(function: str, debounce: Debounce) -> GateRule:
    if not isinstance(debounce, Debounce):
        raise DefinitionError(f'function {function!r}: write debounce=Debounce("10s")')
    is_last = debounce.keep == "last"
    # Another name: runs that wait when a release keeps other events have asked in another way.
    kind = "debounce" if is_last else "debounce with all events"
    name = limit_name(kind, f"function {function}", debounce.key)
    most_ms = duration_ms(debounce.timeout) if debounce.timeout is not None else 0
    period_ms = duration_ms(debounce.period)
    rule = GateRule(name, 1, period_ms, key=debounce.key, excess=Excess.DEBOUNCED, most_ms=most_ms)
    return rule if is_last else replace(rule, excess=Excess.BATCHED, size=EVENTS_PER_BATCH_MAX, renewed=True)


def _singleton_rule(function: str, singleton: Singleton, concurrency: Concurrency | Sequence[Concurrency]) -> GateRule:
    if not isinstance(singleton, Singleton):
        raise DefinitionError(f'function {function!r}: write singleton=Singleton("skip")')
    limits = (concurrency,) if isinstance(concurrency, Concurrency) else concurrency
    own = [each for each in limits if each.counts != "steps" and each.scope == "function"]
    if same := next((each for each in own if singleton.key in ("", each.key)), None):
        raise DefinitionError(
            f"function {function!r}: singleton= allows one open run, so concurrency= on {same.counts} with the same "
            "key has no effect: remove one of them"
        )
    name = limit_name("singleton", f"function {function}", singleton.key)
    return GateRule(name, 1, key=singleton.key, excess=_MODES[singleton.mode])
