"""The row of the values that the code of a run sets: apart from the run, which is written with each of its steps."""

import msgspec

from stepstream.contract.run_state import StateValues


class RunValues(msgspec.Struct, frozen=True):
    """The state that the code of an open run has set."""

    values: StateValues
