"""Limits with a name, which several functions share."""

import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from stepstream.contract.errors import InvalidDuration, InvalidInput
from stepstream.contract.gates import GateRule
from stepstream.contract.limits import (
    LIMITS_PER_APP_CHECKED_MAX,
    LIMITS_PER_APP_MAX,
    LIMITS_PER_FUNCTION_MAX,
    UNITS_PER_STEP_MAX,
)
from stepstream.contract.text.durations import Duration, duration_ms
from stepstream.contract.text.wording import counted, duration_text
from stepstream.expressions.errors import ExpressionError
from stepstream.sdk.errors import DefinitionError
from stepstream.sdk.flow_control import Weight, check_fair, check_key, check_limit, check_rate, weight_text

# No name of another limit is of this form: these have spaces.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# The caller of the class, above `__init__` and `__post_init__`.
_FRAMES = 3


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that functions share by its name: `openai = Limit("openai", 60, "1m")`, and `limits=[openai]` in each.

    With a period it limits how many runs start, as `Throttle` does; without one, how many are open, as `Concurrency`.
    Runs beyond it are queued, in the order in which they were admitted. `ctx.step.options(limit=openai)` limits bodies
    of steps instead of runs. Functions of all apps in the namespace share a limit; then write the same numbers in each
    app: those of the latest request count.

    Args:
        name: At most 100 characters of A-Z, a-z, 0-9, `.`, `_` and `-`.
        limit: The number of runs or bodies, from 1 to 1,000,000.
        period: The period, at most 366 days; 0 limits how many runs are open, or bodies run.
        burst: How many more may start at once after a pause.
        key: As in `Concurrency`: each value of the expression has its own limit.
        counts: With `"units"` it counts what bodies of steps use, such as tokens, not starts; see `step.options`.
        fair: As in `Concurrency`: what waits is in a sub-queue for each value of the expression, and these share it.
        weight: As in `Concurrency`.

    Raises `DefinitionError`, with the position and the reason.
    """

    name: str
    limit: int
    period: Duration = 0
    burst: int = 0
    key: str = ""
    counts: Literal["starts", "units"] = "starts"
    fair: str = ""
    weight: Weight = 1
    defined_at: str = field(default="", init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Raise DefinitionError for a limit that is not valid; note where it is defined."""
        frame = traceback.extract_stack(limit=_FRAMES)[0]
        object.__setattr__(self, "defined_at", f"{frame.filename}:{frame.lineno}")
        try:
            if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
                characters = "A-Z, a-z, 0-9, '.', '_' and '-'"
                raise InvalidInput(f"{self.name!r} is no name of 1 to 100 characters of {characters}", "name")
            if self.period == 0:
                check_limit(self.limit, "limit", 1)
                if self.burst:
                    raise InvalidInput("a limit without a period has no burst", "burst")
            else:
                check_rate(self.limit, self.period, self.burst)
            check_key(self.key)
            check_fair(self.fair, self.weight)
            if self.counts not in ("starts", "units"):
                raise InvalidInput(f'{self.counts!r} is not "starts" or "units"', "counts")
            if self.counts == "units" and not self.period:
                raise InvalidInput("a limit on units has a period", "counts")
        except (InvalidInput, InvalidDuration, ExpressionError) as error:
            raise DefinitionError(f"Limit: {error}") from None

    @property
    def rule(self) -> GateRule:
        """The limit as a function registers it."""
        numbers = self.limit, duration_ms(self.period), self.burst, self.key
        metered, weight = self.counts == "units", weight_text(self.weight)
        return GateRule(self.name, *numbers, metered=metered, fair=self.fair, weight=weight)

    @property
    def step_rule(self) -> GateRule:
        """The limit as a step asks for it: without a period it counts the bodies that are running."""
        return replace(self.rule, steps=not self.period)

    def __str__(self) -> str:
        """Return the numbers as text for people."""
        rule = self.rule
        what = "unit" if rule.metered else "start"
        numbers = f"{counted(rule.limit, what)} in {duration_text(rule.period_ms)}" if rule.period_ms else ""
        burst, key = f", burst {rule.burst}" if rule.burst else "", f" by {rule.key}" if rule.key else ""
        weight = f" with weight {rule.weight}" if rule.weight else ""
        fair = f", fair by {rule.fair}{weight}" if rule.fair else ""
        return f"{numbers or counted(rule.limit, 'open run')}{burst}{key}{fair}"


class AppLimits:
    """The named limits of an app, by which it refuses uses of them that do not go together."""

    def __init__(self, declared: Sequence[Limit] = ()) -> None:
        self.declared = check_limits("App(limits=)", declared, LIMITS_PER_APP_MAX)
        self._known = {limit.name: limit for limit in self.declared}
        self._of_runs: dict[str, str] = {}

    def add(self, function: str, limits: Sequence[Limit]) -> None:
        """Add the limits on the runs of a function; raise DefinitionError if one of them differs elsewhere."""
        for limit in limits:
            self._check_same(limit)
            if limit.counts == "units":
                raise DefinitionError(
                    f"function {function!r}: limits=: {limit.name!r} counts units, and runs use none; write "
                    "ctx.step.options(limit=, units=) for the steps that use them"
                )
            self._of_runs.setdefault(limit.name, function)

    def of_step(self, limit: object) -> tuple[GateRule, ...]:
        """Return the limits of a step as it asks for them, in the order of their names, which is the same everywhere.

        Raises DefinitionError for a value that is not a limit, for one that differs elsewhere, and for one that open
        runs hold: a body could wait for a permit that its own run holds, or two runs for each other.
        """
        place = "options(limit=)"
        limits = check_limits(place, (limit,) if isinstance(limit, Limit) else limit)
        for each in limits:
            self._check_same(each)
            if (function := self._of_runs.get(each.name)) and not each.period:
                raise DefinitionError(
                    f"{place}: the limit {each.name!r} counts the open runs of function {function!r}, so a step could "
                    "wait for a permit that its own run holds; define another Limit for steps"
                )
        return tuple(each.step_rule for each in sorted(limits, key=lambda each: each.name))

    def _check_same(self, limit: Limit) -> None:
        known = self._known.get(limit.name, limit)
        if known.rule != limit.rule:
            raise DefinitionError(
                f"limit {limit.name!r} is {known} at {known.defined_at}, and {limit} at {limit.defined_at}: "
                "define it once, and use it in both places"
            )
        if len(self._known) < LIMITS_PER_APP_CHECKED_MAX:
            self._known[limit.name] = known


def checked_estimate(limits: Sequence[GateRule], units: int | str) -> str:
    """Return the units for which a step asks, as a text; raise DefinitionError unless its limits fit them."""
    metered = [limit.name for limit in limits if limit.metered]
    if metered and units == "":
        raise DefinitionError(
            f"options(limit=): the limit {metered[0]!r} counts units: say how many a body uses, with units=500 or "
            'units="a CEL expression on event"'
        )
    if units != "" and not metered:
        remedy = 'write limit=Limit("tokens", 90_000, "1m", counts="units") beside it'
        raise DefinitionError(f"options(units=): no limit of the step counts units; {remedy}")
    try:
        if isinstance(units, str):
            check_key(units)
            return units
        return str(checked_units(units))
    except (InvalidInput, ExpressionError) as error:
        raise DefinitionError(f"options(units=): {error}") from None


def checked_units(units: object) -> int:
    """Return a number of units; raise InvalidInput if it is none."""
    if not isinstance(units, int) or isinstance(units, bool) or not 0 <= units <= UNITS_PER_STEP_MAX:
        raise InvalidInput(f"{units!r} is not a whole number from 0 to {UNITS_PER_STEP_MAX:,}", "units")
    return units


def check_limits(place: str, limits: object, most: int = LIMITS_PER_FUNCTION_MAX) -> tuple[Limit, ...]:
    """Return the named limits of a function, step or app; raise DefinitionError unless they are different ones."""
    if not isinstance(limits, Sequence) or not all(isinstance(each, Limit) for each in limits):
        raise DefinitionError(f'{place}: write a list, such as limits=[Limit("openai", 60, "1m")]')
    if len({each.name for each in limits}) < len(limits):
        raise DefinitionError(f"{place}: two limits have the same name")
    if len(limits) > most:
        raise DefinitionError(f"{place}: at most {most} limits are allowed")
    return tuple(limits)


def in_order(waiting: Sequence[GateRule], limits: Sequence[Limit]) -> tuple[GateRule, ...]:
    """Return the limits for which the runs of a function wait, in the order in which they ask for them.

    Limits on starts precede those on open runs, so that a run that waits for its start holds no permit. Named ones are
    asked for last, by name: the order is the same in all functions, so no two runs wait for permits of each other.
    """
    named = sorted((limit.rule for limit in limits), key=lambda rule: rule.name)
    starts = [rule for rule in (*waiting, *named) if rule.period_ms]
    return (*starts, *(rule for rule in (*waiting, *named) if not rule.period_ms))
