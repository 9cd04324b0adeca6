"""The way of a run, or of an attempt of a step, through its gates: one after the other, and left at the end."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import EventRecord, event_fields
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.gates import (
    BatchedRun,
    Excess,
    Gate,
    GateAsked,
    GateGranted,
    GateLeft,
    GateRule,
    GateSettled,
    PassedGate,
)
from stepstream.contract.kinds import StepKind
from stepstream.contract.limits import GATE_KEY_CHARACTERS_MAX, GATE_WEIGHT_MAX, GATE_WEIGHT_ONE, PRIORITY_MS_MAX
from stepstream.contract.plans import RunPlan
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import OpenStep, Run
from stepstream.engine.state.tables import STEPS, run_part, step_of
from stepstream.expressions.predicates import EvaluationError, Meter, evaluate


def gates_of(
    draft: Draft, function: FunctionRegistered, event: EventRecord, meter: Meter | None = None
) -> tuple[Gate, ...]:
    """Return the gates of a run: the rules of its function, with the values of their keys for its event.

    A run without an idempotency key passes no gate for it; other runs without a key share a gate.
    """
    return _gates(draft, function, event, meter, steps=False)


def step_gates_of(
    draft: Draft, function: FunctionRegistered, event: EventRecord, meter: Meter | None = None
) -> tuple[Gate, ...]:
    """Return the gates that each attempt of a step of a run passes."""
    return _gates(draft, function, event, meter, steps=True)


class PlannedGates:
    """The gates of the steps that one activation plans: each key is evaluated once, for the first event of the run."""

    def __init__(self, draft: Draft, run: Run) -> None:
        self._draft = draft
        self._run = run
        self._named: dict[tuple[GateRule, ...], tuple[Gate, ...]] = {}
        self._units: dict[str, int] = {}

    def of(self, plan: RunPlan) -> tuple[Gate, ...]:
        """Return the gates that each attempt of a step passes.

        Those with a period come last: a body starts when it has passed them, and a permit by key bounds how many places
        of a shared queue one key takes.
        """
        if not plan.limits:
            return self._run.step_gates
        if plan.limits not in self._named:
            function = self._draft.function(self._run.function)
            named = _passed(self._draft, plan.limits, function.priority if function else "", self._event)
            self._named[plan.limits] = _in_order((*self._run.step_gates, *named))
        gates = self._named[plan.limits]
        if not plan.units:
            return gates
        if plan.units not in self._units:
            self._units[plan.units] = _units(self._draft, plan.units, self._event)
        units = self._units[plan.units]
        return tuple(replace(gate, units=min(units, gate.limit)) if gate.metered else gate for gate in gates)

    @property
    def _event(self) -> EventRecord:
        return self._draft.events(self._run.run_id)[0]


def _in_order(gates: Sequence[Gate]) -> tuple[Gate, ...]:
    return tuple(sorted(gates, key=lambda gate: not gate.has_permits))


def _units(draft: Draft, units: str, event: EventRecord) -> int:
    """Return for how many units a step asks: a number, or what an expression has for an event; 1 if that fails."""
    if units.isdecimal():
        return int(units)
    try:
        value = evaluate(units, {"event": event_fields(event)})
    except EvaluationError:
        value = None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    draft.count("gate_key_errors")
    return 1


def _gates(
    draft: Draft, function: FunctionRegistered, event: EventRecord, meter: Meter | None, *, steps: bool
) -> tuple[Gate, ...]:
    rules = [rule for rule in function.gates if rule.steps == steps or (rule.work and not steps)]
    # Those that count work come last: a run leaves them, and passes them again, while it keeps the others.
    rules.sort(key=lambda rule: (rule.work, rule.steps))
    return _passed(draft, rules, function.priority, event, meter) if rules else ()


def _passed(
    draft: Draft, rules: Sequence[GateRule], priority: str, event: EventRecord, meter: Meter | None = None
) -> tuple[Gate, ...]:
    """Return the gates of rules for an event."""
    fields = {"event": event_fields(event)}
    rules = [rule for rule in rules if not rule.condition or _holds(draft, rule.condition, fields, meter)]
    pairs = [(rule, _value(draft, rule.key, fields, meter)) for rule in rules]
    ahead_ms = _ahead_ms(draft, priority, fields, meter)
    return tuple(
        _fair(draft, _gate(rule, value or "", ahead_ms), rule, fields, meter)
        for rule, value in pairs
        if value is not None or rule.excess is not Excess.IDEMPOTENT
    )


def _gate(rule: GateRule, value: str, ahead_ms: int) -> Gate:
    known = rule.name, rule.limit, value, rule.period_ms, rule.burst, rule.excess, rule.steps, rule.most_ms
    ahead_ms = ahead_ms if rule.excess is Excess.WAIT else 0
    return Gate(*known, ahead_ms, rule.size, rule.metered, renewed=rule.renewed, work=rule.work)


def _fair(draft: Draft, gate: Gate, rule: GateRule, fields: dict[str, Any], meter: Meter | None) -> Gate:
    """Return a gate with the sub-queue in which a run waits for it; those without a value share one."""
    if not rule.fair or rule.excess is not Excess.WAIT:
        return gate
    share = _value(draft, rule.fair, fields, meter) or ""
    return replace(gate, share=share, weight=_weight(draft, rule.weight, fields, meter))


def _weight(draft: Draft, weight: str, fields: dict[str, Any], meter: Meter | None) -> int:
    """Return the weight of a sub-queue (thousandths): 1 if it is not a positive number."""
    if not weight:
        return GATE_WEIGHT_ONE
    try:
        value = evaluate(weight, fields, meter)
    except EvaluationError:
        value = None
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return max(int(min(value * GATE_WEIGHT_ONE, GATE_WEIGHT_MAX)), 1)
    draft.count("gate_key_errors")
    return GATE_WEIGHT_ONE


def _holds(draft: Draft, condition: str, fields: dict[str, Any], meter: Meter | None) -> bool:
    """Return whether the condition of a rule holds; one that fails does not."""
    try:
        return evaluate(condition, fields, meter) is True
    except EvaluationError:
        draft.count("gate_key_errors")
        return False


def _ahead_ms(draft: Draft, priority: str, fields: dict[str, Any], meter: Meter | None) -> int:
    """Return by how much a run is moved forward in its queues; 0 if its priority is not a whole number of seconds."""
    if not priority:
        return 0
    try:
        seconds = evaluate(priority, fields, meter)
    except EvaluationError:
        seconds = None
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        draft.count("gate_key_errors")
        return 0
    return min(max(seconds * 1_000, -PRIORITY_MS_MAX), PRIORITY_MS_MAX)


def _value(draft: Draft, key: str, fields: dict[str, Any], meter: Meter | None) -> str | None:
    """Return the value of a key as a text, None if the event has none."""
    if not key:
        return ""
    try:
        return _text(evaluate(key, fields, meter))
    except (EvaluationError, InvalidInput):
        draft.count("gate_key_errors")
        return None


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise InvalidInput("a key is a string, number or bool", "key")
    text = str(value)
    if len(text) > GATE_KEY_CHARACTERS_MAX:
        raise InvalidInput(f"a key has at most {GATE_KEY_CHARACTERS_MAX} characters", "key")
    return text


def ask_next(draft: Draft, run: Run, after: str = "", events: Sequence[EventRecord] = ()) -> Run:
    """Ask for the next gate of a run, unless it waits for one or has passed all; return the run to be written.

    A run that continues another one comes `after` it, and one that begins has `events`, but no row of them yet. A run
    whose function is paused asks for those that refuse runs, and for the others when the function is resumed.
    """
    if run.asked > run.granted or not run.queued or (run.held and run.gates[run.asked].excess is Excess.WAIT):
        return run
    gate = _current(draft, run, run.gates[run.asked])
    batched = None
    if gate.excess is Excess.BATCHED:
        event = (events or draft.events(run.run_id))[0]
        batched = BatchedRun(run.run_id, event, run.caller, run.chain)
    draft.route(gate.id, GateAsked(gate, run.run_id, after, batched=batched))
    return replace(run, asked=run.asked + 1, queued_at=run.queued_at or draft.now)


def ask_for_step(draft: Draft, run: Run, step: str, opened: OpenStep) -> OpenStep:
    """Ask for the next gate of an attempt, unless it waits for one or has passed all; return the step to be written."""
    if opened.asked > opened.granted or not opened.queued:
        return opened
    gate = _current(draft, run, opened.gates[opened.asked])
    number = opened.number or run.history_seq
    draft.route(gate.id, GateAsked(gate, run.run_id, step=step, number=number))
    return replace(opened, asked=opened.asked + 1, number=number)


def _current(draft: Draft, run: Run, gate: Gate) -> Gate:
    """Return a gate with the limits of its rule now: the run may have been admitted long before it asks."""
    function = draft.function(run.function)
    rule = next((rule for rule in function.gates if rule.name == gate.name), None) if function else None
    if rule is None:
        return gate
    return replace(
        gate,
        limit=rule.limit,
        period_ms=rule.period_ms,
        burst=rule.burst,
        excess=rule.excess,
        most_ms=rule.most_ms,
        size=rule.size,
        renewed=rule.renewed,
    )


def passed_gates(passing: Run | OpenStep, granted: GateGranted) -> tuple[PassedGate, ...]:
    """Return what history keeps of the gates that a run or an attempt has passed, with that of a grant."""
    gate = passing.gates[passing.granted]
    units = gate.units if gate.metered else None
    return (*passing.passed, PassedGate(gate.name, gate.value, granted.waited_ms, granted.place, units))


def settled_gates(opened: OpenStep | None, used: int | None) -> tuple[PassedGate, ...]:
    """Return what history keeps of the gates of an attempt that has ended, and whose body may say what it has used."""
    passed = opened.passed if opened else ()
    if used is None:
        return passed
    return tuple(replace(each, used=used) if each.units is not None else each for each in passed)


def settle_gates(draft: Draft, opened: OpenStep | None, used: int | None) -> None:
    """Have the gates of an attempt that are metered count what its body has used."""
    if opened is None or used is None:
        return
    for gate in opened.gates[: opened.granted]:
        if gate.metered and gate.units != used:
            draft.route(gate.id, GateSettled(gate, used))


def leave_gates(draft: Draft, run: Run) -> None:
    """Leave the gates of a run that ends: those of which it holds a permit, and the one for which it waits."""
    _leave(draft, run, run.run_id, "")


def counts_work(run: Run) -> bool:
    """Return whether a run holds permits only while its code or a body is executing."""
    return bool(run.gates) and run.gates[-1].work


def return_work(draft: Draft, run: Run) -> Run:
    """Leave the gates on work of a run for which no worker has anything to do; return the run to be written.

    A parked run that waits for them keeps its place. Attempts of its steps that no queue runs return their permits
    too: a worker starts them only when it has the run, so the run could wait for a permit that its own step holds.
    """
    if not counts_work(run) or run.parked:
        return run
    if covers_body(run) and run.opened_steps:
        _withdraw_attempts(draft, run)
    first = next(number for number, gate in enumerate(run.gates) if gate.work)
    kept = run.passed[: len(run.passed) - max(run.granted - first, 0)]
    for gate in run.gates[first : run.asked]:
        draft.route(gate.id, GateLeft(gate.id, run.run_id))
    return replace(run, asked=first, granted=first, queued_at=0, parked=True, parked_at=draft.now, passed=kept)


def covers_body(run: Run) -> bool:
    """Return whether a run holds permits by which its code runs, or one of its bodies at a time."""
    return counts_work(run) and run.gates[-1].steps


def is_coverable(run: Run, opened: OpenStep) -> bool:
    """Return whether an attempt waits only for permits in whose place it may use those of its run."""
    is_own = opened.kind == StepKind.RUN and not opened.queue and not opened.due
    return is_own and opened.queued and covers_body(run) and all(gate.work for gate in opened.gates[opened.granted :])


def cover(draft: Draft, run_id: str, step: str, opened: OpenStep) -> OpenStep:
    """Leave the gates of an attempt in whose place it uses the permits of its run; return the step to be written."""
    asked, granted = opened.gates[: opened.asked], opened.gates[: opened.granted]
    for gate in asked:
        if gate.work:
            draft.route(gate.id, GateLeft(gate.id, run_id, step))
    others, ask, grant = (tuple(gate for gate in gates if not gate.work) for gates in (opened.gates, asked, granted))
    kept = tuple(known for known, gate in zip(opened.passed, granted, strict=False) if not gate.work)
    return replace(opened, gates=others, asked=len(ask), granted=len(grant), covered=True, passed=kept)


def gates_of_next_attempt(run: Run, opened: OpenStep | None) -> tuple[Gate, ...]:
    """Return the gates of the next attempt of a step; the first one of a step without a row used those of its run."""
    if opened is None:
        return run.step_gates if covers_body(run) else ()
    return _in_order((*run.step_gates, *opened.gates)) if opened.covered else opened.gates


def _withdraw_attempts(draft: Draft, run: Run) -> None:
    """Return the permits and the places of attempts that the worker of a run starts: they ask again with the run."""
    for key, opened in draft.scan(STEPS, run_part(run.run_id)):
        if opened.kind == StepKind.RUN and opened.asked and not opened.queue:
            left = leave_step_gates(draft, run.run_id, step_of(key), opened)
            gates = gates_of_next_attempt(run, opened)
            # A grant on its way has the former number.
            draft.put_step(run.run_id, step_of(key), opened, replace(left, gates=gates, covered=False, number=0))


def leave_step_gates(draft: Draft, run_id: str, step: str, opened: OpenStep) -> OpenStep:
    """Leave the gates of an attempt that ends; return the step as one that has asked for none."""
    if not opened.asked:
        return opened
    _leave(draft, opened, run_id, step)
    return replace(opened, asked=0, granted=0, passed=())


def _leave(draft: Draft, passing: Run | OpenStep, run_id: str, step: str) -> None:
    for number, gate in enumerate(passing.gates[: passing.asked]):
        # A limit that makes runs wait may have had no period when the run passed, and a permit then.
        if gate.has_permits or gate.excess is Excess.WAIT or number >= passing.granted:
            draft.route(gate.id, GateLeft(gate.id, run_id, step))


def free_key(draft: Draft, run: Run) -> None:
    """Let another run have the idempotency key of one that a later gate has refused: its code never starts."""
    for gate in run.gates[: run.granted]:
        if gate.excess is Excess.IDEMPOTENT:
            draft.route(gate.id, GateLeft(gate.id, run.run_id))


def lasting_gates(run: Run) -> tuple[Gate, ...]:
    """Return the gates whose permits a run that continues as another one keeps for it: it is the same singleton."""
    return tuple(gate for gate in run.gates if gate.excess in (Excess.SKIPPED, Excess.REPLACE))
