"""What the code asks for: each planned step is begun, or has its result at once."""

from collections import Counter
from typing import assert_never

from msgspec.structs import replace

from stepstream.contract.codec import NULL, dump_json
from stepstream.contract.commands import Memo, RunResumed
from stepstream.contract.events import INVOKED, EventRecord
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.history import StepCancelled
from stepstream.contract.history import StepPlanned as StepPlannedEntry
from stepstream.contract.ids import run_hash, run_id_at, sent_event_id
from stepstream.contract.inbox import (
    Caller,
    InvokePlan,
    RunPlan,
    RunRequested,
    SendPlan,
    SignalPlan,
    SignalWaitOpened,
    SleepPlan,
    StepPlan,
    StepsPlanned,
    WaitOpened,
    WaitPlan,
)
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value
from stepstream.engine.matching.wait_compiler import ExpressionBudgetExceeded, WaitCompiler
from stepstream.engine.matching.waits import close_step, place
from stepstream.engine.runs.dispatch import dispatch, has_queue, recall
from stepstream.engine.runs.runs import current
from stepstream.engine.runs.steps import breaks_limit, join_groups, keep_resolved, leave_group
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.keys import function_key, memo_key, open_key, run_events_key
from stepstream.engine.state.rows import OpenStep, RunEvents
from stepstream.expressions.predicates import EvaluationError, ExpressionError


def plan_steps(draft: Draft, planned: StepsPlanned) -> None:
    """Register what the code asked for: the waits before all else, so that none can miss its own answer."""
    run = current(draft, planned.run_id, planned.epoch)
    events = draft.get(RunEvents, run_events_key(planned.run_id))
    if run is None or events is None:
        return
    dropped = [_cancel_step(draft, run.run_id, step) for step in planned.cancelled]
    ungrouped = [_ungroup(draft, run.run_id, step) for step in planned.ungrouped]
    memos: list[Memo] = []
    joined: Counter[str] = Counter()
    questions = WaitCompiler(events.events[0])
    for plan in sorted(planned.plans, key=lambda plan: not isinstance(plan, WaitPlan | SignalPlan)):
        if draft.get(Memo, memo_key(run.run_id, plan.step)) or draft.get(OpenStep, open_key(run.run_id, plan.step)):
            continue
        found = _plan(draft, run.run_id, plan, questions)
        still = draft.run(run.run_id)
        if still is None:
            return
        if found is None:
            joined.update([plan.group] if plan.group else [])
        elif memo := keep_resolved(draft, still, plan.step, OpenStep(plan.id, _kind(plan)), found):
            memos.append(memo)
            for event in _events_to_send(draft, run.run_id, plan) if isinstance(plan, SendPlan) else ():
                draft.emit(event)
        else:
            return
    join_groups(draft, run.run_id, joined)
    if memos or planned.acknowledge or planned.wake or any((*dropped, *ungrouped)):
        draft.command(run.app, RunResumed(run.run_id, run.epoch, tuple(memos), acknowledged=planned.acknowledge))


def _kind(plan: StepPlan) -> str:
    return str(plan.__struct_config__.tag)


def _cancel_step(draft: Draft, run_id: str, step: str) -> bool:
    """Take a step away; return whether its group is done by that, the results of which woke nobody."""
    opened = draft.get(OpenStep, open_key(run_id, step))
    run = draft.run(run_id)
    if opened is None or run is None:
        return False
    close_step(draft, run_id, step, opened)
    recall(draft, run, step, opened, "cancelled")
    draft.drop_step(run_id, step, opened)
    left = leave_group(draft, run_id, opened.group)
    run = replace(run, history_seq=run.history_seq + 1)
    draft.put_run(run)
    draft.tell(StepCancelled(run_id, run.history_seq, draft.now, step, opened.id))
    return bool(opened.group) and not left


def _ungroup(draft: Draft, run_id: str, step: str) -> bool:
    """Have the result of a step wake the run by itself; return whether one came before, which woke nobody."""
    opened = draft.get(OpenStep, open_key(run_id, step))
    if opened is None:
        return draft.get(Memo, memo_key(run_id, step)) is not None
    if not opened.group:
        return False
    draft.put_step(run_id, step, opened, replace(opened, group=""))
    return not leave_group(draft, run_id, opened.group)


def _plan(draft: Draft, run_id: str, plan: StepPlan, questions: WaitCompiler) -> Outcome | None:
    """Begin one planned step; return its result when it has one at once."""
    match plan:
        case RunPlan():
            return _plan_dispatched(draft, run_id, plan)
        case SleepPlan():
            if plan.until <= draft.now:
                return Value(NULL)
            _open(draft, run_id, plan, OpenStep(plan.id, "sleep", plan.until, group=plan.group))
        case WaitPlan():
            return _plan_wait(draft, run_id, plan, questions)
        case SignalPlan():
            if plan.timeout_ms <= 0:
                return TimedOut()
            due = draft.now + plan.timeout_ms
            if _open(draft, run_id, plan, OpenStep(plan.id, "signal", due, group=plan.group, event=plan.signal)):
                draft.route(plan.signal, SignalWaitOpened(run_id, plan.step, plan.signal, due, plan.replace))
        case SendPlan():
            return Value(dump_json([event.id for event in _events_to_send(draft, run_id, plan)]))
        case InvokePlan():
            return _invoke(draft, run_id, plan)
        case _:
            assert_never(plan)
    return None


def _open(draft: Draft, run_id: str, plan: StepPlan, opened: OpenStep, detail: str = "") -> bool:
    """Open a planned step. Return False when a limit of the run ended it instead."""
    run = draft.run(run_id)
    if run is None:
        return False
    run = replace(run, steps=run.steps + 1, history_seq=run.history_seq + 1)
    if breaks_limit(draft, run):
        return False
    draft.put_run(run)
    draft.put_step(run_id, plan.step, None, opened)
    if opened.due:
        draft.arm(opened.due, "step", run_id, plan.step)
    draft.tell(
        StepPlannedEntry(
            run_id, run.history_seq, draft.now, plan.step, plan.id, opened.kind, detail or opened.event, opened.due
        )
    )
    return True


def _plan_dispatched(draft: Draft, run_id: str, plan: RunPlan) -> Outcome | None:
    run = draft.run(run_id)
    if run is not None and not has_queue(draft, run.function, plan.queue):
        message = f"app {run.app!r} has no queue {plan.queue!r}; write App({run.app!r}, queues=[{plan.queue!r}])"
        return Failure(ErrorInfo("QueueNotFoundError", message, "", "queue-not-found"))
    opened = OpenStep(plan.id, "run", group=plan.group, queue=plan.queue)
    if _open(draft, run_id, plan, opened, f"queue {plan.queue}") and (run := draft.run(run_id)):
        dispatch(draft, run, plan.step, opened)
    return None


def _plan_wait(draft: Draft, run_id: str, plan: WaitPlan, questions: WaitCompiler) -> Outcome | None:
    try:
        predicate = questions.predicate(plan.match, plan.condition)
    except ExpressionBudgetExceeded as error:
        return Failure(ErrorInfo("ExpressionLimitError", str(error), "", error.code))
    except (ExpressionError, EvaluationError) as error:
        return Failure(ErrorInfo("ExpressionError", str(error), "", "invalid-expression"))
    if plan.timeout_ms <= 0:
        return TimedOut()
    due = draft.now + plan.timeout_ms
    path, value = place(predicate) if predicate else ("", "")
    event = plan.event if predicate else ""
    detail = f"{plan.event} {plan.match or plan.condition}".strip()
    looking = plan.lookback_ms > 0
    opened = OpenStep(plan.id, "wait", due, group=plan.group, event=event, path=path, value=value, looking=looking)
    if _open(draft, run_id, plan, opened, detail) and predicate:
        lookback_from = max(draft.now - plan.lookback_ms, 1) if plan.lookback_ms else 0
        wait = WaitOpened(run_id, plan.step, plan.event, predicate, due, lookback_from, questions.trigger.id)
        draft.route(plan.event, wait)
    return None


def _events_to_send(draft: Draft, run_id: str, plan: SendPlan) -> list[EventRecord]:
    return [
        replace(event, id=event.id or sent_event_id(run_id, plan.step, index), ts=event.ts or draft.now)
        for index, event in enumerate(plan.events)
    ]


def _invoke(draft: Draft, run_id: str, plan: InvokePlan) -> Outcome | None:
    function = draft.get(FunctionRegistered, function_key(plan.function))
    if function is None or function.retired:
        message = f"no function {plan.function!r} is registered"
        return Failure(ErrorInfo("FunctionNotFoundError", message, "", "function-not-found"))
    cause = f"{run_id}:{plan.step}"
    due = draft.now + plan.timeout_ms
    caller = draft.run(run_id)
    opened = OpenStep(plan.id, "invoke", due, group=plan.group)
    if caller is None or not _open(draft, run_id, plan, opened, plan.function):
        return None
    hash_part = run_hash(function.id, cause)
    request = RunRequested(
        run_id_at(draft.now, hash_part),
        function.id,
        function.app,
        (EventRecord(INVOKED, plan.data, cause, draft.now),),
        on_failure=function.on_failure,
        caller=Caller(run_id, plan.step),
        quiet=caller.quiet,
    )
    draft.route(hash_part, request)
    return None
