"""The record of what the body of a step says of its progress while it runs."""

from stepstream.contract.codec import NULL, Raw, TypedRecord


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
