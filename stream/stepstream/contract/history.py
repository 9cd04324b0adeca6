"""The records of `history`: what happened to a run, numbered from 1 without gaps, and to bulk operations."""

import msgspec

from stepstream.contract.attributes import Attributes
from stepstream.contract.codec import NULL, Raw
from stepstream.contract.continuations import Continuation
from stepstream.contract.events import EventRecord, EventRef
from stepstream.contract.gates import Gate, PassedGate
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.model_usage import ModelUsage
from stepstream.contract.operators.approvals import ApprovalRequest
from stepstream.contract.operators.bulk import BulkChanged
from stepstream.contract.operators.control import Pause, Rerun
from stepstream.contract.operators.run_requests import AcceptedRequest
from stepstream.contract.outcomes import ErrorInfo, Outcome
from stepstream.contract.run_state import StateValues


class _Entry(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    run_id: str
    seq: int
    at: int


class RunBegan(_Entry, frozen=True, tag="run.began"):
    """A run was accepted; it starts at `start_at`. `caller` is the run that invoked it.

    With a `rerun` it reruns another run; the results that it takes over follow as StepCopied. `attributes` are those
    that its function derives from the event. If its code has not begun by `deadline` (Unix ms, 0: none), a timeout
    cancels it. It is queued until it has passed its `gates`, which RunAdmitted says. It may be the successor of a run
    that continued as new, and then `continues` it.
    """

    function: str
    app: str
    start_at: int
    events: tuple[EventRecord, ...]
    caller: str = ""
    rerun: Rerun | None = None
    attributes: Attributes = {}
    deadline: int = 0
    gates: tuple[Gate, ...] = ()
    continues: Continuation | None = None


class RunAdmitted(_Entry, frozen=True, tag="run.admitted"):
    """The run has passed its gates, and its code starts or continues; it `waited_ms` for them.

    It holds the permits of those that it `passed` for this.
    """

    waited_ms: int = 0
    passed: tuple[PassedGate, ...] = ()


class RunWoken(_Entry, frozen=True, tag="run.woken"):
    """A run that was parked has something to do, and is queued for its limits on work until RunAdmitted follows.

    It returned its permits of these limits, and those of its steps, at `parked_at` (Unix ms).
    """

    parked_at: int = 0


class RunBatched(_Entry, frozen=True, tag="run.batched"):
    """The run is that of a batch: it has these `events`, its own first. The runs of the others end as skipped."""

    events: tuple[EventRecord, ...]


class StepPlanned(_Entry, frozen=True, tag="step.planned"):
    """A step waits for time, an event, a signal, a queue or another run; `detail` names it, `until` ends the wait.

    `approval` is what a person is asked, `request` the data that it accepts.
    """

    step: str
    id: str
    kind: StepKind
    detail: str = ""
    until: int = 0
    approval: ApprovalRequest | None = None
    request: AcceptedRequest | None = None


class StepAttemptFailed(_Entry, frozen=True, tag="step.attempt_failed"):
    """An attempt (from 0) of a step failed; the next is due at `retry_at`, and gets the `progress` (null: none).

    It began at `started_at` (Unix ms, 0: unknown). `usage` is what it used of a model. It returns the permits of the
    gates that it `passed`.
    """

    step: str
    id: str
    attempt: int
    error: ErrorInfo
    retry_at: int
    progress: Raw = NULL
    started_at: int = 0
    usage: ModelUsage | None = None
    passed: tuple[PassedGate, ...] = ()


class StepProgressed(_Entry, frozen=True, tag="step.progressed"):
    """The body of a step runs, and sent a heartbeat in an attempt (from 0) that began at `started_at`.

    `progress` is what the last heartbeat with a value said, null if there is none.
    """

    step: str
    id: str
    attempt: int
    progress: Raw = NULL
    started_at: int = 0


class StepEnded(_Entry, frozen=True, tag="step.ended"):
    """A step has its result; `attempt` counts from 0. `seen`, `own` and `fingerprint` are those of its memo.

    `by` says who sent the signal that ended it, if known. `usage` is what its last attempt used of a model, which
    returns the permits of the gates that it `passed`.
    """

    step: str
    id: str
    kind: StepKind
    outcome: Outcome
    attempt: int = 0
    started_at: int = 0
    seen: int = 0
    own: int = 0
    fingerprint: int = 0
    by: str = ""
    usage: ModelUsage | None = None
    passed: tuple[PassedGate, ...] = ()


class StepCopied(_Entry, frozen=True, tag="step.copied"):
    """A rerun took over the result of a step; the fields are those of its memo."""

    step: str
    id: str
    kind: StepKind
    outcome: Outcome
    seen: int = 0
    own: int = 0
    fingerprint: int = 0


class StepCancelled(_Entry, frozen=True, tag="step.cancelled"):
    """A planned step was cancelled by the code; its attempt returns the permits of the gates that it `passed`."""

    step: str
    id: str
    passed: tuple[PassedGate, ...] = ()


class RunAttemptFailed(_Entry, frozen=True, tag="run.attempt_failed"):
    """The code between steps raised; the next attempt is due at `retry_at`."""

    attempt: int
    error: ErrorInfo
    retry_at: int


class RunMoved(_Entry, frozen=True, tag="run.moved"):
    """A worker claimed the run and loaded it under a new epoch."""

    epoch: int


class RunWarned(_Entry, frozen=True, tag="run.warned"):
    """The run's code and its history disagree: the code was changed while the run was open."""

    warning: str


class AttributesChanged(_Entry, frozen=True, tag="run.attributes_changed"):
    """The code set attributes of the run; `attributes` are all that it has now."""

    attributes: Attributes


class StateChanged(_Entry, frozen=True, tag="run.state_changed"):
    """The code changed the state of the run; `state` has all of its values, by name."""

    state: StateValues


class RunPaused(_Entry, frozen=True, tag="run.paused"):
    """The run was paused, or its pause was changed."""

    pause: Pause


class RunUnpaused(_Entry, frozen=True, tag="run.unpaused"):
    """The pause of the run ended. `by` says who ended it, empty if its time had come, and `why` the reason.

    If it is `queued`, it waits for its limits on work from now on, as after RunWoken, and was parked at `parked_at`.
    """

    by: str = ""
    why: str = ""
    queued: bool = False
    parked_at: int = 0


class RunDeadlineChanged(_Entry, frozen=True, tag="run.deadline_changed"):
    """The code of a run with timeouts began, or the run has `expired`: it exceeded the time until its end.

    It is cancelled at `deadline` (Unix ms, 0: by no timeout) if it has not ended. One that has expired starts nothing
    further, and is cancelled sooner if no body of it runs.
    """

    deadline: int = 0
    expired: bool = False


class RunEnded(_Entry, frozen=True, tag="run.ended"):
    """The run ended: completed, failed, cancelled or skipped; `warnings` are all that were recorded for it.

    `cancelled_by` is the event that cancelled it, if one did, and `continued_by` the run as which it continued, if any.
    `raw` is that of Failure, and `non_retriable` that of RunFailed. It returns all permits, also those of gates
    that it `passed` since it was admitted, while it waited for a further one; those on work it returned at `parked_at`
    (Unix ms) if it was parked.
    """

    status: RunStatus
    function: str
    output: Raw = NULL
    error: ErrorInfo | None = None
    warnings: tuple[str, ...] = ()
    cancelled_by: EventRef | None = None
    continued_by: str = ""
    raw: Raw = NULL
    non_retriable: bool = False
    passed: tuple[PassedGate, ...] = ()
    parked_at: int = 0


HistoryEntry = (
    RunBegan
    | RunAdmitted
    | RunWoken
    | RunBatched
    | StepPlanned
    | StepAttemptFailed
    | StepProgressed
    | StepEnded
    | StepCopied
    | StepCancelled
    | RunAttemptFailed
    | RunMoved
    | RunWarned
    | AttributesChanged
    | StateChanged
    | RunPaused
    | RunUnpaused
    | RunDeadlineChanged
    | RunEnded
)
HistoryRecord = HistoryEntry | BulkChanged
decode_history = msgspec.json.Decoder(HistoryEntry).decode
decode_history_record = msgspec.json.Decoder(HistoryRecord).decode
