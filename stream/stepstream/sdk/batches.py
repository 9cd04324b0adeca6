"""Batches of events: one run of a function for several of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from stepstream.contract.errors import InvalidDuration, InvalidInput
from stepstream.contract.gates import Excess, GateRule
from stepstream.contract.limits import DEFAULT_LIMITS, EVENTS_PER_BATCH_MAX
from stepstream.contract.text.durations import Duration, duration_ms
from stepstream.expressions.errors import ExpressionError
from stepstream.sdk.deferred import check
from stepstream.sdk.errors import DefinitionError
from stepstream.sdk.flow_control import check_key, limit_name
from stepstream.sdk.refusals import Debounce

# The other options of a function that a run of several events excludes, and why.
EXCLUDED: Mapping[str, str] = {
    "debounce": "it leaves one event, and a batch has several",
    "singleton": "a run that is skipped or replaced would take the events of others with it",
    "cancel_on": "an event that cancels the run of one event would cancel that of all",
    "priority": "the events of one run would have several",
}


@dataclass(frozen=True, slots=True)
class Batch:
    """One run has several events: `@app.function(batch=Batch(100, "10s"))`.

    Each event starts a run, which is queued. When so many have come, the time has passed, or their events have 10 MiB,
    the first run starts with the events of all: `ctx.event` is its own, and `ctx.events` are all of them, in order of
    arrival. The other runs end as `skipped` with the code `batched`, and their errors name that run. The steps that
    invoked any of them get its result.

    Args:
        max_size: How many events a run has at most, from 1 to 1,000.
        timeout: After what time from its first event on a batch starts anyway, at most 366 days.
        key: As in `Concurrency`: the events of each of its values have their own batches.
        if_: A CEL expression on `event`. The run of an event for which it is false, or fails, starts alone and at once.

    A function with a batch has no `debounce`, `singleton`, `cancel_on` or `priority`. Raises `DefinitionError`, with
    the position and the reason.
    """

    max_size: int
    timeout: Duration
    key: str = ""
    if_: str = ""

    def __post_init__(self) -> None:
        """Raise DefinitionError for a batch that is not valid."""
        size = self.max_size
        try:
            if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= EVENTS_PER_BATCH_MAX:
                raise InvalidInput(f"{size!r} is not a number from 1 to {EVENTS_PER_BATCH_MAX:,}", "max_size")
            if not 0 < duration_ms(self.timeout) <= DEFAULT_LIMITS.wait_ms_max:
                raise InvalidInput(f"{self.timeout!r} is not between 1 ms and 366 days", "timeout")
            check_key(self.key)
            if self.if_:
                check(self.if_, frozenset({"event"}))
        except (InvalidInput, InvalidDuration, ExpressionError) as error:
            raise DefinitionError(f"Batch: {error}") from None


def batch_rules(function: str, batch: Batch | None, options: Mapping[str, object]) -> tuple[GateRule, ...]:
    """Return the batch of a function as it is registered.

    A batch and a debounce that keeps all events give a run several events. Raise DefinitionError if another option of
    the function does not allow that.
    """
    debounce = options["debounce"]
    if isinstance(debounce, Debounce) and debounce.keep == "all":
        _check_others(function, 'Debounce(keep="all")', {**options, "debounce": None})
    if batch is None:
        return ()
    if not isinstance(batch, Batch):
        raise DefinitionError(f'function {function!r}: write batch=Batch(100, "10s")')
    _check_others(function, "batch=", options)
    name, period_ms = limit_name("batch", f"function {function}", batch.key), duration_ms(batch.timeout)
    size, condition = batch.max_size, batch.if_
    return (GateRule(name, 1, period_ms, key=batch.key, excess=Excess.BATCHED, size=size, condition=condition),)


def _check_others(function: str, option: str, options: Mapping[str, object]) -> None:
    for name, reason in EXCLUDED.items():
        if options[name]:
            raise DefinitionError(f"function {function!r}: {option} excludes {name}=: {reason}; remove one of them")
