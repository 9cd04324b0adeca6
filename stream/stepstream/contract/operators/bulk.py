"""The records of bulk operations: one action on many runs, which the engine performs at a limited rate."""

import re
from enum import StrEnum

import msgspec

from stepstream.contract.codec import TypedRecord
from stepstream.contract.limits import OPERATION_ID_CHARACTERS_MAX
from stepstream.contract.operators.control import RerunRequested

_OPERATION_ID = re.compile(rf"[0-9A-Za-z][0-9A-Za-z._-]{{0,{OPERATION_ID_CHARACTERS_MAX - 1}}}")


class BulkAction(StrEnum):
    """What a bulk operation does with each of its runs."""

    CANCEL = "cancel"
    RERUN = "rerun"
    PAUSE = "pause"
    RESUME = "resume"


class BulkState(StrEnum):
    """The state of a bulk operation; the last three are final."""

    RECEIVING = "receiving"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


# The outcomes of runs on which an operation could not act: their requests failed, or were lost.
FAILED, UNANSWERED = "failed", "unanswered"
OPEN_BULK_STATES = (BulkState.RECEIVING, BulkState.RUNNING)


class BulkItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run of a bulk operation, with the request for it if the action is a rerun."""

    run_id: str
    rerun: RerunRequested | None = None


class BulkStarted(TypedRecord, frozen=True, tag="bulk.started"):
    """A caller starts a bulk operation, whose runs follow in pages; `rate` is how many per second are acted on.

    Pauses end at `until` (Unix ms, 0: when an operator ends them). `filter` found the runs, empty if they were named.
    A repeated start of an operation whose pages have all arrived changes nothing. An unfinished `upload` of its pages
    is replaced by another one. The process named `reply_to` expects an answer: the state of the operation.
    """

    operation: str
    upload: str
    action: BulkAction
    rate: int
    by: str = ""
    why: str = ""
    reply_to: str = ""
    until: int = 0
    filter: str = ""


class BulkPageAdded(TypedRecord, frozen=True, tag="bulk.page_added"):
    """Runs of a bulk operation, of which `first` is the number of the first, from 0; it runs once it has the `last`.

    The answer is the state of the operation.
    """

    operation: str
    upload: str
    first: int
    items: tuple[BulkItem, ...]
    last: bool = False
    reply_to: str = ""


class BulkItemEnded(TypedRecord, frozen=True, tag="bulk.item_ended"):
    """The outcome of one run of a bulk operation, given by its number; `reason` says why it failed."""

    operation: str
    item: int
    outcome: str
    reason: str = ""


class BulkCancelRequested(TypedRecord, frozen=True, tag="bulk.cancel_requested"):
    """A caller stops a bulk operation: the runs that it did not act on yet stay as they are.

    The answer is `cancelled`, or the final state that the operation had already.
    """

    operation: str
    by: str = ""
    reply_to: str = ""


BulkRequest = BulkStarted | BulkPageAdded | BulkCancelRequested
BulkRecord = BulkRequest | BulkItemEnded


class BulkFailure(msgspec.Struct, frozen=True):
    """A run on which a bulk operation could not act, and the reason."""

    run_id: str
    reason: str


class BulkChanged(msgspec.Struct, frozen=True, tag_field="type", tag="bulk.changed", omit_defaults=True):
    """The state of a bulk operation, when it changes, and once a second at most while it runs.

    Of its `total` runs, requests for `sent` were sent, and `outcomes` counts the answers to these by what they say.
    `ended_by` is who cancelled it; `failures` are the first runs that failed. The pauses of its runs end at `until`
    (Unix ms, 0: when an operator ends them). `filter` found the runs, empty if they were named.
    """

    operation: str
    seq: int
    at: int
    action: BulkAction
    state: BulkState
    rate: int
    started_at: int
    by: str = ""
    why: str = ""
    total: int = 0
    sent: int = 0
    outcomes: tuple[tuple[str, int], ...] = ()
    ended_by: str = ""
    until: int = 0
    failures: tuple[BulkFailure, ...] = ()
    filter: str = ""


def is_operation_id(text: str) -> bool:
    """Return whether a text can be the id of a bulk operation."""
    return _OPERATION_ID.fullmatch(text) is not None
