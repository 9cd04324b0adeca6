"""The identities of a run's steps: the hash of an id and of how often it was used, within the limits of a run."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from stepstream.contract.commands import Memo, Open
from stepstream.contract.ids import StepHash, step_hash
from stepstream.contract.limits import STEP_ID_CHARACTERS_MAX
from stepstream.sdk.calls import Call
from stepstream.sdk.errors import StepLimitError, StepUsageError


class KindChanged(NamedTuple):
    """An identity under which earlier code had a step of another kind, whose result the code cannot use."""

    step: StepHash
    warning: str


class Identities:
    """The identities given in one run so far; `too_many` is the error of the step that exceeded the limit, if any."""

    def __init__(self, steps_max: int) -> None:
        self.too_many: StepLimitError | None = None
        self._steps_max = steps_max
        self._uses: dict[str, int] = {}
        self._ids: dict[str, tuple[str, int]] = {}

    def name(
        self,
        call_of: Callable[[StepHash], Call],
        step_id: str,
        memos: Mapping[str, Memo],
        opened: Mapping[str, Open],
    ) -> tuple[Call, KindChanged | None]:
        """Return the call of the next use of an id; raise StepUsageError or StepLimitError when there can be none.

        If a step of another kind is stored under that identity, the call gets another one, as if its id had changed.
        """
        call = call_of(self._give(step_id))
        kept = memos.get(call.step) or opened.get(call.step)
        if kept is None or kept.kind == call.kind:
            return call, None
        warning = (
            f"step {step_id!r} was of kind '{kept.kind}' and is of kind '{call.kind}' now: the code has changed, "
            "so it runs as a new step, and the stored result of the old one is not used"
        )
        renamed = call_of(self._claim(f"{step_id} ({call.kind})", self._uses[step_id] - 1))
        return renamed, KindChanged(call.step, warning)

    def _give(self, step_id: str) -> StepHash:
        if not isinstance(step_id, str) or not 0 < len(step_id) <= STEP_ID_CHARACTERS_MAX or not _encodes(step_id):
            raise StepUsageError(
                f"step id {step_id!r} is not valid: use a string of 1 to {STEP_ID_CHARACTERS_MAX} characters "
                "without lone surrogates"
            )
        use = self._uses.get(step_id, 0)
        self._uses[step_id] = use + 1
        return self._claim(step_id, use)

    def _claim(self, step_id: str, use: int) -> StepHash:
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


def _encodes(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
