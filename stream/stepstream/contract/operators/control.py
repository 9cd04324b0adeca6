"""The records of `inbox` by which operators control runs."""

import msgspec

from stepstream.contract.codec import TypedRecord
from stepstream.contract.commands import Memo
from stepstream.contract.events import EventRecord
from stepstream.contract.ids import run_hash
from stepstream.contract.text.names import workers_name


class InvokeRequested(TypedRecord, frozen=True, tag="run.invoke_requested"):
    """A caller starts `function`, and no other one, by `event`; the same id of the event starts one run in 24 h.

    The process named `reply_to` expects an answer: the id of that run.
    """

    function: str
    event: EventRecord
    reply_to: str = ""

    @property
    def routing_key(self) -> str:
        """The routing key of the run, by which a repeated request reaches the shard of the first."""
        return run_hash(self.function, self.event.id)


class Rerun(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a run reruns another one: `origin` is the id of that run.

    `step` is the id of the step from which it is rerun, empty from the start. `by` says who asked for it, and `why`
    is the reason that was given. `bulk` is the bulk operation that started the run, if one did. `edited_data` says that
    the data of the event was replaced, and `edited_steps` has the hashes of the steps whose results were.
    """

    origin: str
    step: str = ""
    by: str = ""
    why: str = ""
    bulk: str = ""
    edited_data: bool = False
    edited_steps: tuple[str, ...] = ()


class BulkRef(msgspec.Struct, frozen=True):
    """The bulk operation that sends a request, and the number of the run in it; it expects the outcome."""

    operation: str
    item: int


class RerunRequested(TypedRecord, frozen=True, tag="run.rerun_requested"):
    """A caller reruns an ended run: `events` start the new run, which begins with the results in `memos`.

    The same `request` for the same origin starts one run in 24 h. The process named `reply_to` expects an answer: the
    id of that run.
    """

    request: str
    function: str
    rerun: Rerun
    events: tuple[EventRecord, ...]
    memos: tuple[Memo, ...] = ()
    reply_to: str = ""
    bulk: BulkRef | None = None

    @property
    def routing_key(self) -> str:
        """The routing key of the new run, by which a repeated request reaches the shard of the first."""
        return run_hash(self.function, f"rerun:{self.rerun.origin}:{self.request}")


class Pause(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pause that `by` asked for, for the reason `why`; it ends at `until` (Unix ms, 0: when an operator ends it)."""

    until: int = 0
    by: str = ""
    why: str = ""


class PauseRequested(TypedRecord, frozen=True, tag="run.pause_requested"):
    """A caller pauses a run, or changes its pause; the process named `reply_to` expects an answer: whether it is open.

    Bodies that run end, and their results are stored. No other body and no code starts until the pause ends.
    """

    run_id: str
    pause: Pause
    reply_to: str = ""
    bulk: BulkRef | None = None


class UnpauseRequested(TypedRecord, frozen=True, tag="run.unpause_requested"):
    """A caller ends the pause of a run; the process named `reply_to` expects an answer: whether it was paused."""

    run_id: str
    by: str = ""
    why: str = ""
    reply_to: str = ""
    bulk: BulkRef | None = None


class ScopePauseRequested(TypedRecord, frozen=True, tag="scope.pause_requested"):
    """A caller pauses a function or a queue, changes its pause, or resumes it (without a `pause`) as `by`, for `why`.

    The shard that owns the scope orders these requests. The process named `reply_to` expects an answer: whether the
    scope is paused, or was.
    """

    scope: str
    pause: Pause | None = None
    reply_to: str = ""
    by: str = ""
    why: str = ""


class ScopePauseChanged(TypedRecord, frozen=True, tag="scope.pause_changed"):
    """A function or a queue is paused, its pause changes, or it is resumed (without a `pause`); for every shard.

    It happened `at` (Unix ms). `by` says who resumed it, empty if the time of the pause had come, and `why` the reason.
    """

    scope: str
    pause: Pause | None = None
    at: int = 0
    by: str = ""
    why: str = ""


class ScopeResumed(TypedRecord, frozen=True, tag="scope.resumed"):
    """A shard has resumed a function or a queue, and continues its runs that follow the run `after`, in portions."""

    scope: str
    after: str = ""


def function_scope(function: str) -> str:
    """Return the scope of a pause that is a function."""
    return f"function:{function}"


def queue_scope(app: str, queue: str) -> str:
    """Return the scope of a pause that is a queue of an app."""
    return f"queue:{workers_name(app, queue)}"


ControlRequest = InvokeRequested | RerunRequested | PauseRequested | UnpauseRequested | ScopePauseRequested
ScopeRecord = ScopePauseChanged | ScopeResumed
