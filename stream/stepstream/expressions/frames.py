"""The frame of one evaluation: the values of its variables and the rest of its budget of work."""

from typing import Any, TypeAlias

from stepstream.expressions.errors import OverBudget
from stepstream.expressions.limits import EVALUATION_VISITS_MAX

# A CEL value: None, bool, int, Uint, float, str, bytes, list, a mapping with string keys, datetime, timedelta, CelType.
Value: TypeAlias = Any


class Frame:
    """The variables by slot, and the budget that is left."""

    __slots__ = ("variables", "visits_left")

    def __init__(self, variables: list[Value]) -> None:
        self.variables = variables
        self.visits_left = EVALUATION_VISITS_MAX

    def charge(self, visits: int) -> None:
        """Take `visits` from the budget; raise OverBudget if it is exceeded."""
        self.visits_left -= visits
        if self.visits_left < 0:
            raise OverBudget(
                f"the evaluation took more than {EVALUATION_VISITS_MAX:,} visits; "
                "test fewer elements, or put a cheaper condition outside the all, exists, map or filter"
            )
