"""The identities of a run's steps: the hash of an id and of how often it was used, within the limits of a run."""

from stepstream.contract.ids import StepHash, step_hash
from stepstream.contract.limits import STEP_ID_CHARACTERS_MAX
from stepstream.sdk.errors import StepLimitError, StepUsageError


class Identities:
    """Those given in one run so far; `too_many` is the error of a step too many, once there was one."""

    def __init__(self, steps_max: int) -> None:
        self.too_many: StepLimitError | None = None
        self._steps_max = steps_max
        self._uses: dict[str, int] = {}
        self._ids: dict[str, tuple[str, int]] = {}

    def give(self, step_id: str) -> StepHash:
        """Return the identity of the next use of an id; raise StepUsageError or StepLimitError when it cannot be."""
        if not isinstance(step_id, str) or not 0 < len(step_id) <= STEP_ID_CHARACTERS_MAX:
            raise StepUsageError(f"step id {step_id!r}: text of 1 to {STEP_ID_CHARACTERS_MAX} characters is wanted")
        use = self._uses.get(step_id, 0)
        self._uses[step_id] = use + 1
        step = step_hash(step_id, use)
        other = self._ids.setdefault(step, (step_id, use))
        if other != (step_id, use):
            raise StepUsageError(
                f"step id {step_id!r} has the identity of use {other[1] + 1} of step {other[0]!r}; rename one of them"
            )
        if len(self._ids) > self._steps_max:
            self.too_many = StepLimitError(
                f"step {step_id!r} is one more than the {self._steps_max:,} steps that a run may have; "
                "split the work over several runs by step.invoke or step.send_event"
            )
            raise self.too_many
        return step
