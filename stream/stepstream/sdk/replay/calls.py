"""The steps that a run's code awaits: the state of each, and the protocol between a replay and its runner."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from stepstream.contract.attributes import AttributeChanges
from stepstream.contract.codec import NULL, Raw
from stepstream.contract.errors import StepstreamError
from stepstream.contract.ids import StepHash
from stepstream.contract.inbox import StepsPlanned
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import Outcome
from stepstream.contract.plans import StepPlan
from stepstream.contract.run_state import StateValues
from stepstream.sdk.function import RetryPolicy
from stepstream.sdk.values import PLAIN_JSON, ReturnType

RUN, SLEEP, WAIT, SIGNAL, SEND, INVOKE = StepKind


class CallState(StrEnum):
    """Where a step is between the moment when the code awaits it and the moment when the code has its result."""

    ABSENT = "absent"  # The code has not awaited the step yet.
    NEW = "new"  # The code awaits it, and nothing has been requested for it.
    OPEN = "open"  # The engine has it as an open step: a wait, or an attempt that is not due yet.
    DUE = "due"  # The engine has called for an attempt of its body.
    HELD = "held"  # Its body starts once the waits of the same activation are registered.
    RUNNING = "running"  # Its body is running.
    REPORTING = "reporting"  # Its body has ended, and the report of its result is being written.
    DURABLE = "durable"  # Its result is durable, and waits for its place among the results.
    RESOLVED = "resolved"  # The code has its result.
    ABANDONED = "abandoned"  # The code no longer awaits it: it lost a race, or its task was cancelled.


class CallEvent(StrEnum):
    """What moves a call from one state to the next."""

    DISCOVER = "discover"  # The code awaits the step.
    PLAN = "plan"  # The engine is asked for it.
    DUE = "due"  # The engine calls for an attempt.
    HOLD = "hold"  # Its body must wait for the waits of the same activation.
    BEGIN = "begin"  # Its body starts.
    RETRY = "retry"  # The attempt failed, and another one follows.
    REPORT = "report"  # The attempt is final, and its report is about to be written.
    APPENDED = "appended"  # The log has the report.
    GIVE = "give"  # The code gets the result.
    ABANDON = "abandon"  # The code no longer awaits the step.


_S, _E = CallState, CallEvent

# State, event, states after it. A call ends in `resolved`, where the code has its result, or in `abandoned`.
CALL_LIFE: Mapping[CallState, Mapping[CallEvent, tuple[CallState, ...]]] = {
    _S.ABSENT: {
        _E.DISCOVER: (_S.NEW, _S.OPEN, _S.DUE),
    },
    _S.NEW: {
        _E.PLAN: (_S.OPEN,),
        _E.HOLD: (_S.HELD,),
        _E.BEGIN: (_S.RUNNING,),
        _E.GIVE: (_S.RESOLVED,),
        _E.ABANDON: (_S.ABANDONED,),
    },
    _S.OPEN: {
        _E.DUE: (_S.DUE,),
        _E.GIVE: (_S.RESOLVED,),
        _E.ABANDON: (_S.ABANDONED,),
    },
    _S.DUE: {
        _E.DUE: (_S.DUE,),
        _E.HOLD: (_S.HELD,),
        _E.BEGIN: (_S.RUNNING,),
        _E.GIVE: (_S.RESOLVED,),
        _E.ABANDON: (_S.ABANDONED,),
    },
    _S.HELD: {
        _E.BEGIN: (_S.RUNNING,),
        _E.ABANDON: (_S.ABANDONED,),
    },
    _S.RUNNING: {
        _E.DUE: (_S.RUNNING,),
        _E.RETRY: (_S.OPEN, _S.DUE),
        _E.REPORT: (_S.REPORTING,),
        _E.ABANDON: (_S.ABANDONED,),
    },
    _S.REPORTING: {
        _E.APPENDED: (_S.DURABLE,),
        _E.GIVE: (_S.RESOLVED,),
        _E.ABANDON: (_S.ABANDONED,),
    },
    _S.DURABLE: {
        _E.GIVE: (_S.RESOLVED,),
        _E.ABANDON: (_S.ABANDONED,),
    },
    _S.RESOLVED: {},
    _S.ABANDONED: {},
}
_ENDS = frozenset((CallState.RESOLVED, CallState.ABANDONED))
_OPEN_STATES = tuple(state for state in CallState if state not in _ENDS)
_MOVES = frozenset(
    (state, event, to) for state, life in CALL_LIFE.items() for event, after in life.items() for to in after
)


class IllegalCallMove(StepstreamError):
    """An event would take a call to a state that CALL_LIFE does not allow: a bug of the SDK or of its runner."""

    code = "illegal-call-move"


class StepFuture(asyncio.Future[Outcome | None]):
    """What the code waits for in a step: its result, or None when its body is to run."""


@dataclass(slots=True, eq=False)
class Call:
    """A step that the code awaits. `open` says that the engine has it as an open step.

    `attempt` is the attempt of its body that runs or is next, `due` the newest one that the engine called for while an
    earlier attempt was running. `task` is the task that awaits it. `arguments` are what the code passes to it, and
    `fingerprint` is their checksum, 0 unless the code uses the id more than once. `progress` is what the last heartbeat
    of its body said, null if there is none. `size` is how many bytes the body holds while it runs. If its function
    limits bodies, and no queue runs this one, it is `limited`; without named limits it `shares` the permit of its
    run. It is `covered` if it runs by that permit, or may, and needs no separate one.
    """

    step: StepHash
    id: str
    kind: StepKind
    body: Callable[[], Any] | None = None
    returns: ReturnType = PLAIN_JSON
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    plan: Callable[["Call"], StepPlan] | None = None
    state: CallState = CallState.ABSENT
    attempt: int = 0
    due: int = 0
    group: str = ""
    open: bool = False
    waiting: StepFuture | None = None
    outcome: Outcome | None = None
    task: asyncio.Task[Any] | None = None
    arguments: Mapping[str, Any] | None = None
    fingerprint: int = 0
    progress: Raw = field(default_factory=lambda: NULL)
    size: int = 0
    limited: bool = False
    shares: bool = False
    covered: bool = False

    @property
    def is_own(self) -> bool:
        """Return whether the worker that holds the run runs the body of this step itself."""
        return self.kind == RUN and self.plan is None

    @property
    def waits(self) -> bool:
        """Return whether the code waits here for a result, and has none yet."""
        return self.waiting is not None and not self.waiting.done()


class CallTable:
    """The calls of one run that have no result yet, by step and by state."""

    def __init__(self) -> None:
        self._by_step: dict[str, Call] = {}
        self._by_state: dict[CallState, dict[Call, None]] = {state: {} for state in _OPEN_STATES}

    def __contains__(self, step: str) -> bool:
        return step in self._by_step

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._by_step.values()))

    def get(self, step: str) -> Call | None:
        """Return the call of a step."""
        return self._by_step.get(step)

    def has(self, *states: CallState) -> bool:
        """Return whether any call is in one of these states."""
        return any(self._by_state[state] for state in states)

    def of(self, state: CallState) -> list[Call]:
        """Return the calls in a state, in the order in which they entered it."""
        return list(self._by_state[state])

    def first(self, state: CallState) -> Call | None:
        """Return the call that came to a state first of those that are in it."""
        return next(iter(self._by_state[state]), None)

    def call_for(self, call: Call, attempt: int, *, covered: bool = False) -> bool:
        """Take in that the engine calls for an attempt of a body; return whether the attempt may begin.

        A body that runs already has a separate permit from now on, unless it is still `covered`. An attempt that has
        failed is not repeated: it ran by the permit of the run, and the engine granted a separate one before it
        knew of the failure.
        """
        if attempt < call.attempt:
            return False
        if call.state in (CallState.OPEN, CallState.DUE, CallState.RUNNING):
            call.covered = covered
        if call.state is CallState.RUNNING:
            call.due = attempt
            self.move(call, CallEvent.DUE, CallState.RUNNING)
            return False
        if call.state not in (CallState.OPEN, CallState.DUE):
            return False
        call.attempt = attempt
        self.move(call, CallEvent.DUE, CallState.DUE)
        return True

    def retry(self, call: Call) -> bool:
        """Note that another attempt of a body follows; return whether the engine has already called for it."""
        call.open = True
        is_due = call.due > call.attempt
        call.covered &= is_due
        call.attempt = call.due if is_due else call.attempt + 1
        self.move(call, CallEvent.RETRY, CallState.DUE if is_due else CallState.OPEN)
        return is_due

    def move(self, call: Call, event: CallEvent, to: CallState) -> None:
        """Take a call to its next state; raise IllegalCallMove unless its life cycle allows that."""
        state = call.state
        if (state, event, to) not in _MOVES:
            raise IllegalCallMove(f"{event} may not take step {call.id!r} from {state} to {to}")
        if state is CallState.ABSENT:
            self._by_step[call.step] = call
        else:
            del self._by_state[state][call]
        call.state = to
        if to in _ENDS:
            del self._by_step[call.step]
        else:
            self._by_state[to][call] = None


@dataclass(frozen=True, slots=True)
class Finished:
    """How the code ended: with its output, with an error, or by continuing as a new run with this data."""

    output: Raw | None = None
    error: BaseException | None = None
    continued: Raw | None = None


class RunHandle(Protocol):
    """A run whose code is running, under one claim (`epoch`); `seen` counts the engine results that it was given."""

    run_id: str
    epoch: int
    seen: int

    @property
    def over(self) -> bool:
        """Return whether the code has ended or was aborted."""

    def begin_report(self, call: Call) -> int:
        """Fix the place of the result of `call` among all results, and return the `seen` of its report.

        The runner calls this before it writes the report. Until the code has this result, it gets none of the engine.
        """


class Runner(Protocol):
    """What executes the operations that a run's code requests: the driver of a replay."""

    async def execute(self, run: RunHandle, call: Call) -> Outcome | None:
        """Run a step's body and return its result once that is durable; None when another attempt follows later.

        Calls RunHandle.begin_report before it writes the report of a final result.
        """

    async def report(self, run: RunHandle, call: Call, outcome: Outcome) -> None:
        """Make the result of a step durable whose body has run already; calls RunHandle.begin_report before."""

    def plan(self, run: RunHandle, planned: StepsPlanned) -> None:
        """Register steps with the engine."""

    def warn(self, run: RunHandle, warning: str) -> None:
        """Record that the run's code and its history disagree."""

    def set_attributes(self, run: RunHandle, changes: AttributeChanges) -> None:
        """Change the attributes of the run; a replay of its code may repeat this."""

    def set_state(self, run: RunHandle, values: StateValues) -> None:
        """Replace the state of the run."""

    def suspended(self, run: RunHandle) -> None:
        """The code can do nothing until the engine resolves a step that is open there."""

    def detached(self, run: RunHandle) -> None:
        """The code waits on external work, such as a socket or a lock of another run; may be called repeatedly."""

    def finished(self, run: RunHandle, end: Finished) -> None:
        """The code has ended."""
