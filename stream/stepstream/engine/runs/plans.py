"""Plans of the code: each planned step is opened, or has its result at once."""

from collections import Counter
from typing import assert_never

from msgspec.structs import replace

from stepstream.contract.codec import NULL, dump_json
from stepstream.contract.commands import Memo, RunResumed
from stepstream.contract.events import INVOKED, EventRecord
from stepstream.contract.gates import Gate
from stepstream.contract.history import StepCancelled
from stepstream.contract.ids import StepRef, run_hash, sent_event_id
from stepstream.contract.inbox import StepsPlanned
from stepstream.contract.kinds import StepKind
from stepstream.contract.limits import CHAIN_RUNS_MAX
from stepstream.contract.matching import SignalWaitOpened
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value
from stepstream.contract.plans import InvokePlan, RunPlan, SendPlan, SignalPlan, SleepPlan, StepPlan, WaitPlan
from stepstream.engine.gates.passing import PlannedGates, covers_body
from stepstream.engine.matching.wait_compiler import WaitCompiler
from stepstream.engine.matching.waits import close_step
from stepstream.engine.runs.admission import start_request
from stepstream.engine.runs.children import add_child
from stepstream.engine.runs.dispatch import begin_attempt, has_queue, recall, send_attempt
from stepstream.engine.runs.endings import cancel_overdue
from stepstream.engine.runs.opening import open_run, open_step
from stepstream.engine.runs.pauses import is_paused, send_news
from stepstream.engine.runs.runs import current
from stepstream.engine.runs.steps import engine_memo, join_groups, keep_result, leave_group
from stepstream.engine.runs.wait_plans import plan_wait
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import OpenStep


def plan_steps(draft: Draft, planned: StepsPlanned) -> None:
    """Open the steps that the code requested: waits first, so that none can miss the answer to another step."""
    run = current(draft, planned.run_id, planned.epoch)
    if run is None:
        return
    if run.expired and planned.plans:
        cancel_overdue(draft, run)
        return
    run_id = run.run_id
    cancelled = [_cancel_step(draft, run_id, step) for step in planned.cancelled]
    ungrouped = [_ungroup(draft, run_id, step) for step in planned.ungrouped]
    memos: list[Memo] = []
    joined: Counter[str] = Counter()
    compiler, gates = WaitCompiler(draft.events(run_id)[0]), PlannedGates(draft, run)
    for plan in sorted(planned.plans, key=lambda plan: not isinstance(plan, WaitPlan | SignalPlan)):
        if draft.memo(run_id, plan.step) or draft.step(run_id, plan.step):
            continue
        outcome = _plan(draft, run_id, plan, compiler, gates)
        if outcome is None:
            joined.update([plan.group] if plan.group else [])
            continue
        ended = OpenStep(plan.id, _kind(plan), fingerprint=plan.fingerprint)
        still, memo = engine_memo(open_run(draft, run_id), plan.step, ended, outcome)
        keep_result(draft, still, memo, None)
        memos.append(memo)
        if isinstance(plan, SendPlan) and isinstance(outcome, Value):
            for event in _events_to_send(draft, run_id, plan):
                draft.emit(still, event)
    join_groups(draft, run_id, joined)
    if memos or planned.acknowledge or planned.wake or any((*cancelled, *ungrouped)):
        send_news(draft, run, RunResumed(run_id, run.epoch, tuple(memos), acknowledged=planned.acknowledge))


def _kind(plan: StepPlan) -> StepKind:
    return StepKind(str(plan.__struct_config__.tag))


def _cancel_step(draft: Draft, run_id: str, step: str) -> bool:
    """Cancel a step; return whether this completes a group whose results have not woken the run."""
    opened = draft.step(run_id, step)
    if opened is None:
        return False
    run = draft.record(open_run(draft, run_id), StepCancelled, step, opened.id, opened.passed)
    close_step(draft, run_id, step, opened)
    recall(draft, run, step, opened, "cancelled")
    draft.cancel_step(run_id, step, opened)
    left = leave_group(draft, run_id, opened.group)
    return bool(opened.group) and not left


def _ungroup(draft: Draft, run_id: str, step: str) -> bool:
    """Remove a step from its group; return whether its result exists and has not woken the run yet."""
    opened = draft.step(run_id, step)
    if opened is None:
        return draft.memo(run_id, step) is not None
    if not opened.group:
        return False
    draft.put_step(run_id, step, opened, replace(opened, group=""))
    return not leave_group(draft, run_id, opened.group)


def _plan(draft: Draft, run_id: str, plan: StepPlan, compiler: WaitCompiler, gates: PlannedGates) -> Outcome | None:
    """Open one planned step; return its result when it has one at once."""
    match plan:
        case RunPlan():
            return _plan_body(draft, run_id, plan, gates.of(plan))
        case SleepPlan():
            if plan.until <= draft.now:
                return Value(NULL)
            open_step(draft, run_id, plan, OpenStep(plan.id, StepKind.SLEEP, plan.until, group=plan.group))
        case WaitPlan():
            return plan_wait(draft, run_id, plan, compiler)
        case SignalPlan():
            return _plan_signal(draft, run_id, plan)
        case SendPlan():
            if refused := _end_of_chain(draft, run_id):
                return refused
            return Value(dump_json([event.id for event in _events_to_send(draft, run_id, plan)]))
        case InvokePlan():
            return _invoke(draft, run_id, plan)
        case _:
            assert_never(plan)
    return None


def _plan_body(draft: Draft, run_id: str, plan: RunPlan, gates: tuple[Gate, ...]) -> Outcome | None:
    run = open_run(draft, run_id)
    if plan.queue and not has_queue(draft, run.function, plan.queue):
        message = f"app {run.app!r} has no queue {plan.queue!r}; write App({run.app!r}, queues=[{plan.queue!r}])"
        return Failure(ErrorInfo("QueueNotFoundError", message, code="queue-not-found"))
    due = max(draft.now, 1) if plan.queue and is_paused(draft, run, plan.queue) else 0
    if covered := plan.covered and covers_body(run):
        gates = tuple(gate for gate in gates if not gate.work)
    opened = OpenStep(
        plan.id,
        StepKind.RUN,
        due,
        group=plan.group,
        queue=plan.queue,
        fingerprint=plan.fingerprint,
        gates=gates,
        covered=covered,
    )
    run = open_step(draft, run_id, plan, opened, f"queue {plan.queue}" if plan.queue else "")
    if opened.gates and not due:
        # Not before the step is open: a run that outgrows its limits by it would leave no gate.
        begin_attempt(draft, run, plan.step, opened, opened)
    else:
        send_attempt(draft, run, plan.step, opened)
    return None


def _plan_signal(draft: Draft, run_id: str, plan: SignalPlan) -> Outcome | None:
    if plan.timeout_ms <= 0:
        return TimedOut()
    due = draft.now + plan.timeout_ms
    opened = OpenStep(plan.id, StepKind.SIGNAL, due, group=plan.group, signal=plan.signal)
    open_step(draft, run_id, plan, opened, plan.signal, plan.approval, plan.request)
    draft.route(plan.signal, SignalWaitOpened(StepRef(run_id, plan.step), plan.signal, due, plan.replace))
    return None


def _events_to_send(draft: Draft, run_id: str, plan: SendPlan) -> list[EventRecord]:
    return [
        replace(event, id=event.id or sent_event_id(run_id, plan.step, index), ts=event.ts or draft.now)
        for index, event in enumerate(plan.events)
    ]


def _end_of_chain(draft: Draft, run_id: str) -> Failure | None:
    """Return the error of a step that would start further runs at the end of the longest chain of runs allowed."""
    run = open_run(draft, run_id)
    function = draft.function(run.function)
    longest = function.chain_max if function else CHAIN_RUNS_MAX
    if run.chain + 1 < longest:
        return None
    draft.count("chains_refused", run.function)
    message = (
        f"this run is the last of a chain of {longest} runs that started one another by send_event or invoke, which is "
        f"the limit of app {run.app!r}; end the loop by a condition, or set App({run.app!r}, chain_max=)"
    )
    return Failure(ErrorInfo("ChainLimitError", message, code="chain-limit"))


def _invoke(draft: Draft, run_id: str, plan: InvokePlan) -> Outcome | None:
    if refused := _end_of_chain(draft, run_id):
        return refused
    function = draft.function(plan.function)
    if function is None or function.retired:
        message = f"no function {plan.function!r} is registered"
        return Failure(ErrorInfo("FunctionNotFoundError", message, code="function-not-found"))
    cause = f"{run_id}:{plan.step}"
    hash_part = run_hash(function.id, cause)
    event = EventRecord(INVOKED, plan.data, cause, draft.now, plan.user, plan.v, plan.meta)
    start = start_request(draft, function, (event,), hash_part)
    due = draft.now + plan.timeout_ms
    opened = OpenStep(plan.id, StepKind.INVOKE, due, group=plan.group, child=start.run_id)
    caller = open_step(draft, run_id, plan, opened, plan.function)
    if plan.cancel_with_parent:
        add_child(draft, caller, plan.step, start.run_id)
    request = replace(
        start,
        caller=StepRef(run_id, plan.step),
        suppress_end_events=caller.suppress_end_events,
        chain=caller.chain + 1,
        ends_with_parent=plan.cancel_with_parent,
    )
    draft.route(hash_part, request)
    return None
