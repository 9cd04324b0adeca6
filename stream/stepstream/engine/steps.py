"""Steps: what workers report and plan becomes one kept result each, within the limits of a run."""

from collections import Counter
from typing import assert_never

from msgspec.structs import replace

from stepstream.contract.codec import NULL, Raw, dump_json, encode
from stepstream.contract.commands import Memo, Open, RunResumed
from stepstream.contract.events import INVOKED, EventRecord
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.history import StepAttemptFailed, StepCancelled, StepEnded
from stepstream.contract.history import StepPlanned as StepPlannedEntry
from stepstream.contract.ids import run_hash, run_id_at, sent_event_id
from stepstream.contract.inbox import (
    Caller,
    EventMatched,
    InvokePlan,
    RunRequested,
    SendPlan,
    SignalPlan,
    SignalWaitOpened,
    SleepPlan,
    StepFailed,
    StepPlan,
    StepReported,
    StepsPlanned,
    WaitOpened,
    WaitPlan,
)
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value
from stepstream.engine.draft import Draft
from stepstream.engine.rows import (
    Group,
    OpenStep,
    Run,
    RunEvents,
    function_key,
    group_key,
    memo_key,
    open_key,
    run_events_key,
)
from stepstream.engine.runs import FAILED_STATUS, current, end_run
from stepstream.engine.waits import close_step, place, predicate_of
from stepstream.expressions.predicates import EvaluationError, ExpressionError


def report_step(draft: Draft, report: StepReported) -> None:
    """Keep the result of a step that a worker ran; a repeat of it changes nothing."""
    run = current(draft, report.run_id, report.epoch)
    if run is None or draft.get(Memo, memo_key(report.run_id, report.step)):
        return
    run = replace(run, own=run.own + 1)
    memo = Memo(report.step, report.id, "run", report.outcome, report.seen, run.own)
    _keep(draft, run, memo, report.attempt, report.started_at)


def _keep(draft: Draft, run: Run, memo: Memo, attempt: int = 0, started_at: int = 0) -> bool:
    """Keep a result and close the step. Return False when a limit of the run ended it instead."""
    opened = draft.get(OpenStep, open_key(run.run_id, memo.step))
    if opened is not None:
        close_step(draft, run.run_id, memo.step, opened)
        _leave_group(draft, run.run_id, opened.group)
    run = replace(
        run,
        attempt=0,
        steps=run.steps + (opened is None),
        memo_bytes=run.memo_bytes + _size(memo.outcome),
        history_seq=run.history_seq + 1,
    )
    if _breaks_limit(draft, run):
        return False
    draft.put_run(run)
    draft.keep_memo(run.run_id, memo, opened)
    entry = StepEnded(
        run.run_id, run.history_seq, draft.now, memo.step, memo.id, memo.kind, memo.outcome, attempt, started_at
    )
    draft.tell(entry)
    draft.count("steps_ended", run.function, memo.kind, str(memo.outcome.__struct_config__.tag))
    if started_at:
        draft.time("step", run.function, started_at)
    return True


def _size(outcome: Outcome) -> int:
    match outcome:
        case Value(data):
            return len(bytes(data))
        case Failure(error):
            return len(error.message) + len(error.stack)
        case TimedOut():
            return 0
        case _:
            assert_never(outcome)


def _breaks_limit(draft: Draft, run: Run) -> bool:
    limits = draft.limits
    if run.steps > limits.steps_per_run_max:
        error = ErrorInfo(
            "StepLimitError", f"the run has more than {limits.steps_per_run_max:,} steps", "", "step-limit"
        )
    elif run.memo_bytes > limits.run_memo_bytes_max:
        message = f"the results of the run's steps exceed {limits.run_memo_bytes_max:,} bytes"
        error = ErrorInfo("RunStateLimitError", message, "", "run-state-limit")
    else:
        return False
    end_run(draft, replace(run, history_seq=run.history_seq - 1), FAILED_STATUS, Failure(error))
    return True


def _leave_group(draft: Draft, run_id: str, group: str) -> int:
    """Take one step out of its fan-out; return how many are left in it."""
    if not group:
        return 0
    key = group_key(run_id, group)
    row = draft.get(Group, key)
    left = row.open_count - 1 if row else 0
    if left > 0:
        draft.put(key, Group(left))
    elif row:
        draft.delete(key)
    return left


def _join_groups(draft: Draft, run_id: str, joined: Counter[str]) -> None:
    for group, count in joined.items():
        key = group_key(run_id, group)
        row = draft.get(Group, key)
        draft.put(key, Group(count + (row.open_count if row else 0)))


def fail_step(draft: Draft, report: StepFailed) -> None:
    """Note a failed attempt and have the next one at its time."""
    run = current(draft, report.run_id, report.epoch)
    if run is None or draft.get(Memo, memo_key(report.run_id, report.step)):
        return
    opened = draft.get(OpenStep, open_key(report.run_id, report.step))
    if opened and opened.attempt > report.attempt:
        return
    due = max(draft.now + report.retry_ms, 1)
    run = replace(run, steps=run.steps + (opened is None), attempt=0, history_seq=run.history_seq + 1)
    if _breaks_limit(draft, run):
        return
    if opened is None:
        _join_groups(draft, run.run_id, Counter([report.group] if report.group else []))
    else:
        close_step(draft, run.run_id, report.step, opened)
    group = opened.group if opened else report.group
    draft.put_run(run)
    draft.put_step(run.run_id, report.step, opened, OpenStep(report.id, "run", due, report.attempt + 1, group))
    draft.arm(due, "step", run.run_id, report.step)
    entry = StepAttemptFailed(
        run.run_id, run.history_seq, draft.now, report.step, report.id, report.attempt, report.error, due
    )
    draft.tell(entry)
    draft.count("step_retries", run.function)


def resolve_step(draft: Draft, run_id: str, step: str, outcome: Outcome) -> bool:
    """Keep the result that the engine found for an open step, and tell the worker; too late is no harm.

    Return whether it was kept.
    """
    run = draft.run(run_id)
    opened = draft.get(OpenStep, open_key(run_id, step))
    # The code may have changed, so that what was a wait is now a body: then only a worker has its result.
    if run is None or opened is None or opened.kind == "run":
        return False
    late = opened.kind in ("wait", "signal") and 0 < opened.due <= draft.now
    if late and isinstance(outcome, Value):
        return False  # The timer of this very step is due in this batch and answers it.
    memo = _resolved(draft, run, step, opened, outcome)
    if memo is not None:
        left = _group_left(draft, run_id, opened.group)
        wake = not left or isinstance(outcome, Failure)
        draft.command(run.app, RunResumed(run_id, run.epoch, (memo,), wake=wake))
    return memo is not None


def wake_run(draft: Draft, matched: EventMatched) -> None:
    """Wake a run by the event that its step waited for."""
    kept = resolve_step(draft, matched.run_id, matched.step, Value(Raw(encode(matched.event))))
    if kept and matched.arrived_at:
        draft.time("match", "", matched.arrived_at)


def _group_left(draft: Draft, run_id: str, group: str) -> int:
    row = draft.get(Group, group_key(run_id, group)) if group else None
    return row.open_count if row else 0


def _resolved(draft: Draft, run: Run, step: str, opened: OpenStep, outcome: Outcome) -> Memo | None:
    run = replace(run, seen=run.seen + 1)
    memo = Memo(step, opened.id, opened.kind, outcome, run.seen)
    return memo if _keep(draft, run, memo) else None


def fire_step(draft: Draft, run_id: str, step: str) -> None:
    """The timer of a step fires: an attempt is due, a sleep is over, or the time to wait ran out."""
    run = draft.run(run_id)
    opened = draft.get(OpenStep, open_key(run_id, step))
    if run is None or opened is None:
        return
    match opened.kind:
        case "run":
            draft.put_step(run_id, step, opened, replace(opened, due=0))
            draft.command(run.app, RunResumed(run_id, run.epoch, retries=(Open(step, opened.attempt, ready=True),)))
        case "sleep":
            resolve_step(draft, run_id, step, Value(NULL))
        case "invoke":
            error = ErrorInfo("InvokeTimeoutError", "the invoked function did not end in time", "", "invoke-timeout")
            resolve_step(draft, run_id, step, Failure(error))
        case _:
            resolve_step(draft, run_id, step, TimedOut())


def plan_steps(draft: Draft, planned: StepsPlanned) -> None:
    """Register what the code asked for: the waits before all else, so that none can miss its own answer."""
    run = current(draft, planned.run_id, planned.epoch)
    events = draft.get(RunEvents, run_events_key(planned.run_id))
    if run is None or events is None:
        return
    for step in planned.cancelled:
        _cancel_step(draft, run.run_id, step)
    memos: list[Memo] = []
    joined: Counter[str] = Counter()
    for plan in sorted(planned.plans, key=lambda plan: not isinstance(plan, WaitPlan | SignalPlan)):
        if draft.get(Memo, memo_key(run.run_id, plan.step)) or draft.get(OpenStep, open_key(run.run_id, plan.step)):
            continue
        found = _plan(draft, run.run_id, plan, events.events[0])
        still = draft.run(run.run_id)
        if still is None:
            return
        if found is None:
            joined.update([plan.group] if plan.group else [])
        elif memo := _resolved(draft, still, plan.step, OpenStep(plan.id, _kind(plan)), found):
            memos.append(memo)
            for event in _events_to_send(draft, run.run_id, plan) if isinstance(plan, SendPlan) else ():
                draft.emit(event)
        else:
            return
    _join_groups(draft, run.run_id, joined)
    if memos or planned.acknowledge:
        draft.command(run.app, RunResumed(run.run_id, run.epoch, tuple(memos), acknowledged=planned.acknowledge))


def _kind(plan: StepPlan) -> str:
    return str(plan.__struct_config__.tag)


def _cancel_step(draft: Draft, run_id: str, step: str) -> None:
    opened = draft.get(OpenStep, open_key(run_id, step))
    run = draft.run(run_id)
    if opened is None or run is None:
        return
    close_step(draft, run_id, step, opened)
    draft.drop_step(run_id, step, opened)
    _leave_group(draft, run_id, opened.group)
    run = replace(run, history_seq=run.history_seq + 1)
    draft.put_run(run)
    draft.tell(StepCancelled(run_id, run.history_seq, draft.now, step, opened.id))


def _plan(draft: Draft, run_id: str, plan: StepPlan, trigger: EventRecord) -> Outcome | None:
    """Begin one planned step; return its result when it has one at once."""
    match plan:
        case SleepPlan():
            if plan.until <= draft.now:
                return Value(NULL)
            _open(draft, run_id, plan, OpenStep(plan.id, "sleep", plan.until, group=plan.group))
        case WaitPlan():
            return _plan_wait(draft, run_id, plan, trigger)
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
    if _breaks_limit(draft, run):
        return False
    draft.put_run(run)
    draft.put_step(run_id, plan.step, None, opened)
    draft.arm(opened.due, "step", run_id, plan.step)
    draft.tell(
        StepPlannedEntry(
            run_id, run.history_seq, draft.now, plan.step, plan.id, opened.kind, detail or opened.event, opened.due
        )
    )
    return True


def _plan_wait(draft: Draft, run_id: str, plan: WaitPlan, trigger: EventRecord) -> Outcome | None:
    try:
        predicate = predicate_of(plan.match, plan.condition, trigger)
    except (ExpressionError, EvaluationError) as error:
        return Failure(ErrorInfo("ExpressionError", str(error), "", "invalid-expression"))
    if plan.timeout_ms <= 0:
        return TimedOut()
    due = draft.now + plan.timeout_ms
    path, value = place(predicate) if predicate else ("", "")
    event = plan.event if predicate else ""
    detail = f"{plan.event} {plan.match or plan.condition}".strip()
    opened = OpenStep(plan.id, "wait", due, group=plan.group, event=event, path=path, value=value)
    if _open(draft, run_id, plan, opened, detail) and predicate:
        lookback_from = max(draft.now - plan.lookback_ms, 1) if plan.lookback_ms else 0
        wait = WaitOpened(run_id, plan.step, plan.event, predicate, due, lookback_from, trigger.id)
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
