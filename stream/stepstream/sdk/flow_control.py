"""Limits of functions: how many bodies run, how many runs are open or executing, and how many start in a period."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from stepstream.contract.errors import InvalidDuration, InvalidInput
from stepstream.contract.gates import Excess, GateRule, check_rules
from stepstream.contract.limits import DEFAULT_LIMITS, GATE_LIMIT_MAX, GATE_WEIGHT_MAX, GATE_WEIGHT_ONE
from stepstream.contract.text.durations import Duration, duration_ms
from stepstream.expressions.errors import ExpressionError
from stepstream.sdk.deferred import check
from stepstream.sdk.errors import DefinitionError

Scope = Literal["function", "app", "namespace"]
_SCOPES = ("function", "app", "namespace")
Counts = Literal["steps", "runs", "work"]
# How the names of the limits begin.
_KINDS: dict[Counts, str] = {"runs": "concurrency", "steps": "step concurrency", "work": "work concurrency"}
CONCURRENCY_PER_FUNCTION_MAX = 2
Weight = float | str
_WEIGHT_MIN, _WEIGHT_MAX = 1 / GATE_WEIGHT_ONE, GATE_WEIGHT_MAX // GATE_WEIGHT_ONE


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many bodies of steps and pieces of code between them may run at a time, or how many runs may be open.

    A run takes a permit before its code starts. Its code and its bodies, one at a time, run by this permit. Each
    further body of parallel steps, and each body in a queue, takes a separate one, and returns it in the transaction
    that has its result or its error. A run that sleeps, waits, invokes or is between two attempts holds none; it is
    queued for one when it wakes. Then its code is replayed.

    With `counts="runs"` a run takes a permit before its code starts, and returns it in the transaction that ends the
    run, however it ends. Runs beyond the limit are queued, and start in the order in which they were admitted. A run
    that sleeps or waits keeps its permit. Do not invoke a function that shares the limit: the run would wait for
    itself.

    With `counts="work"` a run holds a permit only while its code or a body is executing. It returns the permit when the
    code waits for a sleep, an event, a signal or an invoked run, and is queued for one when it wakes. So it may invoke
    a function that shares the limit. When it wakes, its code is replayed. The bodies of steps in a queue do not count.

    Args:
        limit: The number of steps or runs, from 1 to 1,000,000.
        counts: `"steps"`, `"runs"` or `"work"`.
        key: A CEL expression on `event`, such as `"event.data.tenant"`: each of its values has its own limit. Runs
            for which it fails, or is no string, number or bool of at most 256 characters, share one.
        scope: Which steps or runs share the limit: those of this function, of all functions of the app with a limit of
            this scope and key, or of all such functions in the namespace. Then write the same limit in each of them:
            that of the latest request counts.
        fair: A CEL expression on `event`, such as `"event.data.tenant"`: what waits is in a sub-queue for each of its
            values, and the sub-queues share the limit equally. Values are as those of `key`.
        weight: How much of the limit a sub-queue has, compared with others: a number from 0.001 to 1,000, or a CEL
            expression on `event`. If it fails, or is not a positive number, it counts as 1.

    Raises `DefinitionError`, with the position and the reason.
    """

    limit: int
    counts: Counts = "steps"
    key: str = ""
    scope: Scope = "function"
    fair: str = ""
    weight: Weight = 1

    def __post_init__(self) -> None:
        """Raise DefinitionError for a limit that is not valid."""
        try:
            check_limit(self.limit, "limit", 1)
            if self.counts not in tuple(_KINDS):
                raise InvalidInput(f'{self.counts!r} is not "steps", "runs" or "work"', "counts")
            if self.scope not in _SCOPES:
                raise InvalidInput(f"{self.scope!r} is not one of {', '.join(_SCOPES)}", "scope")
            check_key(self.key)
            check_fair(self.fair, self.weight)
        except (InvalidInput, ExpressionError) as error:
            raise DefinitionError(f"Concurrency: {error}") from None


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of runs in a period: what Throttle and RateLimit have in common."""

    limit: int
    period: Duration
    burst: int = 0
    key: str = ""

    def __post_init__(self) -> None:
        """Raise DefinitionError for a limit that is not valid."""
        try:
            check_rate(self.limit, self.period, self.burst)
            check_key(self.key)
        except (InvalidInput, InvalidDuration, ExpressionError) as error:
            raise DefinitionError(f"{type(self).__name__}: {error}") from None

    def rule(self, name: str, excess: Excess) -> GateRule:
        """Return the limit as a function registers it."""
        return GateRule(name, self.limit, duration_ms(self.period), self.burst, self.key, excess)


@dataclass(frozen=True, slots=True)
class Throttle(Rate):
    """How many runs of a function may start in a period: `@app.function(throttle=Throttle(10, "1m"))`.

    Starts are spread evenly: ten in a minute are one every six seconds. Runs beyond that are queued, and start in the
    order in which they were admitted.

    Args:
        limit: The number of starts in a period, from 1 to 1,000,000.
        period: The period, at most 366 days.
        burst: How many more may start at once after a pause.
        key: As in `Concurrency`.
        fair: As in `Concurrency`.
        weight: As in `Concurrency`.

    Raises `DefinitionError`, with the position and the reason.
    """

    fair: str = ""
    weight: Weight = 1

    def __post_init__(self) -> None:
        """Raise DefinitionError for a limit that is not valid."""
        Rate.__post_init__(self)
        try:
            check_fair(self.fair, self.weight)
        except (InvalidInput, ExpressionError) as error:
            raise DefinitionError(f"Throttle: {error}") from None

    def rule(self, name: str, excess: Excess) -> GateRule:
        """Return the limit as a function registers it."""
        return replace(Rate.rule(self, name, excess), fair=self.fair, weight=weight_text(self.weight))


def check_rate(limit: object, period: Duration, burst: object) -> None:
    """Raise InvalidInput or InvalidDuration if these are not a number of runs in a period."""
    check_limit(limit, "limit", 1)
    check_limit(burst, "burst", 0)
    if not 0 < duration_ms(period) <= DEFAULT_LIMITS.wait_ms_max:
        raise InvalidInput(f"{period!r} is not between 1 ms and 366 days", "period")


def check_limit(number: object, name: str, least: int) -> None:
    """Raise InvalidInput if this is no number of runs."""
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= GATE_LIMIT_MAX:
        raise InvalidInput(f"{number!r} is not a number from {least} to {GATE_LIMIT_MAX:,}", name)


def check_key(key: object, name: str = "key") -> None:
    """Raise InvalidInput or ExpressionError if this is no CEL expression on `event`."""
    if not isinstance(key, str):
        raise InvalidInput(f"{key!r} is not a CEL expression", name)
    if key:
        check(key, frozenset({"event"}))


def check_fair(fair: object, weight: object) -> None:
    """Raise InvalidInput or ExpressionError if a limit cannot have these sub-queues and weights."""
    check_key(fair, "fair")
    if weight != 1 and not fair:
        raise InvalidInput('a weight is that of a sub-queue; add fair="event.data.tenant"', "weight")
    if isinstance(weight, str) and weight:
        check_key(weight, "weight")
    elif not isinstance(weight, int | float) or isinstance(weight, bool) or not _WEIGHT_MIN <= weight <= _WEIGHT_MAX:
        at_most = f"a number from {_WEIGHT_MIN} to {_WEIGHT_MAX:,}"
        raise InvalidInput(f"{weight!r} is neither {at_most} nor a CEL expression", "weight")


def weight_text(weight: Weight) -> str:
    """Return a weight as a function registers it."""
    return "" if weight == 1 else str(weight)


def gate_rules(
    app: str, function: str, concurrency: Concurrency | Sequence[Concurrency], throttle: Throttle | None
) -> tuple[GateRule, ...]:
    """Return the limits of a function as they are registered, in the order in which its runs and steps ask for them.

    That order is the same for all functions, so that no two runs wait for permits of each other.
    """
    place = f"function {function!r}"
    limits = (concurrency,) if isinstance(concurrency, Concurrency) else concurrency
    if not isinstance(limits, Sequence) or not all(isinstance(limit, Concurrency) for limit in limits):
        raise DefinitionError(f"{place}: write concurrency=Concurrency(5), or a list of two")
    if len(limits) > CONCURRENCY_PER_FUNCTION_MAX:
        raise DefinitionError(f"{place}: concurrency=: at most {CONCURRENCY_PER_FUNCTION_MAX} limits are allowed")
    if throttle is not None and not isinstance(throttle, Throttle):
        raise DefinitionError(f'{place}: write throttle=Throttle(10, "1m")')
    owners = {"function": f"function {function}", "app": f"app {app}", "namespace": "namespace"}
    ordered = sorted(limits, key=lambda limit: (_SCOPES.index(limit.scope), limit.key))
    rules = [
        GateRule(
            limit_name(_KINDS[each.counts], owners[each.scope], each.key),
            each.limit,
            key=each.key,
            steps=each.counts == "steps",
            work=each.counts != "runs",
            fair=each.fair,
            weight=weight_text(each.weight),
        )
        for each in ordered
    ]
    if len({rule.name for rule in rules}) < len(rules):
        raise DefinitionError(f"{place}: concurrency=: two limits have the same scope and key")
    _check_work(place, limits)
    if throttle is not None:
        name = limit_name("throttle", owners["function"], throttle.key)
        rules.insert(0, throttle.rule(name, Excess.WAIT))
    try:
        check_rules(rules)
    except InvalidInput as error:
        raise DefinitionError(f"{place}: {error}") from None
    return tuple(rules)


def _check_work(place: str, limits: Sequence[Concurrency]) -> None:
    """Raise DefinitionError for a limit on work that a limit on open runs makes superfluous."""
    most_open = {(each.scope, each.key): each.limit for each in limits if each.counts == "runs"}
    for each in limits:
        if each.counts == "work" and most_open.get((each.scope, each.key), each.limit + 1) <= each.limit:
            raise DefinitionError(
                f"{place}: concurrency=: no more runs are open than may be executing, so the limit on work has no "
                "effect: lower it, or remove it"
            )


def check_priority(function: str, priority: str, gates: Sequence[GateRule]) -> str:
    """Return the priority of a function's runs; raise DefinitionError if it is not valid, or no run could wait."""
    place = f"function {function!r}: priority="
    try:
        check_key(priority)
    except (InvalidInput, ExpressionError) as error:
        raise DefinitionError(f"{place}: {error}") from None
    if priority and not any(rule.excess is Excess.WAIT for rule in gates):
        raise DefinitionError(f"{place}: no run of the function is queued; add concurrency=, throttle= or limits=")
    return priority


def limit_name(kind: str, owner: str, key: str) -> str:
    """Return the name by which functions share a limit."""
    return f"{kind} of {owner} by {key}" if key else f"{kind} of {owner}"
