"""The steps that an app has asked for and that have no result yet: which are pending, and in which group they are."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from stepstream.contract.commands import Open
from stepstream.contract.ids import StepHash
from stepstream.contract.plans import SignalPlan, StepPlan, WaitPlan
from stepstream.gateway.runs.call_permit import CallPermit
from stepstream.gateway.runs.plans import KINDS, plan_of
from stepstream.gateway.wire.ops import ErrorOp, Op, PlannedOp, RunOp
from stepstream.sdk.replay.calls import RUN, Call, CallEvent, CallState, CallTable

_DONE = (RunOp, ErrorOp)
_GIVE = (CallEvent.GIVE, CallState.RESOLVED)
_ABANDON = (CallEvent.ABANDON, CallState.ABANDONED)


@dataclass(frozen=True, slots=True)
class Request:
    """What one answer asks for: plans of the engine, and steps whose calls begin, once its waits are registered."""

    plans: tuple[StepPlan, ...]
    begin: tuple[Call, ...]

    @property
    def acknowledge(self) -> bool:
        """Whether the engine must confirm the waits first, so that no step can cause what another one waits for."""
        return bool(self.begin) and any(isinstance(plan, WaitPlan | SignalPlan) for plan in self.plans)


class Asked:
    """The open steps of one run under one claim.

    `opened` are those that the engine had open when this began and that no answer has named yet. `pending` are the
    steps of all answers: where an SDK merges parallel steps, the result of the last one of them is followed by a
    discovery call. A step in a race is followed by one in any case, and is not among them.
    """

    def __init__(self, epoch: int, opened: Iterable[Open]) -> None:
        self.calls = CallTable()
        self.opened = {each.step: each for each in opened}
        self.pending: set[str] = set()
        # Steps whose results the code has without another call.
        self.seen: set[str] = set()
        self._epoch = epoch
        self._groups = 0
        self._races: set[str] = set()
        self._repeated: Call | None = None
        first = next(iter(self.opened.values()), None)
        # If one attempt is due and nothing else is open, the code continues there.
        if first and len(self.opened) == 1 and first.kind == RUN and first.ready and not first.group:
            self._repeated = self._reopen(first, "")

    @property
    def is_empty(self) -> bool:
        """Whether nothing will continue the run: no step is open but for attempts that are due."""
        return not any(self.calls) and all(each.ready for each in self.opened.values())

    def others(self, call: Call) -> bool:
        """Return whether a step is open other than that of a call."""
        return bool(self.opened) or any(each is not call for each in self.calls)

    def is_repeated(self, call: Call) -> bool:
        """Return whether the next attempt of a step repeats a discovery call."""
        return call is self._repeated

    def take_repeated(self) -> Call | None:
        """Return the step whose due attempt repeats a discovery call."""
        call = self._repeated
        if call is None or call.state is not CallState.DUE:
            return None
        self._repeated = None
        return call

    def begin(self, call: Call, op: Op) -> None:
        """Note that a call runs, or ran, the body of the step of `op`."""
        if not call.step or call.state is CallState.ABSENT:
            call.step = StepHash(op.step)
            opened = self.opened.pop(op.step, None)
            if opened:
                call.open, call.group = True, opened.group
            self.calls.move(call, CallEvent.DISCOVER, CallState.NEW)
            self.calls.move(call, CallEvent.BEGIN, CallState.RUNNING)
        call.id = op.id
        if op.race:
            self._races.add(op.step)

    def retry(self, call: Call, *, repeats: bool) -> bool:
        """Note that another attempt of a step follows; return whether it is due already."""
        self._repeated = call if repeats else self._repeated
        return self.calls.retry(call)

    def waiting(self) -> Call | None:
        """Return the first step that waits for a permit, and that may use that of its run; it is then due."""
        call = next((call for call in self.calls.of(CallState.OPEN) if call.covered), None)
        if call is not None:
            self.calls.call_for(call, call.attempt, covered=True)
        return call

    def due(self, retries: Iterable[Open]) -> Iterator[Call]:
        """Yield the steps whose next attempt the engine says is due."""
        for retry in retries:
            call = self.calls.get(retry.step)
            if call is None:
                self.opened[retry.step] = retry
            elif self.calls.call_for(call, retry.attempt, covered=retry.covered):
                yield call

    def release(self, call: Call) -> None:
        """Drop the step of a call whose answer was about something else; the code may ask for it again."""
        if call.open:
            self.opened[call.step] = Open(call.step, call.attempt, ready=True, group=call.group)
        self._drop(call.step)
        self.calls.move(call, *_ABANDON)

    def end(self, step: str, *, merges: bool) -> bool:
        """Drop a step that has a result; return whether a discovery call must follow."""
        call = self.calls.get(step)
        # A call for the step that is open is processed when it ends.
        if call is not None and call.state is not CallState.RUNNING:
            is_held = call.state is CallState.HELD
            self.calls.move(call, *(_ABANDON if is_held else _GIVE))
        self.opened.pop(step, None)
        is_race = step in self._races
        self._drop(step)
        if step in self.seen:
            self.seen.discard(step)
            return False
        return is_race or not merges or not self.pending

    def _drop(self, step: str) -> None:
        self._races.discard(step)
        self.pending.discard(step)

    def plan(self, ops: Sequence[Op], now_ms: int, *, merges: bool, permit: CallPermit | None = None) -> Request:
        """Open the steps that an answer asks for, unless they are open.

        Steps of one answer are a group: the engine wakes the run once, when all of those that it has are done. If their
        function is limited, one step uses the `permit` of the run at once, and others when it is free again.
        """
        plans: list[StepPlan] = []
        begin: list[Call] = []
        group = self._new_group() if merges and len(ops) > 1 else ""
        is_covering, is_free = bool(permit and permit.exists), bool(permit and permit.is_free)
        for op in ops:
            if isinstance(op, _DONE) or self.calls.get(op.step) is not None:
                continue
            if op.step in self.opened:
                call = self._reopen(self.opened[op.step], op.id)
                begin += [call] if call.state is CallState.DUE else []
                continue
            call = Call(StepHash(op.step), op.id, KINDS.get(type(op), RUN), group="" if op.race else group)
            call.covered = is_covering and isinstance(op, PlannedOp)
            plan = plan_of(op, now_ms, call.group, limited=permit is not None and not (call.covered and is_free))
            is_free &= not call.covered
            if op.race:
                self._races.add(op.step)
            self.calls.move(call, CallEvent.DISCOVER, CallState.NEW)
            if plan is None:
                begin.append(call)
            else:
                call.open = True
                self.calls.move(call, CallEvent.PLAN, CallState.OPEN)
                plans.append(plan)
        self.pending.update(op.step for op in ops if op.step not in self._races)
        return Request(tuple(plans), tuple(begin))

    def _new_group(self) -> str:
        self._groups += 1
        return f"{self._epoch}.{self._groups}"

    def _reopen(self, opened: Open, id: str) -> Call:
        """Continue a step that the engine has open; without a group its result alone matters to the code."""
        del self.opened[opened.step]
        call = Call(StepHash(opened.step), id, opened.kind, attempt=opened.attempt, group=opened.group, open=True)
        call.covered = opened.covered
        if not opened.group:
            self._races.add(opened.step)
        is_due = opened.ready and opened.kind == RUN
        self.calls.move(call, CallEvent.DISCOVER, CallState.DUE if is_due else CallState.OPEN)
        return call
