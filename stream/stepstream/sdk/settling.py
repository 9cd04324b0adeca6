"""How many units of its limits the body of a step has used, in place of those for which it asked."""

from contextvars import ContextVar
from dataclasses import dataclass

from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import UNITS_PER_STEP_MAX
from stepstream.sdk.errors import StepUsageError


@dataclass(slots=True)
class Usage:
    """The units that an attempt has used, None if its body has not said so."""

    units: int | None = None


current_usage: ContextVar[Usage | None] = ContextVar("stepstream_usage", default=None)


def settle(units: int) -> None:
    """Note how many units the body that is running has used; raise StepUsageError outside of one."""
    usage = current_usage.get()
    if usage is None:
        raise StepUsageError("settle was called outside of the body of a step; call it there, with what the body used")
    usage.units = checked_units(units)


def checked_units(units: object) -> int:
    """Return a number of units; raise InvalidInput if it is none."""
    if not isinstance(units, int) or isinstance(units, bool) or not 0 <= units <= UNITS_PER_STEP_MAX:
        raise InvalidInput(f"{units!r} is not a whole number from 0 to {UNITS_PER_STEP_MAX:,}", "units")
    return units
