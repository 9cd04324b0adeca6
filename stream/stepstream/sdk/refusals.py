"""Limits that refuse the runs of functions beyond them: such a run is skipped, and its code never starts."""

from dataclasses import dataclass

from stepstream.contract.errors import InvalidDuration, InvalidInput
from stepstream.contract.gates import Excess, GateRule
from stepstream.contract.text.durations import Duration, duration_ms
from stepstream.expressions.errors import ExpressionError
from stepstream.sdk.errors import DefinitionError
from stepstream.sdk.flow_control import check_key, check_rate, limit_name


@dataclass(frozen=True, slots=True)
class RateLimit:
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
            raise DefinitionError(f"RateLimit: {error}") from None


def refusal_rules(function: str, rate_limit: RateLimit | None) -> tuple[GateRule, ...]:
    """Return the limits of a function that refuse runs, in the order in which its runs ask for them."""
    rules: list[GateRule] = []
    if rate_limit is not None:
        if not isinstance(rate_limit, RateLimit):
            raise DefinitionError(f'function {function!r}: write rate_limit=RateLimit(10, "1m")')
        name = limit_name("rate limit", f"function {function}", rate_limit.key)
        period_ms, burst, key = duration_ms(rate_limit.period), rate_limit.burst, rate_limit.key
        rules.append(GateRule(name, rate_limit.limit, period_ms, burst, key, Excess.RATE_LIMITED))
    return tuple(rules)
