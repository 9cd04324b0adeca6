"""The records of `commands.<app>`: what the engine requests of workers, keyed by run id."""

import msgspec

from stepstream.contract.codec import NULL, Raw, TypedRecord
from stepstream.contract.events import EventRecord
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import Outcome
from stepstream.contract.run_state import StateValues


class Memo(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of a step. Code sees results in the order of (`seen`, `own`).

    `seen` counts the results that the engine gave, up to this one. `own` is 0 for a result of the engine; it counts,
    from 1, the results that the worker itself has produced since then. `fingerprint` is that of the step's plan or
    report, and `signal` the name of the one that the step waited for.
    """

    step: str
    id: str
    kind: StepKind
    outcome: Outcome
    seen: int = 0
    own: int = 0
    fingerprint: int = 0
    signal: str = ""


class Open(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step without a result: planned, or between attempts. `ready` means that its next attempt is due.

    With a `group` its result alone does not wake the run. `kind` and `fingerprint` are those of the plan or the report
    that opened it. `progress` is what the last heartbeat of its body said, null if there is none. An attempt that is
    `covered` runs by the permit of its run, after other bodies that do; if it is not `ready`, it waits for a separate
    permit, and may be covered instead.
    """

    step: str
    attempt: int = 0
    ready: bool = False
    group: str = ""
    kind: StepKind = StepKind.RUN
    fingerprint: int = 0
    progress: Raw = NULL
    covered: bool = False


class RunStarted(TypedRecord, frozen=True, tag="run.started"):
    """Start a run that no worker has seen; `chain` runs precede it in a chain of runs that started one another.

    With `announce` the engine expects an ExecutionStarted when the code starts, and with `report_parked` a RunParked
    whenever the code waits for the engine. With `covers_body` the run holds a permit by which its code runs, or one of
    its bodies at a time.
    """

    run_id: str
    function: str
    epoch: int
    events: tuple[EventRecord, ...]
    started_at: int
    chain: int = 0
    announce: bool = False
    report_parked: bool = False
    covers_body: bool = False


class RunLoaded(TypedRecord, frozen=True, tag="run.loaded"):
    """Everything about a run, for the worker that claimed it with `claim`; `memos` are in the order of their keys.

    `chain`, `announce`, `report_parked` and `covers_body` are those of RunStarted. `state` is what the code has set as
    the state of the run.
    """

    run_id: str
    function: str
    epoch: int
    events: tuple[EventRecord, ...]
    started_at: int
    claim: str
    attempt: int = 0
    memos: tuple[Memo, ...] = ()
    open: tuple[Open, ...] = ()
    chain: int = 0
    announce: bool = False
    state: StateValues = msgspec.field(default_factory=dict)
    report_parked: bool = False
    covers_body: bool = False


class RunResumed(TypedRecord, frozen=True, tag="run.resumed"):
    """News for a run: results, attempts that are due, confirmation that its waits are registered.

    Without `wake` a worker that does not hold the run live need not load it: more results of the group are to come.
    For a run with limits on work, each RunResumed has a `number`, from 1 in each epoch, which RunParked repeats.
    """

    run_id: str
    epoch: int
    memos: tuple[Memo, ...] = ()
    retries: tuple[Open, ...] = ()
    acknowledged: bool = False
    wake: bool = True
    number: int = 0


class ReloadRequested(TypedRecord, frozen=True, tag="run.reload_requested"):
    """Let the bodies of a run that are running end, start no others, and then claim the run: it is paused, or was.

    A run that is `expired` has exceeded its time: its code may still end with the results of these bodies.
    """

    run_id: str
    expired: bool = False


class StepDispatched(TypedRecord, frozen=True, tag="step.dispatched"):
    """Run the body of one step, and nothing else of its run; for the workers of a queue.

    The code replays up to the step by `memos`. `claim` is that of the worker this command answers, empty in the first
    command of an attempt. A `partial` command has neither events nor memos: the worker requests them by a claim.
    `fingerprint` is that of the step's plan, `chain` that of RunStarted, `progress` that of Open.
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
    fingerprint: int = 0
    chain: int = 0
    progress: Raw = NULL


class RunStopped(TypedRecord, frozen=True, tag="run.stopped"):
    """Stop a run: it ended, was cancelled, is paused, or waits for its next attempt.

    With a `step`, only that dispatched step must stop.
    """

    run_id: str
    reason: str = "ended"
    step: str = ""


Command = RunStarted | RunLoaded | RunResumed | ReloadRequested | StepDispatched | RunStopped
decode_command = msgspec.json.Decoder(Command).decode
