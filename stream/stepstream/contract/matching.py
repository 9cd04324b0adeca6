"""The records of `inbox` by which shards match events and signals with the steps that wait for them."""

import msgspec

from stepstream.contract.codec import EMPTY_OBJECT, Raw, TypedRecord
from stepstream.contract.events import EventRecord
from stepstream.contract.ids import Bucket, StepRef


class EventRouted(TypedRecord, frozen=True, tag="event.routed"):
    """An event, sent to the shard that owns its name; `arrived_at` is when the log took it (Unix ms)."""

    event: EventRecord
    arrived_at: int = 0


class EventForwarded(TypedRecord, frozen=True, tag="event.forwarded"):
    """An event, sent by the shard of its name to the shard of a bucket."""

    event: EventRecord
    bucket: Bucket
    arrived_at: int = 0


class MatchContinued(TypedRecord, frozen=True, tag="match.continued"):
    """The next waits of a bucket are due to be evaluated against its queued events."""

    bucket: Bucket


class Predicate(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an event must satisfy: all equalities of (path, index key), and the residual CEL under its bindings."""

    equalities: tuple[tuple[str, str], ...] = ()
    residual: str = ""
    bindings: Raw = EMPTY_OBJECT


class WaitOpened(TypedRecord, frozen=True, tag="wait.opened"):
    """A step waits for an event; sent to the shard of the event name, which places the wait in `bucket`.

    With `lookback_from` (Unix ms, 0: no look-back) an event that was kept since then ends it, except `trigger_id`.
    A wait that belongs to a run and not to a step has a waiter of `ids.cancel_waiter`, and may never expire
    (TIMESTAMP_MS_MAX).
    """

    waiter: StepRef
    bucket: Bucket
    predicate: Predicate
    expires_at: int
    lookback_from: int = 0
    trigger_id: str = ""


class WaitPlaced(TypedRecord, frozen=True, tag="wait.placed"):
    """A wait, sent by the shard of the event name to the shard of its bucket; the event `trigger_id` cannot end it."""

    waiter: StepRef
    bucket: Bucket
    predicate: Predicate
    expires_at: int
    trigger_id: str = ""


class WaitRenewed(TypedRecord, frozen=True, tag="wait.renewed"):
    """A run still waits in `bucket`, without a time limit; sent to the shard of the event name, as the wait was."""

    bucket: Bucket


class WaitClosed(TypedRecord, frozen=True, tag="wait.closed"):
    """A step no longer waits; sent to the shard of the event name, as the wait was.

    `looking_back` says that the wait was opened with a look-back. If it has `expired`, the step expects an answer: a
    timeout, unless an event ended the wait before.
    """

    waiter: StepRef
    bucket: Bucket
    looking_back: bool = False
    expired: bool = False


class WaitRemoved(TypedRecord, frozen=True, tag="wait.removed"):
    """A step no longer waits; sent by the shard of the event name to the shard of the bucket.

    `expired` is that of WaitClosed.
    """

    waiter: StepRef
    bucket: Bucket
    expired: bool = False


class EventMatched(TypedRecord, frozen=True, tag="event.matched"):
    """An event ends the wait of a step, or cancels a run; it arrived at `arrived_at` (Unix ms, 0: before the wait)."""

    run_id: str
    step: str
    event: EventRecord
    arrived_at: int = 0


class IndexContinued(TypedRecord, frozen=True, tag="lookback.index_continued"):
    """The next kept events of a name are due to be indexed by a path, or the look-backs that waited for that to start.

    Those up to `started` have been started.
    """

    event: str
    path: str
    started: StepRef | None = None


class LookBackContinued(TypedRecord, frozen=True, tag="lookback.continued"):
    """The next kept events are due to be evaluated for a wait whose look-back uses the index of `bucket`."""

    bucket: Bucket
    waiter: StepRef


class LookBackTruncated(TypedRecord, frozen=True, tag="lookback.truncated"):
    """A look-back evaluates only the newest kept events, because no equality finds those of its wait."""

    run_id: str
    step: str
    event: str


class SignalWaitOpened(TypedRecord, frozen=True, tag="signal_wait.opened"):
    """A step waits for a signal; with `replace` it takes the name over from a step that waits already."""

    waiter: StepRef
    signal: str
    expires_at: int
    replace: bool = False


class SignalWaitClosed(TypedRecord, frozen=True, tag="signal_wait.closed"):
    """A step no longer waits for a signal."""

    waiter: StepRef
    signal: str


MatchingRecord = (
    EventRouted
    | EventForwarded
    | MatchContinued
    | IndexContinued
    | LookBackContinued
    | LookBackTruncated
    | WaitOpened
    | WaitPlaced
    | WaitRenewed
    | WaitClosed
    | WaitRemoved
    | EventMatched
    | SignalWaitOpened
    | SignalWaitClosed
)
