"""The state of a run: values by name that its code sets, for all who look at the run."""

from stepstream.contract.codec import Raw
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.limits import STATE_BYTES_MAX, STATE_NAMES_PER_RUN_MAX

StateValues = dict[str, Raw]


def check_state(values: StateValues) -> StateValues:
    """Return the state of a run; raise InvalidInput, or TooLarge, if it exceeds the limits of a run."""
    if len(values) > STATE_NAMES_PER_RUN_MAX:
        raise InvalidInput(
            f"{len(values)} names exceed the {STATE_NAMES_PER_RUN_MAX} that the state of a run may have; delete some, "
            "or put several values into one object",
            "state",
        )
    size = sum(len(name) + len(bytes(value)) for name, value in values.items())
    if size > STATE_BYTES_MAX:
        raise TooLarge(
            f"the state of the run would have {size:,} bytes, at most {STATE_BYTES_MAX:,} are kept; return large "
            "values from steps, or store them elsewhere",
            "state",
        )
    return values


def same_state(one: StateValues, other: StateValues) -> bool:
    """Return whether two states have the same names with the same JSON."""
    return one.keys() == other.keys() and all(bytes(one[name]) == bytes(other[name]) for name in one)
