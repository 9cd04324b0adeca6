"""The operations that idle code has requested: plans for the engine, and bodies to run."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from stepstream.contract.commands import Open
from stepstream.contract.ids import StepHash
from stepstream.contract.plans import StepPlan
from stepstream.sdk.replay.calls import RUN, SIGNAL, WAIT, Call, CallEvent, CallState, CallTable
from stepstream.sdk.replay.groups import Groups
from stepstream.sdk.replay.run_permit import RunPermit


@dataclass(frozen=True, slots=True)
class Request:
    """What one activation asks of the engine; with `acknowledge`, bodies wait until its waits are registered."""

    plans: tuple[StepPlan, ...]
    cancelled: tuple[str, ...]
    ungrouped: tuple[StepHash, ...]
    acknowledge: bool

    def __bool__(self) -> bool:
        return bool(self.plans or self.cancelled or self.ungrouped)


@dataclass(slots=True)
class Operations:
    """Moves the calls of a run from requested to in progress.

    `opened` are the steps that the engine has open and that the code has not awaited yet. A `dispatched` run requests
    and begins nothing but the bodies that the engine calls for.
    """

    calls: CallTable
    groups: Groups
    permit: RunPermit
    opened: dict[str, Open]
    dispatched: bool
    cancelled: list[str] = field(default_factory=list)

    def discover(self, call: Call) -> None:
        """Take in a step that the code awaits."""
        opened = self.opened.pop(call.step, None)
        if opened is None:
            self.calls.move(call, CallEvent.DISCOVER, CallState.NEW)
            return
        call.open, call.group = True, opened.group
        is_due = opened.ready and call.kind == RUN
        call.attempt, call.progress, call.covered = opened.attempt, opened.progress, opened.covered
        self.calls.move(call, CallEvent.DISCOVER, CallState.DUE if is_due else CallState.OPEN)

    def kind_of(self, step: str) -> str:
        """Return the kind of a step that the engine has open and that the code has not awaited, "" for any other."""
        opened = self.opened.get(step)
        return opened.kind if opened else ""

    def fingerprint_of(self, step: str) -> int:
        """Return the fingerprint of a step that the engine has open and that the code has not awaited, or 0."""
        opened = self.opened.get(step)
        return opened.fingerprint if opened else 0

    def collect(self) -> tuple[Request, list[Call]]:
        """Return what the code newly requests of the engine, and the calls whose bodies are to begin."""
        new = [] if self.dispatched else self.calls.of(CallState.NEW)
        self.groups.assign(new)
        next_by_permit = self.permit.take_next(new)
        planned = [call for call in new if call.plan and call is not next_by_permit]
        begin = [call for call in self.calls.of(CallState.DUE) if call is next_by_permit or not call.covered]
        begin += [call for call in new if call.is_own or call is next_by_permit]
        acknowledge = bool(begin) and any(call.kind in (WAIT, SIGNAL) for call in planned)
        ungrouped = [] if self.dispatched else self.groups.leavers()
        for call in planned:
            call.open = True
            self.permit.plan(call, next_by_permit)
            self.calls.move(call, CallEvent.PLAN, CallState.OPEN)
        cancelled, self.cancelled = self.cancelled, []
        request = Request(
            tuple(_plan(call.plan(call), call.fingerprint) for call in planned if call.plan),
            () if self.dispatched else tuple(cancelled),
            tuple(call.step for call in ungrouped),
            acknowledge,
        )
        if acknowledge:
            for call in begin:
                self.calls.move(call, CallEvent.HOLD, CallState.HELD)
            begin = []
        return request, begin

    def begin_at_once(self, call: Call) -> bool:
        """Begin the body of a step that code awaits which is one task alone; return False if it has to be planned."""
        if call.state is not CallState.NEW or not (call.is_own or (self.permit.exists and self.permit.take(call))):
            return False
        self.calls.move(call, CallEvent.BEGIN, CallState.RUNNING)
        return True

    def call_for(self, retries: Iterable[Open]) -> None:
        """Take in the attempts that the engine says are due."""
        for retry in retries:
            call = self.calls.get(retry.step)
            if call is None:
                self.opened[retry.step] = retry
            else:
                self.calls.call_for(call, retry.attempt, covered=retry.covered)

    def abandon(self, call: Call) -> None:
        """Drop a step that the code no longer awaits: it lost a race, or its task was cancelled."""
        if call.open:
            self.cancelled.append(call.step)
        self.calls.move(call, CallEvent.ABANDON, CallState.ABANDONED)


def _plan(plan: StepPlan, fingerprint: int) -> StepPlan:
    return replace(plan, fingerprint=fingerprint) if fingerprint else plan
