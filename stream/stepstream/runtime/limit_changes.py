"""Changes of limits as operators ask for them: checked against the limits that functions have."""

from collections.abc import Iterable
from dataclasses import dataclass

from stepstream.contract.errors import InvalidDuration, InvalidInput
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.gates import Excess, GateRule
from stepstream.contract.limits import DEFAULT_LIMITS, GATE_KEY_CHARACTERS_MAX, GATE_LIMIT_MAX
from stepstream.contract.operators.limit_settings import LimitAction, LimitChangeRequested, Override
from stepstream.contract.operators.limit_views import LimitView
from stepstream.contract.text.durations import duration_ms
from stepstream.runtime.pauses import end_of_pause
from stepstream.runtime.reruns import check_reason


@dataclass(frozen=True, slots=True)
class LimitTarget:
    """The limit that an operator changes: its name, the value of its key ("": all), and its rule if it is known."""

    name: str
    key: str = ""
    rule: GateRule | None = None


@dataclass(frozen=True, slots=True)
class NewNumbers:
    """The numbers of a limit as an operator writes them; without a period or a burst, those in code count."""

    limit: int | None = None
    period: str = ""
    burst: int | None = None
    until: str = ""


def target_of(name: str, key: str, functions: Iterable[FunctionRegistered]) -> LimitTarget | None:
    """Return the limit of a name, None if none of the functions has it; raise InvalidInput for a key it cannot have."""
    rules = [rule for each in functions for rule in (*each.gates, *each.step_limits) if rule.name == name]
    if not rules:
        return None
    if key and not rules[0].key:
        raise InvalidInput("the limit has no key; change it for all runs", "key")
    return _checked(LimitTarget(name, key, rules[0]), rules)


def target_in_use(view: LimitView, key: str) -> LimitTarget:
    """Return a limit of steps, which no function registers, as it is in use; raise InvalidInput for one of runs."""
    rule = GateRule(view.name, view.limit, view.period_ms, view.burst, excess=view.excess)
    return _checked(LimitTarget(view.name, key, rule), [rule])


def _checked(target: LimitTarget, rules: Iterable[GateRule]) -> LimitTarget:
    if any(rule.excess is not Excess.WAIT for rule in rules):
        raise InvalidInput("only a limit for which runs wait in order can be changed", "name")
    if len(target.key) > GATE_KEY_CHARACTERS_MAX:
        raise InvalidInput(f"a key has at most {GATE_KEY_CHARACTERS_MAX} characters", "key")
    return target


def set_request(target: LimitTarget, numbers: NewNumbers, by: str, why: str, now_ms: int) -> LimitChangeRequested:
    """Return the request that sets the numbers of a limit; raise InvalidInput that names the field."""
    if not why.strip():
        raise InvalidInput("say why; others see it", "why")
    check_reason(why)
    if numbers.limit is None or not 0 < numbers.limit <= GATE_LIMIT_MAX:
        raise InvalidInput(f"expected 1 to {GATE_LIMIT_MAX:,}; to let no run pass, pause the limit", "limit")
    if numbers.burst is not None and not 0 <= numbers.burst <= GATE_LIMIT_MAX:
        raise InvalidInput(f"expected 0 to {GATE_LIMIT_MAX:,}", "burst")
    counts_starts = target.rule is None or target.rule.period_ms > 0
    for field, value in (("period", numbers.period), ("burst", numbers.burst)):
        if value not in (None, "") and not counts_starts:
            raise InvalidInput("this limit counts open runs, and has no period", field)
    override = Override(numbers.limit, _period(numbers.period), numbers.burst, end_of_pause(numbers.until, now_ms))
    return LimitChangeRequested(target.name, LimitAction.SET, target.key, override, by=by, why=why)


def _period(text: str) -> int:
    if not text:
        return 0
    try:
        period_ms = duration_ms(text)
    except InvalidDuration:
        period_ms = 0
    if not 0 < period_ms <= DEFAULT_LIMITS.wait_ms_max:
        raise InvalidInput(f"{text[:80]!r} is not a duration between 1 ms and 366 days, such as 1m", "period")
    return period_ms


def pause_request(target: LimitTarget, until: str, by: str, why: str, now_ms: int) -> LimitChangeRequested:
    """Return the request that pauses a limit; raise InvalidInput that names the field."""
    check_reason(why)
    ends = end_of_pause(until, now_ms)
    return LimitChangeRequested(target.name, LimitAction.PAUSE, target.key, until=ends, by=by, why=why)


def undo_request(target: LimitTarget, action: LimitAction, by: str, why: str) -> LimitChangeRequested:
    """Return the request that resumes a limit, or resets it; raise InvalidInput for a long reason."""
    check_reason(why)
    return LimitChangeRequested(target.name, action, target.key, by=by, why=why)
