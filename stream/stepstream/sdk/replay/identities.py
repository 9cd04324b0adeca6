"""The identities of a run's steps: the hash of a step's id and of how often the code has used that id before."""

from stepstream.contract.ids import StepHash, step_hash
from stepstream.contract.limits import STEP_ID_CHARACTERS_MAX
from stepstream.sdk.errors import StepLimitError, StepUsageError


class Identities:
    """The identities of one run so far.

    A step gets its use number where the code calls it, which is the same place in every replay. Where it is awaited
    may depend on the iteration order of a set, as in asyncio.as_completed. `limit_error` is set once the code awaits
    one step too many.
    """

    def __init__(self, steps_max: int) -> None:
        self.limit_error: StepLimitError | None = None
        self._steps_max = steps_max
        self._uses: dict[str, int] = {}
        self._steps: dict[str, tuple[str, int]] = {}

    def number(self, step_id: str) -> int:
        """Return how often the code has called a step of this id before."""
        if not isinstance(step_id, str):
            return 0  # identify() refuses it.
        use = self._uses.get(step_id, 0)
        self._uses[step_id] = use + 1
        return use

    def identify(self, step_id: str, use: int) -> StepHash:
        """Return the identity of a step that the code awaits; raise StepUsageError or StepLimitError."""
        if not isinstance(step_id, str) or not 0 < len(step_id) <= STEP_ID_CHARACTERS_MAX or not _encodes(step_id):
            raise StepUsageError(
                f"step id {step_id!r} is not valid: use a string of 1 to {STEP_ID_CHARACTERS_MAX} characters "
                "without lone surrogates"
            )
        step = step_hash(step_id, use)
        other = self._steps.setdefault(step, (step_id, use))
        if other != (step_id, use):
            raise StepUsageError(
                f"step id {step_id!r} collides with use {other[1] + 1} of step {other[0]!r}; rename one of them"
            )
        if len(self._steps) > self._steps_max:
            self.limit_error = StepLimitError(
                f"step {step_id!r} exceeds the limit of {self._steps_max:,} steps in one run; "
                "split the work over several runs by step.invoke or step.send_event"
            )
            raise self.limit_error
        return step


def _encodes(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
