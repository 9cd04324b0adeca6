"""The records of `inbox` by which a wait that looks back meets the events that were kept."""

from stepstream.contract.codec import TypedRecord


class LookBackContinued(TypedRecord, frozen=True, tag="look-back.continued"):
    """The next kept events are due to be held against a wait: those after `number`, of `arrived_at` (ms)."""

    event: str
    run_id: str
    step: str
    arrived_at: int
    number: int


class LookBackEnded(TypedRecord, frozen=True, tag="look-back.ended"):
    """No kept event fulfils a wait, which stands with `path` equal to `value`: one that came meanwhile may end it."""

    event: str
    run_id: str
    step: str
    path: str = ""
    value: str = ""
