"""The records of `commands.<app>`: what the engine asks of workers, keyed by run id."""

import msgspec

from stepstream.contract.codec import TypedRecord
from stepstream.contract.events import EventRecord
from stepstream.contract.outcomes import Outcome


class Memo(msgspec.Struct, frozen=True, omit_defaults=True):
    """The kept result of a step. Code sees results in the order of (`seen`, `own`).

    `seen` counts the results that came from the engine up to this one; `own` is 0 for such a result, and counts from 1
    the results that the worker made itself after it.
    """

    step: str
    id: str
    kind: str
    outcome: Outcome
    seen: int = 0
    own: int = 0


class Open(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step without a result yet: planned, or between attempts. `ready` says that its attempt is due.

    With a `group` its result alone does not wake the run. `kind` is that of the plan that opened it.
    """

    step: str
    attempt: int = 0
    ready: bool = False
    group: str = ""
    kind: str = "run"


class RunStarted(TypedRecord, frozen=True, tag="run.started"):
    """Begin a run that no worker has seen."""

    run_id: str
    function: str
    epoch: int
    events: tuple[EventRecord, ...]
    started_at: int


class RunLoaded(TypedRecord, frozen=True, tag="run.loaded"):
    """All that is known of a run, for the worker that claimed it by `claim`; `memos` are in the order of their keys."""

    run_id: str
    function: str
    epoch: int
    events: tuple[EventRecord, ...]
    started_at: int
    claim: str
    attempt: int = 0
    memos: tuple[Memo, ...] = ()
    open: tuple[Open, ...] = ()


class RunResumed(TypedRecord, frozen=True, tag="run.resumed"):
    """What is new for a run: results, attempts that are due, an acknowledgement of the waits planned.

    Without `wake` a worker that does not hold the run live need not load it: more of the same group must come first.
    """

    run_id: str
    epoch: int
    memos: tuple[Memo, ...] = ()
    retries: tuple[Open, ...] = ()
    acknowledged: bool = False
    wake: bool = True


class StepDispatched(TypedRecord, frozen=True, tag="step.lent"):
    """Run the body of one step and nothing else of its run, for the workers of a queue.

    The code comes to the step by `memos`. `claim` is that of the worker that asked, empty for the first word of it. A
    `partial` one has neither events nor memos: whoever comes upon it asks for them by a claim.
    """

    run_id: str
    function: str
    step: str
    id: str
    events: tuple[EventRecord, ...]
    started_at: int
    attempt: int = 0
    memos: tuple[Memo, ...] = ()
    claim: str = ""
    partial: bool = False


class RunStopped(TypedRecord, frozen=True, tag="run.stopped"):
    """There is nothing to do for this run: it ended, was cancelled, or waits for its next attempt.

    With `step` that is said only of a step that was lent.
    """

    run_id: str
    reason: str = "ended"
    step: str = ""


Command = RunStarted | RunLoaded | RunResumed | StepDispatched | RunStopped
decode_command = msgspec.json.Decoder(Command).decode
