"""The records of what code says of its progress: the body of a step by heartbeats, a run by its state."""

from stepstream.contract.codec import NULL, Raw, TypedRecord
from stepstream.contract.run_state import StateValues


class HeartbeatReported(TypedRecord, frozen=True, tag="step.heartbeat_reported"):
    """The body of a step sent a heartbeat; not each one is reported.

    The worker has the report since `sent_at` (Unix ms); the other fields are those of StepFailed.
    """

    run_id: str
    epoch: int
    step: str
    id: str
    attempt: int
    sent_at: int
    progress: Raw = NULL
    group: str = ""
    started_at: int = 0
    queue: str = ""
    claim: str = ""
    fingerprint: int = 0


class StateSet(TypedRecord, frozen=True, tag="run.state_set"):
    """The code of a run set its state: `state` is all of it. The same state again changes nothing."""

    run_id: str
    epoch: int
    state: StateValues


ProgressRecord = HeartbeatReported | StateSet
