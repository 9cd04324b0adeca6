"""The steps that a run's code calls, from the call to the first await: their identities, and the wrong uses of them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from stepstream.contract.ids import StepHash, step_hash
from stepstream.sdk.errors import RunInterrupted, StepLimitError, StepUsageError
from stepstream.sdk.replay.calls import Call
from stepstream.sdk.replay.fingerprints import Fingerprints, fingerprint
from stepstream.sdk.replay.identities import Identities
from stepstream.sdk.replay.operations import Operations
from stepstream.sdk.replay.results import Results
from stepstream.sdk.replay.tasks import Scope, Unordered, current_body, run_task


class Created(NamedTuple):
    """A step that the code has called: its number among the tasks and steps of the run, and the use of its id."""

    step_id: str
    number: int
    use: int


class Discovery:
    """Gives each step of a run its identity where the code calls it, and its call where the code awaits it.

    It calls `reject` with the reason when a step does not fit the history of the run, and `warn` when that is harmless.
    """

    def __init__(
        self,
        scope: Scope,
        results: Results,
        operations: Operations,
        steps_max: int,
        *,
        warn: Callable[[str], None],
        reject: Callable[[str], NoReturn],
    ) -> None:
        self._scope = scope
        self._results = results
        self._operations = operations
        self._identities = Identities(steps_max)
        self._fingerprints = Fingerprints(operations.calls)
        self._changed: dict[str, None] = {}
        self._warn = warn
        self._reject = reject
        self._unawaited: dict[int, str] = {}

    @property
    def unawaited(self) -> list[str]:
        """The ids of the steps that were called and not awaited."""
        return list(self._unawaited.values())

    @property
    def limit_error(self) -> StepLimitError | None:
        """The error of the step that exceeded the limit, if any; the run fails with it, even if it was caught."""
        return self._identities.limit_error

    def created(self, step_id: str) -> Created:
        """Number a step that the code has called."""
        if current_body.get():
            return Created(step_id, -1, 0)  # discover() refuses it, and a replay does not run the body again.
        created = Created(step_id, next(self._scope.numbers), self._identities.number(step_id))
        self._unawaited[created.number] = step_id
        return created

    def dismissed(self, created: Created) -> None:
        """Note that a step that was called needs no await: it was cancelled before."""
        self._unawaited.pop(created.number, None)

    def discover(
        self, created: Created, call_of: Callable[[StepHash], Call], group: str, arguments: Mapping[str, Any]
    ) -> Call:
        """Return the call of a step that the code awaits; raise StepUsageError or StepLimitError for a wrong one."""
        self._unawaited.pop(created.number, None)
        self._check_place(created.step_id)
        activity = self._scope.activity
        task = None if activity.threads else run_task()
        if task is not None and task.membership is not None:
            _check_order(created.step_id, *task.membership)
        call = self._call(created, call_of)
        call.arguments = arguments
        self._check_arguments(call, created.use)
        call.group = group
        call.task = task
        self._operations.discover(call)
        return call

    def _check_place(self, step_id: str) -> None:
        if outer := current_body.get():
            raise StepUsageError(
                f"step {step_id!r} is inside the body of step {outer.step!r}; a step cannot contain another: "
                "return from the first, then call the second"
            )
        if self._scope.activity.aborted:
            raise RunInterrupted
        if self._scope.activity.closed:
            raise StepUsageError(f"step {step_id!r} comes after the end of its run; await all steps in the function")

    def _call(self, created: Created, call_of: Callable[[StepHash], Call]) -> Call:
        call = call_of(self._identities.identify(created.step_id, created.use))
        kept = self._results.kind_of(call.step) or self._operations.kind_of(call.step)
        if kept and kept != call.kind:
            self._reject(
                f"step {created.step_id!r} was of kind '{kept}' and is of kind '{call.kind}' now; "
                "give the new step another id"
            )
        return call

    def _check_arguments(self, call: Call, use: int) -> None:
        stored = self._results.fingerprint_of(call.step) or self._operations.fingerprint_of(call.step)
        if not use and not stored:
            return
        has_changed = self._fingerprints.has_changed(call, use, stored)
        if self._fingerprints.is_reordered(call.id):
            self._reject(
                f"steps with the id {call.id!r} are called in another order than before, and their results would be "
                "mixed up; put the item into the id, or call them in a fixed order, not in that of a set"
            )
        if has_changed:
            self._changed[call.id] = None

    def warn_of_changes(self) -> None:
        """Warn of changed arguments. Called once the code is blocked, when a changed order would have been detected."""
        for step_id in self._changed:
            self._warn(
                f"step {step_id!r} is called with other arguments than before, and keeps its result: the code has "
                "changed, or is not deterministic"
            )
        self._changed.clear()

    def close(self) -> None:
        """The code has ended or was aborted: it discovers no step from now on."""
        self._warn, self._reject = _ignore, _interrupt

    def stored_next(
        self, created: Created, call_of: Callable[[StepHash], Call], arguments: Mapping[str, Any]
    ) -> Call | None:
        """Return the call of a step whose stored result is the next one, for a thread that runs the code alone."""
        activity = self._scope.activity
        memo = self._results.first() if activity.is_sequential and not activity.closed else None
        if memo is None or memo.id != created.step_id or current_body.get():
            return None
        step = step_hash(created.step_id, created.use)
        if memo.step != step:
            return None
        call = call_of(step)
        call.arguments = arguments
        if memo.fingerprint:
            call.fingerprint = fingerprint(call)
        # A mismatch is reported by the event loop.
        return call if memo.kind == call.kind and memo.fingerprint in (0, call.fingerprint) else None


def _ignore(_text: str) -> None:
    pass


def _interrupt(_reason: str) -> NoReturn:
    raise RunInterrupted


def _check_order(step_id: str, unordered: Unordered, member: object) -> None:
    """Raise StepUsageError for an id that several coroutines use which asyncio starts in no fixed order."""
    if unordered.is_shared(step_id, member):
        raise StepUsageError(
            f"step {step_id!r} is used by several coroutines of one asyncio.as_completed, which starts them in no "
            "fixed order, so that a replay would mix up their results; put the item into the id, or create the tasks "
            "first: as_completed([asyncio.create_task(...) for ...])"
        )
