"""The plans of steps: what the code requests of the engine in one activation."""

import msgspec

from stepstream.contract.codec import EMPTY_OBJECT, NULL, Raw, TypedRecord
from stepstream.contract.events import EventRecord
from stepstream.contract.gates import GateRule
from stepstream.contract.operators.approvals import ApprovalRequest
from stepstream.contract.operators.run_requests import AcceptedRequest


class RunPlan(TypedRecord, frozen=True, tag="run"):
    """Run the body of a step in the workers of a `queue`, or where its run is if that is empty; limits may delay it.

    Each attempt passes the `limits` of this step, beside those of its function on all steps, and asks those that are
    metered for `units`: a number, or a CEL expression on `event`. The first attempt of a step that is `covered` passes
    no limits that count code: it runs by the permit of its run.
    The `fingerprint` of a plan is a checksum of the step's arguments, by which a replay notices that it calls steps of
    one id in another order; 0 where the id has one use. The engine only stores it. A step of an SDK of another language
    has the version of its requests there.
    """

    step: str
    id: str
    queue: str
    group: str = ""
    fingerprint: int = 0
    limits: tuple[GateRule, ...] = ()
    units: str = ""
    covered: bool = False


class SleepPlan(TypedRecord, frozen=True, tag="sleep"):
    """Sleep until `until` (Unix ms)."""

    step: str
    id: str
    until: int
    group: str = ""
    fingerprint: int = 0


class WaitBranch(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the events that a step waits for, and its `name` in the code; the other fields are those of WaitPlan."""

    name: str
    event: str
    match: str = ""
    condition: str = ""
    lookback_ms: int = 0


class WaitPlan(TypedRecord, frozen=True, tag="wait"):
    """Wait for an event; `match` is a path, `condition` a CEL expression, at most one of them is given.

    With `branches` it waits for the first of several events, or for `every` one of them, and has no event of its own.
    """

    step: str
    id: str
    event: str
    timeout_ms: int
    match: str = ""
    condition: str = ""
    lookback_ms: int = 0
    group: str = ""
    fingerprint: int = 0
    branches: tuple[WaitBranch, ...] = ()
    every: bool = False


class SignalPlan(TypedRecord, frozen=True, tag="signal"):
    """Wait for a signal; with `approval`, for the answer of a person, and with `request` for a request with data."""

    step: str
    id: str
    signal: str
    timeout_ms: int
    replace: bool = False
    group: str = ""
    fingerprint: int = 0
    approval: ApprovalRequest | None = None
    request: AcceptedRequest | None = None


class SendPlan(TypedRecord, frozen=True, tag="send"):
    """Send events."""

    step: str
    id: str
    events: tuple[EventRecord, ...]
    group: str = ""
    fingerprint: int = 0


class InvokePlan(TypedRecord, frozen=True, tag="invoke"):
    """Run another function and wait for its result; `data`, `user`, `v` and `meta` are those of its event.

    With `cancel_with_parent` the other run is cancelled when this one ends.
    """

    step: str
    id: str
    function: str
    timeout_ms: int
    data: Raw = EMPTY_OBJECT
    group: str = ""
    fingerprint: int = 0
    cancel_with_parent: bool = False
    user: Raw = NULL
    v: str = ""
    meta: Raw = NULL


StepPlan = RunPlan | SleepPlan | WaitPlan | SignalPlan | SendPlan | InvokePlan
