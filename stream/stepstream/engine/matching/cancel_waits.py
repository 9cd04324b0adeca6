"""The waits for events that cancel a run: they belong to the run, are opened with it and closed by its end."""

from collections.abc import Sequence

from msgspec.structs import replace

from stepstream.contract.events import EventRecord
from stepstream.contract.functions import CancelTrigger
from stepstream.contract.ids import cancel_waiter
from stepstream.contract.limits import PATH_RENEWED_MS, TIMESTAMP_MS_MAX
from stepstream.contract.matching import Predicate, WaitClosed, WaitOpened, WaitRenewed
from stepstream.engine.matching.wait_compiler import ExpressionBudgetExceeded, WaitCompiler
from stepstream.engine.matching.waits import bucket_of
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import CancelWait, RunEvents, Timer, TimerKind
from stepstream.engine.state.tables import run_events_key
from stepstream.expressions.predicates import EvaluationError, ExpressionError


def open_cancel_waits(
    draft: Draft, run_id: str, trigger: EventRecord, rules: Sequence[CancelTrigger]
) -> tuple[CancelWait, ...]:
    """Register the events that cancel a run with the matcher, and return the waits that its rows must have."""
    waits = register_cancel_waits(draft, run_id, trigger, rules)
    _arm(draft, run_id, waits)
    return tuple(waits)


def register_cancel_waits(
    draft: Draft, run_id: str, trigger: EventRecord, rules: Sequence[CancelTrigger]
) -> list[CancelWait]:
    """Register the events that cancel a run, which may not have begun; it registers them again when it begins."""
    if not rules:
        return []
    compiler = WaitCompiler(trigger)
    waits: list[CancelWait] = []
    for number, rule in enumerate(rules):
        predicate = _predicate(draft, compiler, rule)
        if predicate is None:
            continue
        waiter, bucket = cancel_waiter(run_id, number), bucket_of(rule.event, predicate)
        expires_at = draft.now + rule.timeout_ms if rule.timeout_ms else TIMESTAMP_MS_MAX
        # The trigger itself reaches the matcher in the same transaction, and possibly after this wait.
        trigger_id = trigger.id if trigger.name == rule.event else ""
        draft.route(rule.event, WaitOpened(waiter, bucket, predicate, expires_at, trigger_id=trigger_id))
        due = expires_at if rule.timeout_ms else draft.now + PATH_RENEWED_MS
        waits.append(CancelWait(waiter, bucket, due, renewed=not rule.timeout_ms))
    return waits


def _predicate(draft: Draft, compiler: WaitCompiler, rule: CancelTrigger) -> Predicate | None:
    """Return the predicate of a rule, None if no event can satisfy it with this trigger event."""
    try:
        return compiler.predicate(rule.match, rule.condition)
    except (ExpressionBudgetExceeded, ExpressionError, EvaluationError):
        draft.count("cancel_on_errors")
        return None


def close_cancel_waits(draft: Draft, run_id: str, waits: Sequence[CancelWait]) -> None:
    """Remove the waits of a run from the matcher: the run has ended."""
    for wait in waits:
        draft.route(wait.bucket.event, WaitClosed(wait.waiter, wait.bucket))
    _disarm(draft, run_id, waits)


def fire_cancel_waits(draft: Draft, run_id: str) -> None:
    """Close the waits of a run that have expired, and renew those that last until its end."""
    key = run_events_key(run_id)
    row = draft.get(key)
    if row is None:
        return
    left: list[CancelWait] = []
    for wait in row.cancel_waits:
        if wait.due > draft.now:
            left.append(wait)
        elif wait.renewed:
            draft.route(wait.bucket.event, WaitRenewed(wait.bucket))
            left.append(replace(wait, due=draft.now + PATH_RENEWED_MS))
        else:
            draft.route(wait.bucket.event, WaitClosed(wait.waiter, wait.bucket))
    draft.put(key, RunEvents(row.events, tuple(left)))
    _arm(draft, run_id, left)


def _arm(draft: Draft, run_id: str, waits: Sequence[CancelWait]) -> None:
    if waits:
        draft.arm(min(wait.due for wait in waits), Timer(TimerKind.CANCEL_WAITS, run_id))


def _disarm(draft: Draft, run_id: str, waits: Sequence[CancelWait]) -> None:
    if waits:
        draft.disarm(min(wait.due for wait in waits), Timer(TimerKind.CANCEL_WAITS, run_id))
