"""What cancels the open runs of a function: events, and time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stepstream.contract.errors import InvalidDuration, InvalidInput
from stepstream.contract.events import check_event_name
from stepstream.contract.functions import CancelTrigger, RunTimeouts
from stepstream.contract.limits import CANCEL_ON_PER_FUNCTION_MAX, DEFAULT_LIMITS
from stepstream.contract.text.durations import Duration, duration_ms
from stepstream.expressions.errors import ExpressionError
from stepstream.sdk.deferred import check, check_path
from stepstream.sdk.errors import DefinitionError

OnParentEnd = Literal["continue", "cancel"]


@dataclass(frozen=True, slots=True)
class CancelOn:
    """An event that cancels the open runs of a function that it matches: `@app.function(cancel_on=[CancelOn(…)])`.

    The event must come after the run was admitted, by the order of the log; the event that started the run never
    cancels it. The run ends as cancelled wherever it is: scheduled, asleep, waiting, paused, in a worker or in an
    `invoke`. A running body is stopped, its result is discarded, and `on_failure` does not run.

    Args:
        event: The name of the event, without wildcards.
        match: A path, for example `"data.order_id"`, that must have the same value in the event that started the run
            and in the cancelling event. A path that is missing or null in either never matches.
        if_: Instead of `match`, a CEL expression on `event` (which started the run) and `async` (the cancelling event).
            Without `match` and `if_` every event with the name matches.
        timeout: How long after the admission of the run the event may cancel it, at most 366 days; by default until
            the run ends.

    Raises `DefinitionError`, with the position and the reason.
    """

    event: str
    match: str = ""
    if_: str = ""
    timeout: Duration | None = None

    def __post_init__(self) -> None:
        """Raise DefinitionError for a rule that is not valid."""
        try:
            self.trigger()
        except (InvalidInput, InvalidDuration, ExpressionError) as error:
            raise DefinitionError(f"CancelOn({self.event!r}): {error}") from None

    def trigger(self) -> CancelTrigger:
        """Return the rule as it is registered with the engine."""
        check_event_name(self.event, own=True)
        if "*" in self.event:
            raise InvalidInput("use one event name; only triggers take wildcards", "event")
        if self.match and self.if_:
            raise InvalidInput("give match= or if_=, not both", "if_")
        if self.match:
            check_path(self.match)
        if self.if_:
            check(self.if_, frozenset({"event", "async"}))
        return CancelTrigger(self.event, self.match, self.if_, _timeout_ms(self.timeout, "timeout"))


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the runs of a function may take: `@app.function(timeouts=Timeouts(start="10m", finish="1h"))`.

    A run that takes longer ends as cancelled, with the timeout as the reason, and `on_failure` does not run.

    Args:
        start: From the admission of the run, or from the time at which it is scheduled, until its code is executed. The
            time in which no worker has a slot for it counts, and so does a pause.
        finish: From then until the run ends, with all retries, sleeps and waits. When it has passed, nothing further
            starts. A body that is running may continue for up to ten minutes; if its result ends the run without
            another step, the run completes.

    Each is at most 366 days. Raises `DefinitionError`.
    """

    start: Duration | None = None
    finish: Duration | None = None

    def __post_init__(self) -> None:
        """Raise DefinitionError for timeouts that are not valid."""
        try:
            self.registered()
        except (InvalidInput, InvalidDuration) as error:
            raise DefinitionError(f"Timeouts: {error}") from None

    def registered(self) -> RunTimeouts:
        """Return the timeouts as they are registered with the engine."""
        if self.start is None and self.finish is None:
            raise InvalidInput("give start=, finish= or both", "start")
        return RunTimeouts(_timeout_ms(self.start, "start"), _timeout_ms(self.finish, "finish"))


def _timeout_ms(timeout: Duration | None, name: str) -> int:
    """Return a time limit in milliseconds, 0 for none."""
    if timeout is None:
        return 0
    length_ms = duration_ms(timeout)
    if not 0 < length_ms <= DEFAULT_LIMITS.wait_ms_max:
        raise InvalidInput(f"{timeout!r} is not between 1 ms and 366 days", name)
    return length_ms


def cancel_triggers(function_id: str, rules: Sequence[CancelOn]) -> tuple[CancelTrigger, ...]:
    """Return the rules of a function as they are registered; raise DefinitionError if they are not a list of rules."""
    place = f"function {function_id!r}: cancel_on="
    if isinstance(rules, CancelOn) or not all(isinstance(rule, CancelOn) for rule in rules):
        raise DefinitionError(f'{place}: write a list of rules: cancel_on=[CancelOn("event")]')
    if len(rules) > CANCEL_ON_PER_FUNCTION_MAX:
        raise DefinitionError(f"{place}: at most {CANCEL_ON_PER_FUNCTION_MAX} events may cancel a run")
    return tuple(rule.trigger() for rule in rules)


def ends_with_parent(on_parent_end: OnParentEnd) -> bool:
    """Return whether an invoked run is cancelled when the run that invoked it ends; raise InvalidInput."""
    if on_parent_end not in ("continue", "cancel"):
        raise InvalidInput(f'{on_parent_end!r} is neither "continue" nor "cancel"', "on_parent_end")
    return on_parent_end == "cancel"
